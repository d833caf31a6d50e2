package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"sluice/internal/disk"
)

// folder makes a folder of files, some empty, and tells what they hold.
func folder(t *testing.T) (dir string, content map[string][]byte) {
	t.Helper()
	dir, content = filepath.Join(t.TempDir(), "checkpoint"), map[string][]byte{}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for n, size := range []int{0, 1, 100, 70_000} {
		b := make([]byte, size)
		for k := range b {
			b[k] = byte(rng.Uint32())
		}
		name := fmt.Sprintf("%06d.sst", n)
		content[name] = b
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, content
}

func same(t *testing.T, dir string, want map[string][]byte) {
	t.Helper()
	files, err := list(disk.System(), dir)
	if err != nil || len(files) != len(want) {
		t.Fatalf("files: %v %v", files, err)
	}
	for name, b := range want {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%s: %d bytes, want %d (%v)", name, len(got), len(b), err)
		}
	}
}

func store(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "snapshots"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *Store, index uint64) *Sink {
	t.Helper()
	sink, err := s.Create(1, index, 3, raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: "a"}}}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sink.(*Sink)
}

// adopted makes a snapshot of a fresh folder.
func adopted(t *testing.T, s *Store, index uint64) (id string, content map[string][]byte) {
	t.Helper()
	dir, content := folder(t)
	sink := create(t, s, index)
	if err := errors.Join(sink.Adopt(dir), sink.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the folder was copied, not moved: %v", err)
	}
	return sink.ID(), content
}

func read(t *testing.T, s *Store, id string) (*raft.SnapshotMeta, []byte) {
	t.Helper()
	m, r, err := s.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return m, b
}

func TestAdoptedThenSentThenExtracted(t *testing.T) {
	t.Parallel()
	leader, follower := store(t, Config{}), store(t, Config{})
	id, content := adopted(t, leader, 42)
	m, archive := read(t, leader, id)
	if m.Index != 42 || m.Term != 3 || m.Size != int64(len(archive)) || len(m.Configuration.Servers) != 1 {
		t.Fatalf("meta %+v of %d bytes", m, len(archive))
	}
	sink := create(t, follower, 42)
	if _, err := io.CopyBuffer(struct{ io.Writer }{sink}, bytes.NewReader(archive), make([]byte, 777)); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	_, again := read(t, follower, sink.ID())
	if !bytes.Equal(again, archive) {
		t.Fatal("the archive of what was received is another one")
	}
	dir := filepath.Join(t.TempDir(), "state")
	if err := Extract(disk.System(), bytes.NewReader(again), dir); err != nil {
		t.Fatal(err)
	}
	same(t, dir, content)
}

// TestEveryDamageIsNoticed flips a bit at many places and cuts the archive at many others: nothing is left behind.
func TestEveryDamageIsNoticed(t *testing.T) {
	t.Parallel()
	s := store(t, Config{})
	id, _ := adopted(t, s, 1)
	_, archive := read(t, s, id)
	refuse := func(what string, b []byte) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "out")
		if err := Extract(disk.System(), bytes.NewReader(b), dir); err == nil {
			t.Fatalf("%s was not noticed", what)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s left a folder behind", what)
		}
	}
	for at := 0; at < len(archive); at += 1 + at/20 {
		b := bytes.Clone(archive)
		b[at] ^= 1 << (at % 8)
		refuse(fmt.Sprintf("a flipped bit at %d", at), b)
		refuse(fmt.Sprintf("a cut at %d", at), archive[:at])
	}
	refuse("a byte too many", append(bytes.Clone(archive), 0))
	sink := create(t, s, 2)
	_, _ = sink.Write(archive[:len(archive)/2]) // what comes of it, Close tells
	if err := sink.Close(); !errors.Is(err, ErrBroken) {
		t.Fatalf("Close of half an archive: %v", err)
	}
	if metas, err := s.List(); err != nil || len(metas) != 1 {
		t.Fatalf("list: %v %v", metas, err)
	}
}

