# Sluice is built with Go, git and make; everything else is pinned in go.mod and internal/tools and fetched by Go.
# A target's comment after ## is its help.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The tag makes go-metrics one registry for all of hashicorp's libraries (docs/adr/0007-version-pins-of-the-raft-set.md).
TAGS    := hashicorpmetrics
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# What a user's environment says of modules must not change what is built: go.mod decides.
export GOFLAGS     := -tags=$(TAGS) -trimpath -mod=readonly
export GOWORK      := off
# A static binary that needs no C compiler; race overrides it, because the race detector needs one.
export CGO_ENABLED ?= 0

TOOLS    := $(CURDIR)/bin/tools
ACCEPT   ?= ../shared/accept
SUITE    ?= core
CASES    ?= .
PKG      ?= ./...
BENCH    ?=
SCALE    ?=
PEERS    ?= nats,nats-default,etcd
REF      ?= main
COUNT    ?= 6
JEPSEN   ?=
SCENARIO ?= everything
HOURS    ?= 1
FROM     ?= 1
SEEDS    ?= 100
WITHIN   ?= 0
TWICE    ?= 0
FUZZTIME ?= 20s
FUZZ     ?= fsm:FuzzEntry fsm:FuzzCommands cluster/snapshot:FuzzExtract cluster:FuzzHello transport:FuzzHello transport:FuzzCall \
            server:FuzzJSONCodec cmd/sluice:FuzzSettings cmd/sluice:FuzzDeclarations internal/xes:FuzzRead
WORLD    ?= sim
MUTANTS  ?=
SAMPLE   ?= 0
ROTATE   ?= 0
PACKAGES := protoc-gen-go:google.golang.org/protobuf/cmd/protoc-gen-go \
            protoc-gen-connect-go:connectrpc.com/connect/cmd/protoc-gen-connect-go \
            protoc-gen-go-vtproto:github.com/planetscale/vtprotobuf/cmd/protoc-gen-go-vtproto \
            buf:github.com/bufbuild/buf/cmd/buf \
            staticcheck:honnef.co/go/tools/cmd/staticcheck \
            benchstat:golang.org/x/perf/cmd/benchstat \
            nats-server:github.com/nats-io/nats-server/v2 \
            etcd:go.etcd.io/etcd/server/v3

.PHONY: help
help: ## Explain every target (the default)
	@echo 'make TARGET, where TARGET is one of:'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'Variables: PKG=./fsm/... (test, race), ACCEPT=DIR SUITE=core|exact|all CASES=REGEX (accept), BENCH="-only send -repeat 1" (bench),'
	@echo '           PEERS=nats,etcd,rabbitmq,restate BENCH="-senders 64" (bench-peers), REF=main COUNT=6 (bench-compare),'
	@echo '           SCENARIO="owners lost" JEPSEN="-seed 7" (jepsen), HOURS=8 JEPSEN="-only calm,drains" (jepsen-long),'
	@echo '           FROM=417 SEEDS=1 WITHIN=6m TWICE=5 (sim), MUTANTS="log-.*|ids-.*" SAMPLE=3 ROTATE=7 WORLD=proc (mutants),'
	@echo '           FUZZ=fsm:FuzzEntry FUZZTIME=1h (fuzz).'

.PHONY: build
build: ## Build bin/sluice, one static binary
	go build -ldflags '-s -w -X main.version=$(VERSION)' -o bin/sluice ./cmd/sluice

.PHONY: test
test: ## Run every test, the laws among them (PKG= narrows it)
	go test -timeout 10m $(PKG)

.PHONY: race
race: ## Run every test under the race detector (needs a C compiler)
	@command -v "$$(go env CC)" >/dev/null || { echo 'make race: the race detector needs a C compiler, and there is no '"$$(go env CC)" >&2; exit 1; }
	CGO_ENABLED=1 go test -race -timeout 20m $(PKG)

.PHONY: bench-test
bench-test: ## Build the benchmark, a module of its own, and run its tests; no peer's server is fetched
	cd bench && go build -o "$(CURDIR)/bin/bench" . && go test -timeout 5m ./...

.PHONY: lint
lint: $(TOOLS)/staticcheck ## Check the form: gofmt, go vet, staticcheck
	@bad=$$(git ls-files -z '*.go' | xargs -0 gofmt -l); [ -z "$$bad" ] || { echo "not gofmt-ed:" >&2; echo "$$bad" >&2; exit 1; }
	@for d in . bench; do (cd $$d && go vet ./... && $(TOOLS)/staticcheck ./...) || exit; done

