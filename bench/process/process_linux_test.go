package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestForeignIsWhatNobodyHereUsed(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	before := Usage{At: at, Nodes: time.Second, Own: time.Second, Machine: 10 * time.Second, Written: 5}
	after := Usage{At: at.Add(4 * time.Second), Nodes: 3 * time.Second, Own: 2 * time.Second, Machine: 15 * time.Second, Written: 12}
	if got := after.Since(before); got.Nodes != 2*time.Second || got.Own != time.Second || got.Machine != 5*time.Second || got.Written != 7 {
		t.Errorf("used %+v", got)
	}
	if got := after.Foreign(before); got != 0.5 {
		t.Errorf("2 of 5 s in 4 s are foreign: %v, want 0.5", got)
	}
	// Clocks tick in hundredths: what cannot be is nothing.
	after.Machine = 12 * time.Second
	if got := after.Foreign(before); got != 0 {
		t.Errorf("less than nothing is foreign: %v", got)
	}
}

func TestTheUsageOfAProcessIsRead(t *testing.T) {
	t.Parallel()
	c := &Cluster{All: []*Node{{Pid: os.Getpid()}}}
	before, err := c.Usage()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		after, err := c.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if used := after.Since(before); used.Nodes >= 2*clockTick && used.Machine >= 2*clockTick {
			if memory, err := Memory(os.Getpid()); err != nil || memory < 1<<20 {
				t.Errorf("this process holds %d bytes, %v", memory, err)
			}
			return
		}
	}
	t.Error("a busy process used no CPU")
}

func TestANodeThatEndsByItselfIsTold(t *testing.T) {
	t.Parallel()
	n, err := Launch(Program{Name: "n1", Address: "nowhere", Log: filepath.Join(t.TempDir(), "log"), Path: "/bin/sh", Args: []string{"-c", "echo cannot start; exit 1"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.Ready(t.Context(), func(context.Context) error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "cannot start") {
		t.Errorf("it ended, and Ready says %v", err)
	}
}

func TestNodesAreEnded(t *testing.T) {
	t.Parallel()
	c := &Cluster{Dir: filepath.Join(t.TempDir(), "data")}
	if err := os.Mkdir(c.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		n, err := Launch(Program{Log: filepath.Join(t.TempDir(), "log"), Env: []string{"SAYS=1"}, Path: "/bin/sh", Args: []string{"-c", `[ "$SAYS" = 1 ] && exec sleep 600`}})
		if err != nil {
			t.Fatal(err)
		}
		c.All = append(c.All, n)
	}
	if err := c.All[0].End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
		t.Errorf("the data is left: %v", err)
	}
}
