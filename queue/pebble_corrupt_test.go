package queue_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sluice/queue"
)

// flushedStore gives a disk with a closed store on it that holds batch 30, in several tables and manifest records.
func flushedStore(t *testing.T) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewMem()
	s := openPebble(t, "/store", mem)
	for n := 1; n <= 30; n++ {
		mustNot(t, writeBatch(s, n))
		mustNot(t, s.Flush())
	}
	closeStore(t, s)
	return mem
}

func copyDisk(t *testing.T, from *vfs.MemFS) *vfs.MemFS {
	t.Helper()
	to := vfs.NewMem()
	if ok, err := vfs.Clone(from, to, "/store", "/store"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	return to
}

func readFile(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	mustNot(t, err)
	content, err := io.ReadAll(f)
	mustNot(t, errors.Join(err, f.Close()))
	return content
}

func writeFile(t *testing.T, fs vfs.FS, name string, content []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	mustNot(t, err)
	_, err = f.Write(content)
	mustNot(t, errors.Join(err, f.Sync(), f.Close()))
}

// readAll opens the store on a disk, reads it through, and tells which batch it holds.
func readAll(mem *vfs.MemFS) (batch int, err error) {
	s, err := queue.OpenPebble("/store", smallPebble(mem))
	if err != nil {
		return 0, err
	}
	defer s.Close()
	it, err := s.NewIter(nil, nil)
	if err != nil {
		return 0, err
	}
	defer it.Close()
	keys := 0
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.Value()
		if err != nil {
			return 0, err
		}
		var n int
		if _, err := fmt.Sscanf(string(value[:6]), "%d", &n); err != nil || keys > 0 && n != batch {
			return 0, fmt.Errorf("wrong content: batches %d and %d, %v", batch, n, err)
		}
		batch = n
		keys++
	}
	return batch, it.Error()
}

// One byte of one file is wrong: the store says so and names the file, or it does not matter.
func TestCorruptByte(t *testing.T) {
	t.Parallel()
	sound := flushedStore(t)
	names, err := sound.List("/store")
	mustNot(t, err)
	r := rand.New(rand.NewPCG(4, 2))
	caught := map[string]int{}
	for _, name := range names {
		file := path.Join("/store", name)
		content := readFile(t, sound, file)
		for range min(60, len(content)) {
			at, flip := r.IntN(len(content)), byte(1+r.IntN(255))
			mem := copyDisk(t, sound)
			damaged := append([]byte(nil), content...)
			damaged[at] ^= flip
			writeFile(t, mem, file, damaged)
			batch, err := readAll(mem)
			checkCorrupt(t, file, fmt.Sprintf("byte %d ^ %#x of %d", at, flip, len(content)), batch, err)
			if err != nil {
				caught[filepath.Ext(name)]++
			}
		}
	}
	if caught[".sst"] == 0 || len(caught) < 2 {
		t.Errorf("damage was found in %v only", caught)
	}
}

// checkCorrupt checks what a store with a damaged file said. Damage to the manifest's last record takes it one flush
// back, as a crash in the midst of that flush would have: nothing tells the two apart.
func checkCorrupt(t *testing.T, file, what string, batch int, err error) {
	t.Helper()
	manifest := strings.HasPrefix(path.Base(file), "MANIFEST")
	switch {
	case err == nil && batch == 30, err == nil && manifest && batch == 29:
	case err == nil:
		t.Errorf("%s, %s: the store silently holds batch %d, want 30", file, what, batch)
	case !errors.Is(err, queue.ErrCorrupt):
		t.Errorf("%s, %s: %v is no ErrCorrupt", file, what, err)
	case !strings.Contains(err.Error(), strings.TrimLeft(strings.TrimSuffix(path.Base(file), path.Ext(file)), "0")):
		t.Errorf("%s, %s: %v does not name the file", file, what, err)
	}
}

// A file is missing or cut short.
func TestCorruptFile(t *testing.T) {
	t.Parallel()
	sound := flushedStore(t)
	names, err := sound.List("/store")
	mustNot(t, err)
	for _, name := range names {
		if path.Ext(name) != ".sst" && !strings.HasPrefix(name, "MANIFEST") {
			continue
		}
		file := path.Join("/store", name)
		content := readFile(t, sound, file)
		missing := copyDisk(t, sound)
		mustNot(t, missing.Remove(file))
		short := copyDisk(t, sound)
		writeFile(t, short, file, content[:len(content)/3])
		empty := copyDisk(t, sound)
		writeFile(t, empty, file, nil)
		for what, mem := range map[string]*vfs.MemFS{"missing": missing, "short": short, "empty": empty} {
			batch, err := readAll(mem)
			if what == "short" && strings.HasPrefix(name, "MANIFEST") && errors.Is(err, queue.ErrCorrupt) {
				continue // It tells of tables that are no longer there: those are what it names.
			}
			checkCorrupt(t, file, what, batch, err)
		}
	}
}
