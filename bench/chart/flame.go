package chart

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"html"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// Flame is a profile folded by call stacks: a function, what it took with all that it called, and those it called.
type Flame struct {
	// Name is the function's.
	Name string
	// Value is the total, in nanoseconds of CPU.
	Value int64
	// Calls are by name.
	Calls map[string]*Flame
}

// Sizes of the drawing, in pixels; what is narrower than flameLeast is left out.
const (
	flameWidth  = 1200.0
	flameRow    = 17
	flameTop    = 34
	flameLeast  = 0.4
	flameLetter = 6.4 // a letter's width, about
)

// ReadFlame folds CPU profiles, summed up.
func ReadFlame(files []string) (*Flame, error) {
	root := &Flame{Name: "all"}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		p, err := profile.Parse(file)
		_ = file.Close() // it was only read
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := root.add(p); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if root.Value == 0 {
		return nil, fmt.Errorf("the profiles hold no samples")
	}
	return root, nil
}

// add folds a profile into the tree.
func (f *Flame) add(p *profile.Profile) error {
	at := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == "cpu" })
	if at < 0 {
		return fmt.Errorf("it holds no CPU time, but %v", p.SampleType)
	}
	for _, sample := range p.Sample {
		f.fold(stack(sample), sample.Value[at])
	}
	return nil
}

// stack lists the functions of a sample, the outermost first; functions that were inlined stand for themselves.
func stack(sample *profile.Sample) (names []string) {
	for _, location := range slices.Backward(sample.Location) {
		for _, line := range slices.Backward(location.Line) {
			if line.Function != nil {
				names = append(names, line.Function.Name)
			}
		}
	}
	return names
}

// fold adds a value to a stack and to everything above it.
func (f *Flame) fold(stack []string, value int64) {
	f.Value += value
	for _, name := range stack {
		if f.Calls == nil {
			f.Calls = make(map[string]*Flame)
		}
		next := f.Calls[name]
		if next == nil {
			next = &Flame{Name: name}
			f.Calls[name] = next
		}
		next.Value += value
		f = next
	}
}

// depth is how many rows the widest parts need.
func (f *Flame) depth(width float64) int {
	deepest := 0
	for _, next := range f.Calls {
		if inner := width * float64(next.Value) / float64(f.Value); inner >= flameLeast {
			deepest = max(deepest, next.depth(inner))
		}
	}
	return deepest + 1
}

// SVG draws the tree with its root at the bottom. Widths are shares of the whole; each function tells its share when
// pointed at.
func (f *Flame) SVG(title string) []byte {
	height := flameTop + flameRow*f.depth(flameWidth) + 8
	out := &bytes.Buffer{}
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" width="%.0f" height="%d" font-family="monospace" font-size="11">`+"\n", flameWidth, height, flameWidth, height)
	fmt.Fprintf(out, `<rect width="100%%" height="100%%" fill="#fff"/><text x="6" y="20" font-size="14">%s: %.1f s of CPU</text>`+"\n", html.EscapeString(title), float64(f.Value)/1e9)
	f.draw(out, 0, float64(height-8-flameRow), flameWidth, f.Value)
	out.WriteString("</svg>\n")
	return out.Bytes()
}

func (f *Flame) draw(out *bytes.Buffer, x, y, width float64, whole int64) {
	share := 100 * float64(f.Value) / float64(whole)
	fmt.Fprintf(out, `<g><title>%s: %.2f %%, %.2f s</title><rect x="%.1f" y="%.0f" width="%.1f" height="%d" fill="%s"/>`, html.EscapeString(f.Name), share, float64(f.Value)/1e9, x, y, max(0.2, width-0.4), flameRow-1, f.colour())
	if room := int((width - 6) / flameLetter); room >= 3 {
		fmt.Fprintf(out, `<text x="%.1f" y="%.0f">%s</text>`, x+3, y+12, html.EscapeString(short(f.Name, room)))
	}
	out.WriteString("</g>\n")
	for _, name := range slices.Sorted(maps.Keys(f.Calls)) {
		next := f.Calls[name]
		inner := width * float64(next.Value) / float64(f.Value)
		if inner >= flameLeast {
			next.draw(out, x, y-flameRow, inner, whole)
		}
		x += inner
	}
}

// short is a function's name without the path of its package, cut to so many letters.
func short(name string, room int) string {
	name = name[strings.LastIndexByte(name, '/')+1:]
	if letters := []rune(name); len(letters) > room {
		return string(letters[:room-1]) + "…"
	}
	return name
}

// colour is the same for a package wherever it stands: ours are blue, the runtime grey, all others warm.
func (f *Flame) colour() string {
	path, rest := "", f.Name
	if at := strings.LastIndexByte(f.Name, '/'); at >= 0 {
		path, rest = f.Name[:at+1], f.Name[at+1:]
	}
	name, _, _ := strings.Cut(rest, ".")
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(path + name)) // it never fails
	shade := hash.Sum32() % 20
	switch {
	case strings.HasPrefix(f.Name, "sluice/"):
		return fmt.Sprintf("hsl(%d,65%%,72%%)", 195+shade)
	case name == "runtime" || name == "syscall" || f.Name == "all":
		return fmt.Sprintf("hsl(0,0%%,%d%%)", 78+shade/2)
	}
	return fmt.Sprintf("hsl(%d,75%%,70%%)", 15+2*shade)
}
