package laws

import (
	"strings"
	"testing"
)

// drivers are SQL drivers. They are for tests and examples: no user of the binary or the SDK gets one unasked.
var drivers = []string{"modernc.org/...", "github.com/jackc/..."}

func checkDrivers(t *tree) (breaches []breach) {
	for _, s := range t.goes {
		if s.test || strings.HasPrefix(s.pkg, "examples/") {
			continue
		}
		for imported, spec := range s.imports() {
			if anyFits(imported, drivers) {
				breaches = append(breaches, s.breach(spec.Pos(), "%s ships with %s: SQL drivers are for tests and examples", imported, s.pkg))
			}
		}
	}
	return sorted(breaches)
}

func TestNoSQLDriverShips(t *testing.T) {
	t.Parallel()
	hold(t, checkDrivers(repository(t)))
}

func TestDriverLawCanFail(t *testing.T) {
	t.Parallel()
	expect(t, checkDrivers(fixture(t,
		"client/inbox/a.go", "package inbox\n\nimport \"modernc.org/sqlite\"\n",
		"cmd/sluice/a.go", "package main\n\nimport \"github.com/jackc/pgx/v5/stdlib\"\n",
		"client/inbox/a_test.go", "package inbox\n\nimport \"modernc.org/sqlite\"\n",
		"examples/sqlinbox/a.go", "package main\n\nimport \"modernc.org/sqlite\"\n",
	)),
		"client/inbox/a.go:3", "cmd/sluice/a.go:3")
}
