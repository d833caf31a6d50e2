package mutant

import (
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/jepsen/check"
	"sluice/jepsen/world"
)

// root is the folder of the module.
const root = "../.."

func TestEveryMutantIsWhole(t *testing.T) {
	t.Parallel()
	var checkers []string
	for _, c := range check.Checkers() {
		checkers = append(checkers, c.Name)
	}
	names := map[string]bool{"control": true}
	for _, m := range All() {
		if names[m.Name] || m.Breaks == "" || len(m.Edits) == 0 || len(m.Caught) == 0 {
			t.Errorf("%q is there twice, or lacks what it breaks, edits, or who catches it", m.Name)
		}
		names[m.Name] = true
		for _, invariant := range m.Caught {
			if !slices.Contains(checkers, invariant) {
				t.Errorf("%s: there is no checker %q", m.Name, invariant)
			}
		}
		if (m.Sim == nil || m.Proc == nil) != (m.Why != "") {
			t.Errorf("%s: a mutant that is not tried in a world says why, and no other does", m.Name)
		}
		for _, w := range []World{Sim, Proc} {
			if try := m.Try(w); try != nil && (try.Time < time.Second || try.Most < 1 || try.From < 1 || world.CheckShape(try.Shape) != nil) {
				t.Errorf("%s: the try in %s is %+v", m.Name, w, try)
			}
		}
	}
	if len(names) < 21 {
		t.Errorf("there are %d mutants; at least 20 are wanted", len(names)-1)
	}
}

func TestEveryInvariantHasAMutant(t *testing.T) {
	t.Parallel()
	for _, c := range check.Checkers() {
		caught := func(m *Mutant) bool { return slices.Contains(m.Caught, c.Name) }
		if c.Name != "liveness" && !slices.ContainsFunc(All(), caught) { // what is stuck follows from most of them
			t.Errorf("no mutant is to be caught by %s", c.Name)
		}
	}
}

// TestEveryMutantFitsTheSources: the lines stand where the table says, and what comes of them compiles.
func TestEveryMutantFitsTheSources(t *testing.T) {
	t.Parallel()
	c := newCompiler(t)
	for _, m := range All() {
		changed, err := m.Sources(root)
		if err != nil {
			t.Error(err)
			continue
		}
		folders := map[string]bool{}
		for file := range changed {
			folders[filepath.Dir(file)] = true
		}
		for folder := range folders {
			if err := c.check(folder, changed); err != nil {
				t.Errorf("%s does not compile: %v", m.Name, err)
			}
		}
	}
}

// compiler checks types, as the compiler does, against what the packages that a mutant does not change export.
type compiler struct {
	exports map[string]string
	files   map[string][]string
}

func newCompiler(t *testing.T) *compiler {
	c := &compiler{exports: map[string]string{}, files: map[string][]string{}}
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}\t{{join .GoFiles \" \"}}"}
	for _, file := range Files(All()) {
		args = append(args, "./"+filepath.Dir(file))
	}
	list := exec.Command("go", args...)
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		c.exports[fields[0]] = fields[1]
		c.files[fields[0]] = strings.Fields(fields[2])
	}
	return c
}

func (c *compiler) check(folder string, changed map[string]string) error {
	set := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range c.files["sluice/"+folder] {
		path := filepath.Join(folder, name)
		var text any
		if mutated, ok := changed[path]; ok {
			text = mutated
		}
		f, err := parser.ParseFile(set, filepath.Join(root, path), text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		parsed = append(parsed, f)
	}
	config := types.Config{Importer: importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) {
		if c.exports[path] == "" {
			return nil, fmt.Errorf("nothing is known of package %s", path)
		}
		return os.Open(c.exports[path])
	})}
	_, err := config.Check("sluice/"+folder, set, parsed, nil)
	return err
}

func TestAStaleMutantIsToldOf(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.go"), []byte("package a\n\nvar one, two = 1, 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, e := range []Edit{{"a.go", "three", ""}, {"a.go", "1", "2"}, {"b.go", "1", "2"}} {
		m := &Mutant{Name: "stale", Edits: []Edit{e}}
		if _, err := m.Sources(dir); !errors.Is(err, ErrStale) {
			t.Errorf("%+v: %v", e, err)
		}
	}
	m := &Mutant{Name: "good", Edits: []Edit{{"a.go", "one, two = 1", "one, two = 2"}, {"a.go", "two = 2", "two = 3"}}}
	if changed, err := m.Sources(dir); err != nil || changed["a.go"] != "package a\n\nvar one, two = 3, 1\n" {
		t.Errorf("%v %v", changed, err)
	}
}

func TestAnOverlayStandsOnAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base := filepath.Join(dir, "base.json")
	err := errors.Join(
		os.WriteFile(base, []byte(`{"Replace": {"/go/x.go": "/tmp/x.txt"}}`), 0o600),
		os.WriteFile(filepath.Join(dir, "a.go"), []byte("package a\n"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	m := &Mutant{Name: "b", Edits: []Edit{{"a.go", "package a", "package b"}}}
	path, err := m.Overlay(dir, base, filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/go/x.go", filepath.Join(dir, "a.go"), filepath.Join(dir, "out", "a.go.txt")} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the overlay has no %s: %s", want, text)
		}
	}
}

func TestSamplesRotateThroughAll(t *testing.T) {
	t.Parallel()
	all, seen := All(), map[string]bool{}
	for turn := range (len(all) + 2) / 3 {
		some := Sample(all, 3, turn)
		if len(some) != 3 {
			t.Fatalf("turn %d has %d mutants", turn, len(some))
		}
		for _, m := range some {
			seen[m.Name] = true
		}
	}
	if len(seen) != len(all) {
		t.Errorf("%d of %d mutants have had their turn", len(seen), len(all))
	}
}

func TestANameThatIsNotThereIsToldOf(t *testing.T) {
	t.Parallel()
	if _, err := In(Sim, "no-such-mutant"); err == nil || !strings.Contains(err.Error(), "log-not-synced") {
		t.Errorf("%v", err)
	}
	if some, err := In(Proc, "log-not-synced|state-not-written|ids-forgotten"); err != nil || len(some) != 2 {
		t.Errorf("%v %v", some, err)
	}
}