func TestBrokenOnesArePassedOver(t *testing.T) {
	t.Parallel()
	s := store(t, Config{Retain: 5})
	var ids []string
	for n := range 4 {
		id, _ := adopted(t, s, uint64(n+1))
		ids = append(ids, id)
	}
	metaPath := filepath.Join(s.dir, ids[3], metaFile)
	b, err := os.ReadFile(metaPath)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	for _, err := range []error{
		os.WriteFile(metaPath, b, 0o600),
		os.Truncate(filepath.Join(s.dir, ids[2], filesDir, "000003.sst"), 5),
		os.Remove(filepath.Join(s.dir, ids[1], filesDir, "000001.sst")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	metas, err := s.List()
	if err != nil || len(metas) != 1 || metas[0].ID != ids[0] {
		t.Fatalf("list: %v %v", metas, err)
	}
	if _, _, err := s.Open(ids[3]); !errors.Is(err, ErrBroken) {
		t.Fatalf("open of a broken one: %v", err)
	}
}

func TestRetainsTheNewestAndWhatIsRead(t *testing.T) {
	t.Parallel()
	s := store(t, Config{Retain: 2})
	first, content := adopted(t, s, 1)
	_, r, err := s.Open(first)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		adopted(t, s, uint64(n+2))
	}
	dir := filepath.Join(t.TempDir(), "state")
	if err := errors.Join(Extract(disk.System(), r, dir), r.Close()); err != nil {
		t.Fatalf("one that was being read was reaped: %v", err)
	}
	same(t, dir, content)
	adopted(t, s, 5)
	metas, err := s.List()
	if err != nil || len(metas) != 2 || metas[0].Index != 5 || metas[1].Index != 4 {
		t.Fatalf("list: %v %v", metas, err)
	}
}

func TestAnInterruptedOneIsCleared(t *testing.T) {
	t.Parallel()
	s := store(t, Config{})
	sink := create(t, s, 7)
	if err := sink.Adopt(func() string { d, _ := folder(t); return d }()); err != nil {
		t.Fatal(err)
	}
	again, err := Open(s.dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if metas, err := again.List(); err != nil || len(metas) != 0 {
		t.Fatalf("list: %v %v", metas, err)
	}
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) != 0 {
		t.Fatalf("left: %v %v", entries, err)
	}
	cancelled := create(t, s, 8)
	if _, err := cancelled.Write([]byte(magic)); err != nil {
		t.Fatal(err)
	}
	if err := cancelled.Cancel(); err != nil {
		t.Fatal(err)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	s := store(t, Config{MaxBytes: 100})
	sink := create(t, s, 1)
	if _, err := sink.Write(make([]byte, 101)); err == nil {
		t.Fatal("more than MaxBytes was taken")
	}
	if err := sink.Cancel(); err != nil {
		t.Fatal(err)
	}
	empty := create(t, s, 2)
	if err := empty.Close(); err == nil {
		t.Fatal("an empty snapshot was completed")
	}
	if _, err := s.Create(0, 1, 1, raft.Configuration{}, 0, nil); err == nil {
		t.Fatal("version 0 was taken")
	}
}

// What was damaged on the disk of the one that sends is never a whole archive: a node that took it over would have nothing
// but a damaged state. Files that prove themselves are checked by that, the others by checksums kept with the snapshot.
func TestADamagedSnapshotIsNotRead(t *testing.T) {
	for _, damaged := range []string{"000003.sst", "MANIFEST"} {
		var told error
		wrong := fmt.Errorf("%w: it differs", ErrBroken)
		s := store(t, Config{
			Proves: func(name string) bool { return filepath.Ext(name) == ".sst" },
			Check: func(path string) error {
				if filepath.Base(path) == damaged {
					return wrong
				}
				return nil
			},
			OnBroken: func(err error) { told = err },
		})
		dir, _ := folder(t)
		if err := os.WriteFile(filepath.Join(dir, "MANIFEST"), []byte("as it was"), 0o600); err != nil {
			t.Fatal(err)
		}
		sink := create(t, s, 7)
		if err := errors.Join(sink.Adopt(dir), sink.Close()); err != nil {
			t.Fatal(err)
		}
		if damaged == "MANIFEST" {
			if err := os.WriteFile(filepath.Join(s.dir, sink.ID(), filesDir, "MANIFEST"), []byte("as it wes"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, r, err := s.Open(sink.ID())
		if err != nil {
			t.Fatal(err)
		}
		into := filepath.Join(t.TempDir(), "into")
		if err := Extract(disk.System(), r, into); !errors.Is(err, ErrBroken) {
			t.Errorf("%s is damaged: the archive gave %v", damaged, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(told, ErrBroken) {
			t.Errorf("%s is damaged: nobody was told, but %v", damaged, told)
		}
	}
}

// What cannot be read for the moment is no damage: nobody is told, and it can be read later.
func TestTroubleIsNoDamage(t *testing.T) {
	var trouble, told error
	s := store(t, Config{
		Proves:   func(name string) bool { return filepath.Ext(name) == ".sst" },
		Check:    func(string) error { return trouble },
		OnBroken: func(err error) { told = err },
	})
	id, content := adopted(t, s, 7)
	trouble = errors.New("too many open files")
	_, r, err := s.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, trouble) {
		t.Errorf("the archive gave %v, want %v", err, trouble)
	}
	if err := r.Close(); err != nil || told != nil {
		t.Errorf("closed: %v; told: %v", err, told)
	}
	trouble = nil
	_, archive := read(t, s, id)
	into := filepath.Join(t.TempDir(), "into")
	if err := Extract(disk.System(), bytes.NewReader(archive), into); err != nil {
		t.Fatal(err)
	}
	same(t, into, content)
	if _, _, err := s.Open("3-8-1"); err == nil || told != nil {
		t.Errorf("a snapshot that is not there: %v; told: %v", err, told)
	}
}

// A snapshot that a leader sends may be older than those that are there. Whoever completed it reads it next.
func TestWhatWasMadeJustNowIsNotReaped(t *testing.T) {
	s := store(t, Config{})
	for _, index := range []uint64{20, 15, 10} {
		id, _ := adopted(t, s, index)
		if _, r, err := s.Open(id); err != nil {
			t.Fatalf("the snapshot of %d is gone once it is made: %v", index, err)
		} else if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
