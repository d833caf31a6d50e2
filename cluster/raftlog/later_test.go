package raftlog

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// gated is a log whose appends wait, one at a time, to be let through, and then fail if they are to.
type gated struct {
	*raft.InmemStore
	through chan error
}

func (g *gated) StoreLogs(logs []*raft.Log) error {
	if err := <-g.through; err != nil {
		return err
	}
	return g.InmemStore.StoreLogs(logs)
}

func gate(t *testing.T, cfg Config) (*checked, *gated) {
	g := &gated{raft.NewInmemStore(), make(chan error)}
	return check(g, claimOf(t), "dir", cfg.withDefaults()), g
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// What is written later is read at once, counts when it is on the disk, and comes before what is asked for after it.
func TestEntriesAreWrittenLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, g := gate(t, Config{})
		var told []error
		stored := func(err error) { told = append(told, err) }
		for n := range uint64(3) {
			if err := c.StoreLater([]*raft.Log{entry(2*n + 1), entry(2*n + 2)}, stored); err != nil {
				t.Fatal(err)
			}
		}
		first, err1 := c.FirstIndex()
		last, err2 := c.LastIndex()
		if err := errors.Join(err1, err2); err != nil || first != 1 || last != 6 {
			t.Fatalf("the log from %d to %d, want 1 to 6: %v", first, last, err)
		}
		for n := uint64(1); n <= 6; n++ {
			var l raft.Log
			if err := c.GetLog(n, &l); err != nil || l.Index != n || string(l.Data) != string(entry(n).Data) || string(l.Extensions) != "ext" {
				t.Fatalf("entry %d: %+v %v", n, l, err)
			}
		}
		if err := c.GetLog(7, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatalf("entry 7: %v", err)
		}
		removed := make(chan error, 1)
		go func() { removed <- c.DeleteRange(5, 6) }()
		news, sooner := c.Unwritten(6), c.Unwritten(2)
		if c.Unwritten(0) != nil || sooner == nil || news == nil {
			t.Fatal("entries 1 to 6 wait for the disk, and nothing before them")
		}
		g.through <- nil
		synctest.Wait()
		if !closed(news) || !closed(sooner) || c.Unwritten(2) != nil || c.Unwritten(3) == nil || len(removed) > 0 {
			t.Fatalf("entries 1 and 2 are on the disk, and no more: %v", told)
		}
		g.through <- nil
		g.through <- nil
		if err := <-removed; err != nil || len(told) != 3 || errors.Join(told...) != nil || c.Unwritten(6) != nil {
			t.Fatalf("all is written: %v %v", told, err)
		}
		if last, err := c.LastIndex(); err != nil || last != 4 {
			t.Fatalf("after entries 5 and 6 were removed the last is %d: %v", last, err)
		}
		if err := c.stop(); err != nil {
			t.Fatal(err)
		}
		if err := c.StoreLater([]*raft.Log{entry(5)}, stored); !errors.Is(err, ErrClosed) {
			t.Fatalf("a closed log takes entries: %v", err)
		}
		if last, err := c.LastIndex(); err != nil || last != 4 {
			t.Fatalf("after an append that was refused the last is %d: %v", last, err)
		}
	})
}

// A write that fails is the last, whoever waits for it: what waits behind it fails too, and never counts as written.
func TestWhatIsWrittenLaterFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, g := gate(t, Config{})
		eio := errors.New("EIO")
		var told []error
		for n := range uint64(2) {
			if err := c.StoreLater([]*raft.Log{entry(n + 1)}, func(err error) { told = append(told, err) }); err != nil {
				t.Fatal(err)
			}
		}
		news := c.Unwritten(1)
		g.through <- eio
		if err := c.StoreLogs([]*raft.Log{entry(3)}); !errors.Is(err, ErrFailed) || !errors.Is(err, eio) {
			t.Fatal(err)
		}
		if len(told) != 2 || !errors.Is(told[0], eio) || !errors.Is(told[1], ErrFailed) {
			t.Fatalf("told %v", told)
		}
		if closed(news) || c.Unwritten(1) == nil || c.Unwritten(2) == nil {
			t.Fatal("what was not written counts as written")
		}
		if err := c.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// A disk that hangs is noticed though nobody waits for it.
func TestADiskThatHangsLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		told := make(chan error, 1)
		c, g := gate(t, Config{OnStuck: func(err error) { told <- err }})
		start := time.Now()
		if err := c.StoreLater([]*raft.Log{entry(1)}, func(error) {}); err != nil {
			t.Fatal(err)
		}
		if err := <-told; !errors.Is(err, ErrStuck) || time.Since(start) != 10*time.Second {
			t.Fatalf("after %v told %v", time.Since(start), err)
		}
		if err := c.StoreLater([]*raft.Log{entry(2)}, func(error) {}); !errors.Is(err, ErrFailed) {
			t.Fatal(err)
		}
		if err := c.stop(); !errors.Is(err, ErrStuck) {
			t.Fatalf("close while a write hangs: %v", err)
		}
		g.through <- nil
		<-c.done
	})
}

// Each write has the deadline for itself, however long it waited for those before it.
func TestADeadlineIsForOneWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, g := gate(t, Config{OnStuck: func(err error) { t.Error(err) }})
		for n := range uint64(3) {
			if err := c.StoreLater([]*raft.Log{entry(n + 1)}, func(err error) {
				if err != nil {
					t.Error(err)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			<-time.NewTimer(6 * time.Second).C
			g.through <- nil
		}
		if err := c.stop(); err != nil {
			t.Fatal(err)
		}
	})
}