GENERATORS := $(addprefix $(TOOLS)/,buf protoc-gen-go protoc-gen-connect-go protoc-gen-go-vtproto)

.PHONY: generate
generate: $(GENERATORS) ## Generate the Go code of api/ from its protobuf files
	cd api && PATH="$(TOOLS):$$PATH" buf generate

.PHONY: verify
verify: $(GENERATORS) ## Fail if generated code is stale, a protobuf file is ill-formed or go.mod is untidy
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && export PATH="$(TOOLS):$$PATH" && cd api && \
	buf lint && buf generate -o "$$tmp" && \
	for f in $$(cd "$$tmp" && find . -name '*.go') $$(find . -name '*.pb.go' -o -name '*.connect.go'); do \
	  cmp -s "$$f" "$$tmp/$$f" || { echo "stale: api/$${f#./} (run make generate and commit)" >&2; stale=1; }; \
	done; [ -z "$$stale" ]
	go mod verify
	@for d in . bench internal/tools/*/; do (cd $$d && go mod tidy -diff >/dev/null) || { echo "untidy: $$d/go.mod or go.sum (run go mod tidy there and commit)" >&2; exit 1; }; done

.PHONY: accept
accept: ## Run the black-box acceptance suite in ACCEPT=DIR against the built binary
	@[ -f "$(ACCEPT)/main.go" ] || { echo 'make accept: there is no suite at $(ACCEPT); say where it is: make accept ACCEPT=DIR' >&2; exit 2; }
	@$(MAKE) --no-print-directory build
	cd "$(ACCEPT)" && go run . -bin "$(CURDIR)/bin/sluice" -suite $(SUITE) -run '$(CASES)'

# The benchmark is a module of its own, so that what it compares with stays out of the product's dependencies.
BENCHES = cd bench && go build -ldflags '-X main.version=$(VERSION)' -o "$(CURDIR)/bin/bench" .

.PHONY: bench
bench: build ## Measure three local nodes against bare raft, and print the tables (BENCH= passes flags)
	$(BENCHES)
	bin/bench -bin bin/sluice $(BENCH)

.PHONY: scale
scale: ## Model many raft groups on a hundred nodes, and print the tables (SCALE="-only balance -seed 2")
	cd bench && go run ./scale $(SCALE)

.PHONY: bench-peers
bench-peers: build $(TOOLS)/nats-server $(TOOLS)/etcd $(if $(findstring restate,$(PEERS)),restate) ## Measure Sluice beside NATS and etcd, by turns, against the goals (PEERS=… adds rabbitmq, restate; BENCH= passes flags)
	$(BENCHES)
	bin/bench peers -bin bin/sluice -tools $(TOOLS) -peers '$(PEERS)' $(BENCH)

# Restate comes from npm. Where it cannot be had, the benchmark says so and skips it.
RESTATE := 1.7.12
.PHONY: restate
restate:
	@[ -x $(TOOLS)/restate-server ] || { npm install --silent --no-audit --no-fund --ignore-scripts --prefix bin/restate @restatedev/restate-server@$(RESTATE) && \
	  cp bin/restate/node_modules/@restatedev/restate-server-linux-*/bin/restate-server $(TOOLS)/; } || echo 'make: restate-server cannot be installed from npm' >&2

.PHONY: bench-failover
bench-failover: build $(TOOLS)/etcd ## Kill the leader of Sluice and of etcd, by turns, under load, and find the longest time without a success
	$(BENCHES)
	bin/bench failover -bin bin/sluice -tools $(TOOLS) $(BENCH)

.PHONY: bench-compare
bench-compare: $(TOOLS)/benchstat ## Compare the micro-benchmarks of the hot path at REF=main with those of the working tree, by turns, COUNT=6 times
	bench/compare.sh '$(REF)' '$(COUNT)' $(TOOLS)/benchstat

# A build whose clock jepsen can put forward and back. Go knows whether there is anything to do.
.PHONY: bin/sluice-skewed
bin/sluice-skewed:
	go build -tags $(TAGS),skewed -ldflags '-s -w -X main.version=$(VERSION)' -o $@ ./cmd/sluice

.PHONY: jepsen
jepsen: bin/sluice-skewed ## Hurt five real nodes for five minutes in every way there is, and judge the history (SCENARIO= chooses another; root: all faults)
	go build -o bin/jepsen ./jepsen/cmd
	bin/jepsen run -bin bin/sluice-skewed -scenario '$(SCENARIO)' $(JEPSEN)

