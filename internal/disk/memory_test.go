package disk

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, files FS, path, content string, sync bool) File {
	t.Helper()
	f, err := Create(files, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if sync {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestPowerLossTakesWhatWasNotSynced(t *testing.T) {
	t.Parallel()
	m := NewMemory()
	files := m.Mount()
	if err := errors.Join(files.MkdirAll("/a", 0o700), SyncFolder(files, "/")); err != nil {
		t.Fatal(err)
	}
	write(t, files, "/a/synced", "1", true)
	write(t, files, "/a/nameless", "2", true)
	if err := SyncFolder(files, "/a"); err != nil {
		t.Fatal(err)
	}
	late := write(t, files, "/a/late", "3", false)
	m.PowerLoss(rand.New(rand.NewPCG(1, 1)), 0)
	if _, err := late.Write([]byte("4")); !errors.Is(err, ErrGone) {
		t.Errorf("a write after the power was lost: %v", err)
	}
	files = m.Mount()
	if names, err := List(files, "/a"); err != nil || len(names) != 2 {
		t.Fatalf("left: %v %v", names, err)
	}
	if b, err := ReadFile(files, "/a/synced"); err != nil || string(b) != "1" {
		t.Fatalf("what was synced: %q %v", b, err)
	}
}

func TestFoldersThatWereMadeAreFoundAfterALossOfPower(t *testing.T) {
	t.Parallel()
	m := NewMemory()
	files := m.Mount()
	if err := errors.Join(MakeFolders(files, "/a/b/c", 0o700), MakeFolders(files, "/a/b/c", 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := ReplaceFile(files, "/a/b/c/f", []byte("x")); err != nil {
		t.Fatal(err)
	}
	m.PowerLoss(nil, 0)
	if b, err := ReadFile(m.Mount(), "/a/b/c/f"); err != nil || string(b) != "x" {
		t.Fatalf("%q %v", b, err)
	}
}

func TestAKillLeavesWhatWasWritten(t *testing.T) {
	t.Parallel()
	m := NewMemory()
	write(t, m.Mount(), "/f", "x", false)
	m.Unmount()
	if b, err := ReadFile(m.Mount(), "/f"); err != nil || string(b) != "x" {
		t.Fatalf("%q %v", b, err)
	}
}

// What a killed process left is durable once SyncAll or, for names, MakeFolders was called.
func TestWhatAKilledProcessLeftIsMadeDurable(t *testing.T) {
	t.Parallel()
	m := NewMemory()
	files := m.Mount()
	if err := errors.Join(files.MkdirAll("/a", 0o700), files.MkdirAll("/a/below", 0o700)); err != nil {
		t.Fatal(err)
	}
	write(t, files, "/a/written", "1", false)
	files = m.Mount()
	if err := errors.Join(MakeFolders(files, "/a", 0o700), SyncAll(files, "/a")); err != nil {
		t.Fatal(err)
	}
	write(t, files, "/a/named", "2", true)
	files = m.Mount()
	if err := MakeFolders(files, "/a", 0o700); err != nil {
		t.Fatal(err)
	}
	m.PowerLoss(nil, 0)
	files = m.Mount()
	if names, err := List(files, "/a"); err != nil || !slices.Equal(names, []string{"below", "named", "written"}) {
		t.Fatalf("left: %v %v", names, err)
	}
	for path, want := range map[string]string{"/a/written": "1", "/a/named": "2"} {
		if b, err := ReadFile(files, path); err != nil || string(b) != want {
			t.Errorf("%s: %q %v", path, b, err)
		}
	}
	if err := SyncAll(files, "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func TestFaultsOfADisk(t *testing.T) {
	t.Parallel()
	m := NewMemory()
	files := m.Mount()
	f := write(t, files, "/f", "x", true)
	files.FailSyncs(unix.EIO)
	if err := f.Sync(); !errors.Is(err, unix.EIO) {
		t.Errorf("a sync: %v", err)
	}
	files.FailSyncs(nil)
	files.Refuse(unix.ENOSPC)
	for what, err := range map[string]error{
		"mkdir": files.MkdirAll("/d", 0o700), "rename": files.Rename("/f", "/g"), "remove": files.Remove("/f"), "replace": ReplaceFile(files, "/f", nil),
	} {
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", what, err)
		}
	}
	files.Refuse(nil)
	if err := m.Damage("/f", func([]byte) []byte { return nil }); err == nil {
		t.Error("a disk in use was damaged")
	}
	m.Unmount()
	if err := m.Damage("/f", func(b []byte) []byte { return append(b, '!') }); err != nil {
		t.Fatal(err)
	}
	if paths, err := m.Files(); err != nil || len(paths) != 1 || paths[0] != "/f" {
		t.Fatalf("files: %v %v", paths, err)
	}
	if b, err := ReadFile(m.Mount(), "/f"); err != nil || string(b) != "x!" {
		t.Fatalf("%q %v", b, err)
	}
	m.Wipe()
	if _, err := m.Mount().Stat("/f"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("after a wipe: %v", err)
	}
}

func TestADiskThatHangsIsWaitedForInSimulatedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		files := m.Mount()
		files.Slow(func() time.Duration { return time.Second })
		files.Hang()
		begun, passed := time.Now(), make(chan time.Duration)
		go func() {
			files.Delay()
			passed <- time.Since(begun)
		}()
		time.AfterFunc(time.Minute, files.Resume)
		if d := <-passed; d != time.Minute+time.Second {
			t.Fatalf("it took %v", d)
		}
		files.Hang()
		go func() {
			files.Delay()
			passed <- time.Since(begun)
		}()
		synctest.Wait()
		m.Unmount()
		<-passed
	})
}

func TestSystemLocksOutOthers(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/LOCK"
	lock, err := System().Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := System().Lock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("a second lock: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAWatcherIsToldOfEveryChangeAndCanKeepItFromBeingMade(t *testing.T) {
	t.Parallel()
	m := NewMemory()
	files := m.Mount()
	var told []string
	until := ""
	files.Watch(func(op Op, name string, made bool) {
		step := string(op) + " " + name
		if made {
			step = "made " + step
		}
		told = append(told, step)
		if step == until {
			m.Unmount()
		}
	})
	f := write(t, files, "/a", "1", true)
	if err := errors.Join(files.Rename("/a", "/b"), files.Remove("/b")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"create /a", "made create /a", "write /a", "made write /a", "sync /a", "made sync /a",
		"rename /b", "made rename /b", "remove /b", "made remove /b",
	}
	if !slices.Equal(told, want) {
		t.Errorf("told of %q, want %q", told, want)
	}
	write(t, files, "/c", "1", true)
	until = "rename /d"
	if err := files.Rename("/c", "/d"); !errors.Is(err, ErrGone) {
		t.Errorf("a change before which the disk was taken away: %v", err)
	}
	if left, err := m.Files(); err != nil || !slices.Equal(left, []string{"/c"}) {
		t.Errorf("left: %q %v", left, err)
	}
	if _, err := f.Write([]byte("2")); !errors.Is(err, ErrGone) {
		t.Errorf("a write after the disk was taken away: %v", err)
	}
}
