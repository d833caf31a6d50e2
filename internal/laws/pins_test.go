package laws

import (
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

func checkPins(t *tree, pins string) (breaches []breach) {
	required := make(map[string]string)
	for line := range strings.Lines(t.texts["go.mod"]) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) >= 2 {
			required[fields[0]] = fields[1]
		}
		if len(fields) > 0 && fields[0] == "replace" {
			breaches = append(breaches, breach{"go.mod replace", "who imports this module does not see a replace"})
		}
	}
	for line := range strings.Lines(pins) {
		if fields := strings.Fields(line); len(fields) == 2 && required[fields[0]] != fields[1] {
			breaches = append(breaches, breach{"go.mod " + fields[0], "is " + required[fields[0]] + ", pinned at " + fields[1]})
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
		"go.mod", "module sluice\n\nrequire a/a v1.0.0\n\nrequire (\n\tb/b v1.1.0 // indirect\n)\n\nreplace a/a => ../a\n",
	), "a/a v1.0.0\nb/b v1.0.0\n"),
		"go.mod b/b", "go.mod replace")
}
