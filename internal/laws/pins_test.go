package laws

import (
	"slices"
	"strings"
	"testing"
)

// pins is the raft set that compiles together: docs/adr/0007-version-pins-of-the-raft-set.md says why each stands
// where it does. Whoever moves one moves the record, too.
const pins = `
	github.com/hashicorp/raft v1.7.3
	github.com/hashicorp/raft-boltdb/v2 v2.3.1
	github.com/hashicorp/memberlist v0.6.0
	github.com/hashicorp/go-metrics v0.6.0
	go.etcd.io/bbolt v1.5.0
`

// ofBenchmark are modules that only the benchmark, a module of its own, may require: the systems that Sluice is compared
// with, and what draws the comparison.
var ofBenchmark = []string{"github.com/nats-io/", "go.etcd.io/etcd/", "github.com/rabbitmq/", "github.com/restatedev/", "gonum.org/"}

// replaced is the one replacement there may be: the benchmark measures the sources beside it.
const replaced = "sluice => ../"

// requirements reads the versions that a go.mod requires, and its replacements.
func requirements(text string) (required map[string]string, replacements []string) {
	required = make(map[string]string)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if replacement, ok := strings.CutPrefix(line, "replace "); ok {
			replacements = append(replacements, replacement)
			continue
		}
		if fields := strings.Fields(strings.TrimPrefix(line, "require ")); len(fields) >= 2 {
			required[fields[0]] = fields[1]
		}
	}
	return required, replacements
}

// checkPins holds the pins against the go.mod of the product, and against that of the benchmark, which links the
// product, if there is one.
func checkPins(t *tree, pins string) (breaches []breach) {
	for _, file := range []string{"go.mod", "bench/go.mod"} {
		text, ok := t.texts[file]
		if !ok {
			continue
		}
		required, replacements := requirements(text)
		for _, replacement := range replacements {
			if file == "go.mod" || replacement != replaced {
				breaches = append(breaches, breach{file + " replace", "who imports this module does not see a replace"})
			}
		}
		for line := range strings.Lines(pins) {
			if fields := strings.Fields(line); len(fields) == 2 && required[fields[0]] != fields[1] {
				breaches = append(breaches, breach{file + " " + fields[0], "is " + required[fields[0]] + ", pinned at " + fields[1]})
			}
		}
		for required := range required {
			if file == "go.mod" && slices.ContainsFunc(ofBenchmark, func(prefix string) bool { return strings.HasPrefix(required, prefix) }) {
				breaches = append(breaches, breach{file + " " + required, "is of the benchmark alone"})
			}
		}
	}
	return sorted(breaches)
}

func TestRaftSetIsPinned(t *testing.T) {
	t.Parallel()
	hold(t, checkPins(repository(t), pins))
}

func TestPinLawCanFail(t *testing.T) {
	t.Parallel()
	expect(t, checkPins(fixture(t,
		"go.mod", "module sluice\n\nrequire a/a v1.0.0\n\nrequire (\n\tb/b v1.1.0 // indirect\n\tgithub.com/nats-io/nats.go v1.0.0\n)\n\nreplace a/a => ../a\n",
		"bench/go.mod", "module sluice/bench\n\nrequire (\n\ta/a v1.1.0\n\tb/b v1.0.0\n\tgithub.com/nats-io/nats.go v1.0.0\n)\n\nreplace sluice => ../\n\nreplace b/b => ../b\n",
	), "a/a v1.0.0\nb/b v1.0.0\n"),
		"go.mod b/b", "go.mod github.com/nats-io/nats.go", "go.mod replace", "bench/go.mod a/a", "bench/go.mod replace")
}
