package laws

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "sluice"

// tree is what the laws are held against: the files of one repository.
type tree struct {
	fset *token.FileSet
	goes []*source
	// names are all files; texts are those that people write or read, Go among them.
	names []string
	texts map[string]string
}

// source is one parsed Go file.
type source struct {
	path      string // slash-separated, from the root of the repository
	pkg       string // folder, "." for the root
	file      *ast.File
	test      bool
	generated bool
	fset      *token.FileSet
}

// breach is one place that breaks a law.
type breach struct {
	at, text string
}

func (b breach) String() string { return b.at + ": " + b.text }

func (s *source) breach(at token.Pos, format string, args ...any) breach {
	return breach{at: fmt.Sprintf("%s:%d", s.path, s.fset.Position(at).Line), text: fmt.Sprintf(format, args...)}
}

// imports lists the import paths of the file with their specs.
func (s *source) imports() map[string]*ast.ImportSpec {
	specs := make(map[string]*ast.ImportSpec)
	for _, spec := range s.file.Imports {
		specs[strings.Trim(spec.Path.Value, `"`)] = spec
	}
	return specs
}

// skipped folders hold nothing that is committed, or what others wrote.
var skipped = []string{".git", "bin", "dist", "node_modules", "testdata"}

// textual says which files are read as text: by the end of their name.
var textual = []string{".go", ".proto", ".md", ".yaml", ".yml", ".sh", ".svg", ".html", ".css", ".js", ".json", ".toml", "Makefile", "go.mod", ".ci/run", ".txt", ".txtar"}

func load(fsys fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet(), texts: make(map[string]string)}
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains(skipped, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		t.names = append(t.names, name)
		return t.read(fsys, name)
	})
	return t, err
}

func (t *tree) read(fsys fs.FS, name string) error {
	if !slices.ContainsFunc(textual, func(end string) bool { return strings.HasSuffix(name, end) }) {
		return nil
	}
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	t.texts[name] = string(text)
	if !strings.HasSuffix(name, ".go") {
		return nil
	}
	file, err := parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.goes = append(t.goes, &source{
		path: name, pkg: path.Dir(name), file: file, fset: t.fset,
		test: strings.HasSuffix(name, "_test.go"), generated: ast.IsGenerated(file),
	})
	return nil
}

// repository is this repository; the tests run in internal/laws.
func repository(t *testing.T) *tree {
	t.Helper()
	loaded, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded.goes) == 0 {
		t.Fatal("no Go file was found: the laws held nothing")
	}
	return loaded
}

// fixture is a small tree: file names and their texts by turns.
func fixture(t *testing.T, namesAndTexts ...string) *tree {
	t.Helper()
	files := make(fstest.MapFS)
	for i := 0; i < len(namesAndTexts); i += 2 {
		files[namesAndTexts[i]] = &fstest.MapFile{Data: []byte(namesAndTexts[i+1])}
	}
	loaded, err := load(files)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// hold fails the test for every breach.
func hold(t *testing.T, breaches []breach) {
	t.Helper()
	for _, b := range breaches {
		t.Error(b)
	}
}

// expect fails the test unless the breaches are at the wanted places, in any order.
func expect(t *testing.T, breaches []breach, want ...string) {
	t.Helper()
	var got []string
	for _, b := range breaches {
		got = append(got, b.at)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("breaches at %q, want %q:\n%v", got, want, breaches)
	}
}

// sorted gives the breaches in the order of their places.
func sorted(breaches []breach) []breach {
	slices.SortStableFunc(breaches, func(a, b breach) int { return strings.Compare(a.at, b.at) })
	return breaches
}
