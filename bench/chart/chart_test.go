package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// taken is a profile of main → sluice/fsm.Apply (which has inlined sluice/queue.Get) → runtime.memmove.
func taken(t *testing.T, dir string) string {
	t.Helper()
	functions := map[string]*profile.Function{}
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}, PeriodType: &profile.ValueType{}}
	location := func(names ...string) *profile.Location {
		l := &profile.Location{ID: uint64(len(p.Location) + 1)}
		for _, name := range names {
			f := functions[name]
			if f == nil {
				f = &profile.Function{ID: uint64(len(p.Function) + 1), Name: name}
				functions[name] = f
				p.Function = append(p.Function, f)
			}
			l.Line = append(l.Line, profile.Line{Function: f})
		}
		p.Location = append(p.Location, l)
		return l
	}
	start, apply, move := location("main.main"), location("sluice/queue.Get", "sluice/fsm.Apply"), location("runtime.memmove")
	p.Sample = []*profile.Sample{
		{Location: []*profile.Location{move, apply, start}, Value: []int64{1, 300}},
		{Location: []*profile.Location{apply, start}, Value: []int64{1, 100}},
		{Location: []*profile.Location{start}, Value: []int64{1, 600}},
	}
	name := filepath.Join(dir, "cpu.pprof")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Write(file), file.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestStacksAreFolded(t *testing.T) {
	t.Parallel()
	name := taken(t, t.TempDir())
	root, err := ReadFlame([]string{name, name})
	if err != nil {
		t.Fatal(err)
	}
	at := root
	for _, want := range []struct {
		name  string
		value int64
	}{{"all", 2000}, {"main.main", 2000}, {"sluice/fsm.Apply", 800}, {"sluice/queue.Get", 800}, {"runtime.memmove", 600}} {
		if want.name != "all" {
			if at = at.Calls[want.name]; at == nil {
				t.Fatalf("%s is not where it was called", want.name)
			}
		}
		if at.Value != want.value {
			t.Errorf("%s took %d, want %d", want.name, at.Value, want.value)
		}
	}
}

func TestAFlameGraphIsDrawn(t *testing.T) {
	t.Parallel()
	root, err := ReadFlame([]string{taken(t, t.TempDir())})
	if err != nil {
		t.Fatal(err)
	}
	svg := string(root.SVG("send & settle"))
	wellFormed(t, svg)
	for _, want := range []string{"send &amp; settle", "fsm.Apply: 40.00 %", "runtime.memmove: 30.00 %", `width="479.6"`} {
		if !strings.Contains(svg, want) {
			t.Errorf("%q is missing in\n%s", want, svg)
		}
	}
}

func TestWhatIsTooNarrowIsLeftOut(t *testing.T) {
	t.Parallel()
	root := &Flame{Name: "all"}
	root.fold([]string{"wide"}, 1_000_000)
	root.fold([]string{"thin", "deep", "deeper"}, 1)
	if strings.Contains(string(root.SVG("")), "thin") || root.depth(flameWidth) != 2 {
		t.Errorf("a millionth was drawn, in %d rows", root.depth(flameWidth))
	}
}

func TestOtherProfilesAreRefused(t *testing.T) {
	t.Parallel()
	root := &Flame{}
	if err := root.add(&profile.Profile{SampleType: []*profile.ValueType{{Type: "inuse_space"}}}); err == nil {
		t.Error("a profile of memory was taken for one of CPU")
	}
	none := filepath.Join(t.TempDir(), "none")
	if err := os.WriteFile(none, []byte("no profile"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFlame([]string{none}); err == nil || !strings.Contains(err.Error(), none) {
		t.Errorf("what is no profile gives %v", err)
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"a/b/c.(*T).M": "c.(*T).M", "runtime.mallocgc": "runtime.m…"} {
		if got := short(in, 10); got != want {
			t.Errorf("%s is shown as %s, want %s", in, got, want)
		}
	}
}

func TestLinesAreDrawn(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "lines.svg")
	c := Lines{Title: "Whole jobs", X: "senders", Y: "jobs a second", Lines: []Line{
		{"sluice", []Point{{1, 390, 380, 400}, {256, 17000, 16000, 17500}}}, {"nats", []Point{{1, 159, 150, 160}, {256, 3662, 3500, 3700}}},
	}}
	if err := c.Save(name); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, string(svg))
	for _, want := range []string{"Whole jobs", "sluice", "nats", ">256<", "#0072B2"} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("%q is missing", want)
		}
	}
}

func TestWhatCannotBeDrawnIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Lines{"nothing": {}, "zero": {Lines: []Line{{"x", []Point{{1, 0, 0, 0}}}}}} {
		if err := c.Save(filepath.Join(t.TempDir(), "x.svg")); err == nil {
			t.Errorf("%s was drawn on logarithmic axes", name)
		}
	}
}

func wellFormed(t *testing.T, text string) {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
}
