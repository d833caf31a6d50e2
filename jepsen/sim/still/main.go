// Still writes an overlay for the Go tool with which what happens in a testing/synctest bubble hangs on nothing outside of
// it: the numbers by which the runtime chooses among the ready cases of a select and the order of a map come from the
// bubble, the seeds of a process are always the same, no goroutine is interrupted, and those that can run do so one after
// the other, in the order in which they became so. It is for simulations that are to be run again. It knows the sources of
// one version of Go, and says so if they are others.
//
//	go run ./jepsen/sim/still -dir bin/still
//	go test -c -overlay bin/still/overlay.json …
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// edit is one change of a source file, by its path from that of the runtime: what must be there exactly once, and what
// takes its place.
type edit struct{ file, old, new string }

// wyrand is the next number of a bubble.
const wyrand = `
	if b := getg().bubble; b != nil {
		b.rng += 0xa0761d6478bd642f
		hi, lo := math.Mul64(b.rng, b.rng^0xe7037ed1a0b428db)
		return %s
	}
`

var edits = []edit{
	{"synctest.go", "	active  int // other sources of activity\n}", "	active  int // other sources of activity\n	rng     uint64\n}"},
	// Not cheaprand itself: locks, caches and samples take numbers from it as often as the machine's load has them.
	{"rand.go", "// Too much legacy code has go:linkname references\n", "func bubblerand() uint32 {" + fmt.Sprintf(wyrand, "uint32(hi ^ lo)") + "	return cheaprand()\n}\n\n// Too much legacy code has go:linkname references\n"},
	{"select.go", "j := cheaprandn(uint32(norder + 1))\n", "j := uint32((uint64(bubblerand()) * uint64(norder+1)) >> 32)\n"},
	// Whether a mutex is handed to the one who waits longest is not asked of the machine's clock: it always is.
	{"../internal/sync/mutex.go", "starving = starving || runtime_nanotime()-waitStartTime > starvationThresholdNs\n", "starving = starving || runtime_nanotime()-waitStartTime >= 0\n"},
	{"time.go", "t.rand = cheaprand()\n", "t.rand = bubblerand()\n"},
	{"rand.go", "func rand() uint64 {\n", "func rand() uint64 {" + fmt.Sprintf(wyrand, "hi ^ lo")},
	{"rand.go", "			seed[i%len(seed)] ^= c\n", "			seed[i%len(seed)] ^= c&0 + byte(i)\n"},
	{"proc.go", "func runqput(pp *p, gp *g, next bool) {\n", "func runqput(pp *p, gp *g, next bool) {\n	next = false\n"},
	{"proc.go", "func retake(now int64) uint32 {\n", "func retake(now int64) uint32 {\n	if now != 0 {\n		return 0\n	}\n"},
	// For speed: most goroutines live for one call, and need not grow their stacks again each time.
	{"stack.go", "var startingStackSize uint32 = fixedStack\n", "var startingStackSize uint32 = 16 << 10\n"},
}

func main() {
	dir := flag.String("dir", "", "folder for the overlay (required)")
	flag.Parse()
	if err := run(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "still:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	if dir == "" {
		return errors.New("say where the overlay is to be written: -dir DIR")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("find the sources of Go: %w", err)
	}
	runtime := filepath.Join(strings.TrimSpace(string(out)), "src", "runtime")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	replace := map[string]string{}
	for _, e := range edits {
		// Not named as Go files, or the folder would be a package of the module that it lies in.
		from, to := filepath.Join(runtime, e.file), filepath.Join(dir, filepath.Base(e.file)+".txt")
		read := from
		if replace[from] != "" {
			read = to
		}
		if err := e.apply(read, to); err != nil {
			return err
		}
		replace[from] = to
	}
	overlay, err := json.MarshalIndent(map[string]any{"Replace": replace}, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o644)
}

func (e edit) apply(from, to string) error {
	source, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if count := strings.Count(string(source), e.old); count != 1 {
		return fmt.Errorf("%s of this version of Go is not as expected: %q stands in it %d times, not once", e.file, e.old, count)
	}
	return os.WriteFile(to, []byte(strings.Replace(string(source), e.old, e.new, 1)), 0o644)
}
