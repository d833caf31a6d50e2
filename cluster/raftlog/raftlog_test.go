package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func entry(index uint64) *raft.Log {
	return &raft.Log{Index: index, Term: 1 + index/10, Type: raft.LogCommand, Data: bytes.Repeat([]byte{byte(index)}, 100), Extensions: []byte("ext")}
}

func open(t testing.TB, dir string, b Backend) *Store {
	t.Helper()
	s, err := Open(dir, Config{Backend: b, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // a test that closes it has looked at the error
	return s
}

func fill(t testing.TB, s *Store, from, to uint64) {
	t.Helper()
	var logs []*raft.Log
	for n := from; n <= to; n++ {
		logs = append(logs, entry(n))
	}
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
}

func each(t *testing.T, run func(t *testing.T, b Backend)) {
	for _, b := range []Backend{WAL, Bolt} {
		t.Run(string(b), func(t *testing.T) { t.Parallel(); run(t, b) })
	}
}

func TestEntriesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b Backend) {
		dir := t.TempDir()
		s := open(t, dir, b)
		fill(t, s, 1, 40)
		if err := s.StoreLog(&raft.Log{Index: 41, Term: 9, Type: raft.LogNoop}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.SetUint64([]byte("term"), 7), s.Set([]byte("vote"), []byte("n1")), s.Close()); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, b)
		for n := uint64(1); n <= 41; n++ {
			var l raft.Log
			if err := s.GetLog(n, &l); err != nil {
				t.Fatal(err)
			}
			want := entry(n)
			if n == 41 {
				want = &raft.Log{Index: 41, Term: 9, Type: raft.LogNoop}
			}
			if l.Index != n || l.Term != want.Term || l.Type != want.Type || !bytes.Equal(l.Data, want.Data) || !bytes.Equal(l.Extensions, want.Extensions) {
				t.Fatalf("entry %d: %+v", n, l)
			}
		}
		if v, err := s.GetUint64([]byte("term")); err != nil || v != 7 {
			t.Fatalf("stable value: %d %v", v, err)
		}
	})
}

func TestEndsOfTheLog(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b Backend) {
		s := open(t, t.TempDir(), b)
		ends := func(first, last uint64) {
			t.Helper()
			f, err1 := s.FirstIndex()
			l, err2 := s.LastIndex()
			if f != first || l != last || err1 != nil || err2 != nil {
				t.Fatalf("ends: %d to %d, want %d to %d (%v %v)", f, l, first, last, err1, err2)
			}
		}
		ends(0, 0)
		fill(t, s, 1, 30)
		if err := errors.Join(s.DeleteRange(21, 30), s.DeleteRange(1, 5)); err != nil {
			t.Fatal(err)
		}
		ends(6, 20)
		fill(t, s, 21, 22)
		ends(6, 22)
		if err := s.GetLog(5, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatalf("an entry that was removed: %v", err)
		}
		if !s.IsMonotonic() {
			t.Fatal("the log takes gaps")
		}
	})
}

// A follower cuts the tail of its log off when a new leader has another one. What is left must still be read after a
// restart: raft-wal before 0.4.1 left a segment without an index (hashicorp/raft-wal #31), and the node never started
// again.
func TestALogWhoseTailWasCutOffIsReadAfterARestart(t *testing.T) {
	each(t, func(t *testing.T, b Backend) {
		dir := t.TempDir()
		s := open(t, dir, b)
		fill(t, s, 1, 20)
		if err := s.DeleteRange(16, 20); err != nil {
			t.Fatal(err)
		}
		fill(t, s, 16, 18)
		if err := s.DeleteRange(18, 18); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, b)
		for index := uint64(1); index <= 17; index++ {
			var got raft.Log
			if err := s.GetLog(index, &got); err != nil || got.Index != index {
				t.Fatalf("entry %d: %+v %v", index, got, err)
			}
		}
		fill(t, s, 18, 19)
		if last, err := s.LastIndex(); err != nil || last != 19 {
			t.Errorf("the last entry is %d, %v", last, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAnotherBackendIsRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b Backend) {
		dir := t.TempDir()
		if err := open(t, dir, b).Close(); err != nil {
			t.Fatal(err)
		}
		other := map[Backend]Backend{WAL: Bolt, Bolt: WAL}[b]
		if _, err := Open(dir, Config{Backend: other}); err == nil || !strings.Contains(err.Error(), string(b)) {
			t.Fatalf("opened with another backend: %v", err)
		}
		if _, err := Open(dir, Config{Backend: "paper"}); err == nil {
			t.Fatal("an unknown backend was taken")
		}
	})
}

// A part that is gone must not be made anew, empty.
func TestAMissingPartIsNoticed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b Backend) {
		for _, part := range []string{stableFile, logParts[b]} {
			dir := t.TempDir()
			s := open(t, dir, b)
			fill(t, s, 1, 5)
			if err := errors.Join(s.Close(), os.Remove(filepath.Join(dir, part))); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, Config{Backend: b}); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), part) {
				t.Errorf("%s is gone: %v", part, err)
			}
		}
		dir := t.TempDir()
		s := open(t, dir, b)
		fill(t, s, 1, 5)
		if err := errors.Join(s.Close(), os.Remove(filepath.Join(dir, markerFile))); err != nil {
			t.Fatal(err)
		}
		other := map[Backend]Backend{WAL: Bolt, Bolt: WAL}[b]
		if _, err := Open(dir, Config{Backend: other}); err == nil || !strings.Contains(err.Error(), string(b)) {
			t.Errorf("without its mark, opened with another backend: %v", err)
		}
		s = open(t, dir, b) // the mark alone can be made again
		if last, err := s.LastIndex(); err != nil || last != 5 {
			t.Errorf("the log ends at %d %v", last, err)
		}
	})
}