.PHONY: jepsen-long
jepsen-long: bin/sluice-skewed ## Run all scenarios by turns for HOURS=N hours, and sum them up (root: all faults)
	go build -o bin/jepsen ./jepsen/cmd
	bin/jepsen run -bin bin/sluice-skewed -hours $(HOURS) $(JEPSEN)

# An overlay that keeps the runtime's own chance out of the simulation, so that most seeds can be played again as they
# were. It knows one version of Go; with another there is none, and seeds are played without it.
STILL := bin/still/overlay.json
.PHONY: $(STILL)
$(STILL):
	@rm -f $@
	@go run ./jepsen/sim/still -dir $(@D) || echo 'make: with this version of Go no seed can be played again as it was' >&2

.PHONY: sim
sim: $(STILL) ## Play SEEDS=N seeds of the cluster in virtual time, from FROM=N (WITHIN=6m bounds the time, TWICE=5 repeats 5 %)
	GOEXPERIMENT=norandomizedheapbase64 go test -vet=off -c -overlay "$$(ls $(STILL) 2>/dev/null)" -o bin/sim.test ./jepsen/sim
	go run ./jepsen/sim/shard -bin bin/sim.test -left bin/sim -from $(FROM) -seeds $(SEEDS) -within $(WITHIN) -twice $(TWICE)

# Only our own packages are watched for new paths: to build everything else anew would take longer than the fuzzing.
# What fails is left in the package's testdata/fuzz, and is a test case from there on.
.PHONY: fuzz
fuzz: ## Fuzz each of FUZZ=PACKAGE:TARGET, two at a time, for FUZZTIME=20s: entries, restored files, wire, settings, event logs
	@mkdir -p bin/fuzz/corpus
	@for p in $(sort $(foreach t,$(FUZZ),$(word 1,$(subst :, ,$(t))))); do \
	  go test -vet=off -c -gcflags='sluice/...=-d=libfuzzer' -o "bin/fuzz/$$(echo $$p | tr / -).test" ./$$p || exit; done
	@printf '%s\n' $(FUZZ) | xargs -P 2 -I @ sh -c 'package=$${0%:*} target=$${0#*:}; name=$$(echo $$package | tr / -); \
	  out=$$(cd $$package && "$(CURDIR)/bin/fuzz/$$name.test" -test.run "^$$target$$" -test.fuzz "^$$target$$" -test.fuzztime $(FUZZTIME) \
	    -test.parallel 1 -test.fuzzcachedir "$(CURDIR)/bin/fuzz/corpus/$$name" 2>&1) && last=$$(echo "$$out" | grep execs: | tail -n 1) && [ "$$last" ] && echo "$$0: $$last" || { echo "$$0 failed:"; echo "$$out"; exit 255; }' @

# Mutants say what they are: see jepsen/mutant. Those of the world proc need root, as jepsen does.
.PHONY: mutants
mutants: $(STILL) ## Break Sluice on purpose and see that the checkers notice (MUTANTS='name|name', SAMPLE=3 ROTATE=N, WORLD=proc)
	go build -o bin/mutant ./jepsen/mutant/cmd
	bin/mutant -world $(WORLD) -mutants '$(MUTANTS)' -sample $(SAMPLE) -rotate $(ROTATE) -overlay "$$(ls $(STILL) 2>/dev/null)"

.PHONY: demo
demo: build ## Start an embedded node, kill a worker midway, and watch hold, recovery and drain
	go run ./examples/demo

EXAMPLES := saga sqlinbox poison outage request

.PHONY: examples
examples: ## Run the other examples, one after the other: a saga, an SQL inbox, poison, an outage, a request
	@for name in $(EXAMPLES); do echo; echo "go run ./examples/$$name"; go run ./examples/$$name || exit; done

.PHONY: check
check: lint verify test bench-test race ## Run everything that must pass before a change is proposed

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin dist

# Each tool has a module of its own, because their requirements clash; it is built again only when its pins change.
define tool
$(TOOLS)/$(word 1,$(subst :, ,$(1))): internal/tools/$(word 1,$(subst :, ,$(1)))/go.mod internal/tools/$(word 1,$(subst :, ,$(1)))/go.sum
	@mkdir -p $(TOOLS)
	cd internal/tools/$(word 1,$(subst :, ,$(1))) && go build -o $$@ $(word 2,$(subst :, ,$(1)))
endef
$(foreach t,$(PACKAGES),$(eval $(call tool,$(t))))
