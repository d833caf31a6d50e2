package laws

import (
	"strings"
	"testing"
)

// importLaw says what may import what. Packages are named by their path in this module, everything else by its
// import path; "..." at the end means the package and all beneath it.
//
//	floor N: …       A package may import packages of lower floors, and of its own room: the rooms of a floor, set
//	                 apart by commas, do not know each other. A package belongs to the longest pattern that fits.
//	A may import B   though it stands on the same floor.
//	A never imports B
//	only A imports B
//
// Floors bind the code that ships; the other lines bind the tests, too.
const importLaw = `
	floor 1: api/..., internal/..., queue/...
	floor 2: fsm/..., transport/..., client
	floor 3: cluster/..., client/inbox
	floor 4: server/..., web/...
	floor 5: cmd/sluice/..., client/sluicetest, jepsen/..., bench/..., examples/...

	# Stored records are what the inbox keeps.
	queue/... may import api/...

	# The console is served with the services.
	server/... may import web/...

	# The reference model that doubts the state machine shares no code with it.
	jepsen/... never imports fsm/...

	# What decides and what keeps it knows no network and no process.
	fsm/... never imports connectrpc.com/..., github.com/prometheus/...
	queue/... never imports connectrpc.com/..., github.com/prometheus/...
	transport/... never imports connectrpc.com/...

	# Raft and its neighbours are known in one room. The yardstick of the benchmark is the library alone.
	only cluster/..., bench/bare imports github.com/hashicorp/raft/...
	only cluster/... imports github.com/hashicorp/raft-boltdb/..., github.com/hashicorp/raft-wal/..., github.com/hashicorp/raft-autopilot/..., go.etcd.io/bbolt/...
	only cluster/... imports github.com/hashicorp/memberlist/..., github.com/hashicorp/go-metrics/..., github.com/armon/go-metrics/...
	only cluster/..., internal/obs, bench/bare imports github.com/hashicorp/go-hclog/...
	# The file system beneath a node is its store's.
	only queue/..., internal/disk imports github.com/cockroachdb/pebble/...
	# The systems that Sluice is compared with, and what draws the comparison, are the benchmark's.
	only bench/... imports github.com/nats-io/..., go.etcd.io/etcd/..., github.com/rabbitmq/..., github.com/restatedev/..., gonum.org/...
	only cmd/..., examples/... imports github.com/spf13/cobra/..., github.com/knadh/koanf/...
`

// rules is the law, parsed.
type rules struct {
	floors []floor
	grants []rule // may import
	never  []rule
	only   []rule
}

type floor struct {
	height int
	room   string // pattern
}

type rule struct{ from, to []string }

func parseLaw(text string) (law rules) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "floor "):
			height, rooms, _ := strings.Cut(strings.TrimPrefix(line, "floor "), ":")
			for _, room := range patterns(rooms) {
				law.floors = append(law.floors, floor{height: int(height[0] - '0'), room: room})
			}
		case strings.HasPrefix(line, "only "):
			from, to, _ := strings.Cut(strings.TrimPrefix(line, "only "), " imports ")
			law.only = append(law.only, rule{patterns(from), patterns(to)})
		case strings.Contains(line, " never imports "):
			from, to, _ := strings.Cut(line, " never imports ")
			law.never = append(law.never, rule{patterns(from), patterns(to)})
		case strings.Contains(line, " may import "):
			from, to, _ := strings.Cut(line, " may import ")
			law.grants = append(law.grants, rule{patterns(from), patterns(to)})
		default:
			panic("the import law has a line that says nothing: " + line)
		}
	}
	return law
}

func patterns(list string) (all []string) {
	for one := range strings.SplitSeq(list, ",") {
		all = append(all, strings.TrimSpace(one))
	}
	return all
}

// fits says whether a package is named by a pattern.
func fits(pkg, pattern string) bool {
	root, deep := strings.CutSuffix(pattern, "/...")
	return pkg == root || deep && strings.HasPrefix(pkg, root+"/")
}

func anyFits(pkg string, patterns []string) bool {
	for _, pattern := range patterns {
		if fits(pkg, pattern) {
			return true
		}
	}
	return false
}