// TestAFlippedBitIsNoticed changes one byte of an entry's data in the files of a closed log, and reads.
func TestAFlippedBitIsNoticed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b Backend) {
		dir := t.TempDir()
		s := open(t, dir, b)
		fill(t, s, 1, 5)
		fill(t, s, 6, 9) // so that the damage is not in what was written last
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if damaged := flip(t, dir, bytes.Repeat([]byte{3}, 100)); damaged == 0 {
			t.Fatal("found nothing to damage")
		}
		s, err := Open(dir, Config{Backend: b, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return // noticed already
		}
		defer func() { _ = s.Close() }()
		err = s.GetLog(3, &raft.Log{})
		if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("entry 3: %v", err)
		}
		var at *CorruptError
		if !errors.As(err, &at) || at.Index != 3 || !strings.Contains(err.Error(), dir) {
			t.Fatalf("the error does not say where: %v", err)
		}
		if err := s.GetLog(4, &raft.Log{}); err != nil {
			t.Fatalf("entry 4: %v", err)
		}
	})
}

// flip changes a byte in the middle of every place that holds data.
func flip(t *testing.T, dir string, data []byte) (places int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for from := 0; ; places++ {
			at := bytes.Index(b[from:], data)
			if at < 0 {
				break
			}
			b[from+at+len(data)/2] ^= 4
			from += at + 1
		}
		return os.WriteFile(path, b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return places
}

// faulty is a log whose appends do as they are told.
type faulty struct {
	raft.LogStore
	store func() error
}

func (f *faulty) StoreLogs([]*raft.Log) error { return f.store() }

func TestTheFirstFailureIsTheLast(t *testing.T) {
	t.Parallel()
	calls, eio := 0, errors.New("EIO")
	c := check(&faulty{store: func() error { calls++; return eio }}, claimOf(t), "dir", Config{}.withDefaults())
	if err := c.StoreLog(entry(1)); !errors.Is(err, eio) {
		t.Fatal(err)
	}
	if err := c.StoreLog(entry(1)); !errors.Is(err, ErrFailed) || !errors.Is(err, eio) {
		t.Fatal(err)
	}
	if calls != 1 {
		t.Fatalf("the disk was asked %d times", calls)
	}
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestADiskThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		thaw := make(chan struct{})
		var told error
		c := check(&faulty{store: func() error { <-thaw; return nil }}, claimOf(t), "dir", Config{OnStuck: func(err error) { told = err }}.withDefaults())
		start := time.Now()
		err := c.StoreLog(entry(1))
		if !errors.Is(err, ErrStuck) || !errors.Is(told, ErrStuck) || time.Since(start) != 10*time.Second {
			t.Fatalf("after %v: %v, told %v", time.Since(start), err, told)
		}
		if err := c.StoreLog(entry(2)); !errors.Is(err, ErrFailed) {
			t.Fatal(err)
		}
		if err := c.stop(); !errors.Is(err, ErrStuck) {
			t.Fatalf("close while a write hangs: %v", err)
		}
		close(thaw)
		<-c.done
	})
}

// BenchmarkAppend measures durable appends of 512-byte entries.
func BenchmarkAppend(b *testing.B) {
	for _, backend := range []Backend{WAL, Bolt} {
		for _, batch := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%s/%d", backend, batch), func(b *testing.B) {
				s := open(b, b.TempDir(), backend)
				data, next := make([]byte, 512), uint64(1)
				for b.Loop() {
					logs := make([]*raft.Log, batch)
					for n := range logs {
						logs[n] = &raft.Log{Index: next, Term: 1, Type: raft.LogCommand, Data: data}
						next++
					}
					if err := s.StoreLogs(logs); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(next-1)/b.Elapsed().Seconds(), "entries/s")
			})
		}
	}
}

func TestADamagedFileIsNamed(t *testing.T) {
	t.Parallel()
	noise := bytes.Repeat([]byte{0xa5}, 16<<10)
	for name, b := range map[string]Backend{"stable.db": WAL, "wal": WAL, "log.db": Bolt} {
		dir := t.TempDir()
		s := open(t, dir, b)
		fill(t, s, 1, 40)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if name == "wal" {
			file = filepath.Join(file, "wal-meta.db")
		}
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = f.WriteAt(noise, 0); err != nil || f.Close() != nil {
			t.Fatal(err)
		}
		_, err = Open(dir, Config{Backend: b, Logger: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
