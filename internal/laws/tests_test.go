package laws

import (
	"go/ast"
	"slices"
	"testing"
)

// skips are the tests that may be skipped, with the reason: "path/file_test.go Function".
var skips = map[string]string{
	"cluster/cluster_test.go TestNodesMoveToOtherAddresses": "the race detector finds a read within hashicorp/raft without its lock, of a value that does not change; without it the test runs",
	"client/inbox/postgres_test.go postgres":                "PostgreSQL is not installed everywhere; where CI=true the test fails without it",
	"internal/xes/xes_test.go TestRealLogs":                 "the logs of real companies are not in the repository",
}

// sleeps are the functions that may call time.Sleep, with the reason. Tests and what serves them are never here.
var sleeps = map[string]string{}

// calls lists the functions of a file that contain a call of one of the methods or package functions named.
func (s *source) calls(found func(*ast.FuncDecl, *ast.SelectorExpr)) {
	for _, decl := range s.file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
					found(fn, selector)
				}
			}
			return true
		})
	}
}

func checkTests(t *tree, skips, sleeps map[string]string) (breaches []breach) {
	for _, s := range t.goes {
		s.calls(func(fn *ast.FuncDecl, call *ast.SelectorExpr) {
			listed := s.path + " " + name(fn)
			pkg, _ := call.X.(*ast.Ident)
			switch {
			case pkg != nil && pkg.Name == "time" && call.Sel.Name == "Sleep" && (s.test || sleeps[listed] == ""):
				breaches = append(breaches, s.breach(call.Pos(), "sleeps: wait for a signal, a context or a timer that can be stopped"))
			case s.test && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, call.Sel.Name) && skips[listed] == "":
				breaches = append(breaches, s.breach(call.Pos(), "%s can be skipped: give the reason in the list of this law, or let it run", name(fn)))
			}
		})
	}
	return sorted(breaches)
}

func TestTestsWaitAndRun(t *testing.T) {
	t.Parallel()
	hold(t, checkTests(repository(t), skips, sleeps))
}

func TestTestLawCanFail(t *testing.T) {
	t.Parallel()
	expect(t, checkTests(fixture(t,
		"a/a_test.go", "package a\n\nimport (\n\t\"testing\"\n\t\"time\"\n)\n\nfunc TestA(t *testing.T) {\n\ttime.Sleep(1)\n\tt.Skip()\n}\n",
		"a/b_test.go", "package a\n\nimport \"testing\"\n\nfunc TestB(t *testing.T) {\n\tt.Skipf(\"\")\n}\n\nfunc TestC(t *testing.T) {\n\tt.SkipNow()\n}\n",
		"a/a.go", "package a\n\nimport \"time\"\n\nfunc a() { time.Sleep(1) }\n\nfunc b() { time.Sleep(1) }\n",
	), map[string]string{"a/b_test.go TestC": "a reason"}, map[string]string{"a/a.go b": "a reason", "a/a_test.go TestA": "no reason is good enough"}),
		"a/a_test.go:9", "a/a_test.go:10", "a/b_test.go:6", "a/a.go:5")
}
