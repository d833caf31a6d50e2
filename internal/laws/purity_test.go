package laws

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// pure are the folders whose code computes and lets its caller do the rest.
var pure = []string{"fsm", "queue"}

// impure are the files of the stores, which live beneath the logic: they lock, read and write.
var impure = []string{"queue/pebble*.go", "queue/write_back*.go", "queue/memory_store*.go", "queue/storetest/*.go"}

// worldly are the packages that let the world in: two replicas that use them may differ.
var worldly = []string{
	"crypto/rand/...", "io/ioutil", "log/...", "math/rand/...", "net/...", "os/...", "runtime/...", "sync", "syscall/...",
	"github.com/hashicorp/go-hclog/...", "github.com/google/uuid/...",
}

// clockwork are the names of package time that read a clock or wait for one.
var clockwork = []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep"}

func isPure(s *source) bool {
	if s.test || s.generated || !slices.ContainsFunc(pure, func(dir string) bool { return fits(s.pkg, dir+"/...") }) {
		return false
	}
	return !slices.ContainsFunc(impure, func(glob string) bool { return matches(glob, s.path) })
}

// matches says whether a path is one of a pattern with at most one star.
func matches(glob, name string) bool {
	front, back, star := strings.Cut(glob, "*")
	if !star {
		return glob == name
	}
	return len(name) >= len(front)+len(back) && strings.HasPrefix(name, front) && strings.HasSuffix(name, back)
}

func checkPurity(t *tree) (breaches []breach) {
	for _, s := range t.goes {
		if !isPure(s) {
			continue
		}
		for imported, spec := range s.imports() {
			if anyFits(imported, worldly) {
				breaches = append(breaches, s.breach(spec.Pos(), "imports %s: the core lets nothing of the world in", imported))
			}
		}
		breaches = append(breaches, checkPureCode(s)...)
	}
	return sorted(breaches)
}

func checkPureCode(s *source) (breaches []breach) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			breaches = append(breaches, s.breach(n.Pos(), "starts a goroutine: the order of its work would differ between replicas"))
		case *ast.SelectStmt:
			breaches = append(breaches, s.breach(n.Pos(), "selects: which case is taken would differ between replicas"))
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(clockwork, n.Sel.Name) {
				breaches = append(breaches, s.breach(n.Pos(), "uses time.%s: time is in the entry, stamped by its proposer", n.Sel.Name))
			}
		}
		return true
	})
	return breaches
}

func TestCoreIsPure(t *testing.T) {
	t.Parallel()
	hold(t, checkPurity(repository(t)))
}

func TestPurityLawCanFail(t *testing.T) {
	t.Parallel()
	expect(t, checkPurity(fixture(t,
		"fsm/clock.go", "package fsm\n\nimport \"time\"\n\nvar a = time.Now()\nvar b = time.Second\n",
		"fsm/chance.go", "package fsm\n\nimport \"math/rand/v2\"\n\nvar c = rand.Int()\n",
		"fsm/run.go", "package fsm\n\nfunc run() {\n\tgo run()\n\tselect {}\n}\n",
		"fsm/lock.go", "package fsm\n\nimport \"sync\"\n\nvar d sync.Mutex\n",
		"fsm/log.go", "package fsm\n\nimport \"log/slog\"\n\nvar e = slog.Default()\n",
		"queue/inbox.go", "package queue\n\nimport (\n\t\"net\"\n\t\"os\"\n)\n\nvar f, g = os.Args, net.IPv4len\n",
		"fsm/fine.go", "package fsm\n\nimport \"sync/atomic\"\n\nvar h atomic.Int64\n",
		"fsm/clock_test.go", "package fsm\n\nimport \"time\"\n\nvar i = time.Now()\n",
		"queue/pebble.go", "package queue\n\nimport \"sync\"\n\nvar j sync.Mutex\n",
		"queue/memory_store.go", "package queue\n\nimport \"sync\"\n\nvar k sync.Mutex\n",
		"server/clock.go", "package server\n\nimport \"time\"\n\nvar l = time.Now()\n",
	)),
		"fsm/clock.go:5", "fsm/chance.go:3", "fsm/run.go:4", "fsm/run.go:5", "fsm/lock.go:3", "fsm/log.go:3", "queue/inbox.go:4", "queue/inbox.go:5")
}