// place finds the floor and the room of a package of this module.
func (law rules) place(pkg string) (found floor, ok bool) {
	for _, f := range law.floors {
		if fits(pkg, f.room) && (!ok || len(f.room) > len(found.room)) {
			found, ok = f, true
		}
	}
	return found, ok
}

// judge says why a package may not import another; nothing if it may.
func (law rules) judge(from, to string, own, test bool) string {
	if own && !test {
		if why := law.judgeFloors(from, to); why != "" {
			return why
		}
	}
	for _, r := range law.never {
		if anyFits(from, r.from) && anyFits(to, r.to) {
			return from + " never imports " + to
		}
	}
	for _, r := range law.only {
		if anyFits(to, r.to) && !anyFits(from, r.from) {
			return "only " + strings.Join(r.from, ", ") + " may import " + to
		}
	}
	return ""
}

func (law rules) judgeFloors(from, to string) string {
	here, ok := law.place(from)
	if !ok {
		return from + " stands on no floor: give it one in the import law"
	}
	there, ok := law.place(to)
	switch {
	case !ok:
		return to + " stands on no floor: give it one in the import law"
	case there.height < here.height || there.room == here.room:
		return ""
	case there.height > here.height:
		return from + " must not import " + to + ": imports run downward"
	}
	for _, grant := range law.grants {
		if anyFits(from, grant.from) && anyFits(to, grant.to) {
			return ""
		}
	}
	return from + " must not import " + to + ": rooms of one floor do not know each other"
}

func checkImports(t *tree, text string) (breaches []breach) {
	law := parseLaw(text)
	for _, s := range t.goes {
		if _, ok := law.place(s.pkg); !ok {
			breaches = append(breaches, s.breach(s.file.Pos(), "%s stands on no floor: give it one in the import law", s.pkg))
			continue
		}
		for imported, spec := range s.imports() {
			to, own := strings.CutPrefix(imported, module+"/")
			if why := law.judge(s.pkg, to, own, s.test); why != "" {
				breaches = append(breaches, s.breach(spec.Pos(), "%s", why))
			}
		}
	}
	return sorted(breaches)
}

func TestImportsRunDownward(t *testing.T) {
	t.Parallel()
	hold(t, checkImports(repository(t), importLaw))
}

func TestImportLawCanFail(t *testing.T) {
	t.Parallel()
	expect(t, checkImports(fixture(t,
		"queue/a.go", "package queue\n\nimport \"sluice/fsm\"\n", // upward
		"fsm/a.go", "package fsm\n\nimport \"sluice/transport\"\n", // a neighbour
		"client/a.go", "package client\n\nimport \"sluice/server\"\n", // upward
		"server/a.go", "package server\n\nimport \"github.com/hashicorp/raft\"\n", // only cluster
		"server/a_test.go", "package server\n\nimport \"github.com/hashicorp/raft\"\n", // tests, too
		"client/b.go", "package client\n\nimport \"github.com/nats-io/nats.go/jetstream\"\n", // only the benchmark
		"bench/peer/a.go", "package peer\n\nimport (\n\t\"github.com/nats-io/nats.go/jetstream\"\n\t\"sluice/client\"\n)\n",
		"jepsen/model/a.go", "package model\n\nimport \"sluice/fsm\"\n", // never
		"helpers/a.go", "package helpers\n", // no floor
		"cluster/gossip/a.go", "package gossip\n\nimport \"github.com/hashicorp/memberlist\"\n", // allowed
		"cluster/a.go", "package cluster\n\nimport (\n\t\"sluice/cluster/gossip\"\n\t\"sluice/fsm\"\n)\n",
		"client/sluicetest/a.go", "package sluicetest\n\nimport \"sluice/server\"\n",
		"client/a_test.go", "package client_test\n\nimport \"sluice/client/sluicetest\"\n",
		"queue/b.go", "package queue\n\nimport \"sluice/api/log/v1\"\n",
	), importLaw),
		"queue/a.go:3", "fsm/a.go:3", "client/a.go:3", "server/a.go:3", "server/a_test.go:3", "client/b.go:3", "jepsen/model/a.go:3", "helpers/a.go:1")
}
