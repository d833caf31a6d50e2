package laws

import (
	"fmt"
	"go/ast"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// vague are the names of packages that say nothing of what is within.
var vague = []string{"util", "utils", "common", "types", "helper", "helpers", "misc", "base", "shared", "lib"}

// notes are what people write to themselves, and places are paths of somebody's machine. The patterns are put
// together here, so that this file does not break its own law.
var (
	notes  = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX|HA` + `CK)\b`)
	places = regexp.MustCompile(`(^|[^\w.-])/(wo` + `rk|ro` + `ot|ho` + `me|Us` + `ers)/`)
)

func checkWords(t *tree) (breaches []breach) {
	for _, name := range slices.Sorted(maps.Keys(t.texts)) {
		number := 0
		for line := range strings.Lines(t.texts[name]) {
			number++
			at := fmt.Sprintf("%s:%d", name, number)
			if word := notes.FindString(line); word != "" {
				breaches = append(breaches, breach{at, "a note to oneself: " + word})
			}
			if place := places.FindString(line); place != "" {
				breaches = append(breaches, breach{at, "a path of somebody's machine: " + strings.TrimSpace(place)})
			}
		}
	}
	for _, s := range t.goes {
		if slices.Contains(vague, strings.TrimSuffix(s.file.Name.Name, "_test")) {
			breaches = append(breaches, s.breach(s.file.Name.Pos(), "package %s says nothing of what is within", s.file.Name.Name))
		}
	}
	return sorted(breaches)
}

// checkRegistration forbids what happens on import alone: state that nobody wired cannot be tested or run twice.
func checkRegistration(t *tree) (breaches []breach) {
	for _, s := range t.goes {
		if s.generated {
			continue
		}
		for imported, spec := range s.imports() {
			if spec.Name != nil && spec.Name.Name == "_" && imported != "embed" {
				breaches = append(breaches, s.breach(spec.Pos(), "imports %s for its side effects", imported))
			}
		}
		for _, decl := range s.file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				breaches = append(breaches, s.breach(fn.Pos(), "does work on import: wire it where the program starts"))
			}
		}
	}
	return sorted(breaches)
}

func TestWords(t *testing.T) {
	t.Parallel()
	hold(t, checkWords(repository(t)))
}

func TestNothingHappensOnImport(t *testing.T) {
	t.Parallel()
	hold(t, checkRegistration(repository(t)))
}

func TestWordLawCanFail(t *testing.T) {
	t.Parallel()
	expect(t, checkWords(fixture(t,
		"a/a.go", "package a\n\n// TO"+"DO: later.\n",
		"README.md", "Fine.\nSee /ro"+"ot/notes.\n",
		"Makefile", "a:\n\tcd /wo"+"rk/it\n",
		"run.sh", "cat ../work/here network/work/there mktemp XX"+"XXXX\n",
		"a/util/a.go", "package util\n",
	)),
		"a/a.go:3", "README.md:2", "Makefile:2", "a/util/a.go:1")
}

func TestRegistrationLawCanFail(t *testing.T) {
	t.Parallel()
	expect(t, checkRegistration(fixture(t,
		"a/a.go", "package a\n\nimport (\n\t_ \"embed\"\n\t_ \"net/http/pprof\"\n)\n\nfunc init() {}\n\ntype t struct{}\n\nfunc (t) init() {}\n",
	)),
		"a/a.go:5", "a/a.go:8")
}
