package cluster

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	peerv1 "sluice/api/peer/v1"
	"sluice/internal/disk"
)

func TestFolderBelongsToOneNodeOfOneCluster(t *testing.T) {
	dir := t.TempDir()
	f, err := openFolder(disk.System(), dir, "a", "one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openFolder(disk.System(), dir, "a", "one"); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second opening: %v", err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ node, cluster, want string }{
		{"b", "one", `belongs to node "a", asked was node "b"`},
		{"a", "two", `belongs to cluster "one", asked was cluster "two"`},
	} {
		if _, err := openFolder(disk.System(), dir, c.node, c.cluster); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v", c, err)
		}
	}
	f, err = openFolder(disk.System(), dir, "a", "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
}

func TestUnreadableFoldersAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "node.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openFolder(disk.System(), dir, "a", "one"); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a broken node.json: %v", err)
	}
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "groups"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := openFolder(disk.System(), dir, "a", "one"); err == nil || !strings.Contains(err.Error(), "no node.json") {
		t.Errorf("data without node.json: %v", err)
	}
}

// A flipped bit may leave JSON that says something else, or nothing, of the cluster: the node would be refused by its
// peers, who know better, and wait for ever.
func TestDamagedIdentityIsRefused(t *testing.T) {
	dir := t.TempDir()
	f, err := openFolder(disk.System(), dir, "a", "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.belong("6d0f1f0e-2a3b"), f.restored(7), f.close()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "node.json")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	was := f.current()
	for at := range whole {
		for bit := range 8 {
			damaged := bytes.Clone(whole)
			damaged[at] ^= 1 << bit
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := openFolder(disk.System(), dir, "a", "one")
			if err != nil {
				continue
			}
			if f.current() != was { // the same in other letters is no damage
				t.Errorf("bit %d of byte %d flipped, %q, was taken for %+v", bit, at, damaged, f.current())
			}
			if err := f.close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestPromisesAreKept(t *testing.T) {
	dir := t.TempDir()
	f, err := openFolder(disk.System(), dir, "a", "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.promise("x"); err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if f, err = openFolder(disk.System(), dir, "a", "one"); err != nil {
		t.Fatal(err)
	}
	if err := f.promise("x"); err != nil {
		t.Errorf("the same promise again: %v", err)
	}
	if err := f.promise("y"); err == nil {
		t.Error("a second promise was made")
	}
	if err := f.belong("x"); err != nil {
		t.Error(err)
	}
	if err := f.belong("y"); err == nil {
		t.Error("the node changed its cluster")
	}
	if got := f.current(); got.ClusterID != "x" || got.member() != "x" {
		t.Errorf("got %+v", got)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
}

func TestRaftStreamsOfOthersAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	w.founded("a")
	n := w.nodes["a"].Node
	id := n.folder.current().ClusterID
	for _, c := range []struct {
		hello *peerv1.Hello
		peer  string
		want  string
	}{
		{&peerv1.Hello{Cluster: "test", ClusterId: id, From: "b", To: "a"}, "b", ""},
		{&peerv1.Hello{Cluster: "test", ClusterId: id, From: "b"}, "", ""},
		{&peerv1.Hello{Cluster: "other", ClusterId: id, From: "b", To: "a"}, "b", "belongs to cluster"},
		{&peerv1.Hello{Cluster: "test", ClusterId: "x", From: "b", To: "a"}, "b", "cluster id"},
		{&peerv1.Hello{Cluster: "test", ClusterId: id, From: "b", To: "c"}, "b", "means node"},
		{&peerv1.Hello{Cluster: "test", ClusterId: id, From: "b", To: "a"}, "c", `comes from node "b", and node "c" opened it`},
	} {
		err := n.welcome(c.hello, c.peer)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v: got %v, want %q", c.hello, err, c.want)
		}
	}
}

func TestConfigurationsAreJudged(t *testing.T) {
	good := Config{NodeID: "a", DataDir: "d", Transport: newFabric().listen()}.Defaults()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Config){
		"node id":       func(c *Config) { c.NodeID = "" },
		"data folder":   func(c *Config) { c.DataDir = "" },
		"transport":     func(c *Config) { c.Transport = nil },
		"gossip":        func(c *Config) { c.BootstrapExpect = 3 },
		"join":          func(c *Config) { c.Join = []string{"x:1"} },
		"trailing logs": func(c *Config) { c.TrailingLogs = 8 },
		"queue":         func(c *Config) { c.QueueBytes = 1 },
		"append":        func(c *Config) { c.MaxAppendEntries = 1025 },
		"lease":         func(c *Config) { c.LeaderLeaseTimeout = -time.Second },
		"batch":         func(c *Config) { c.BatchCommands = -1 },
	} {
		c := good
		change(&c)
		if what == "trailing logs" {
			c.EntriesInFlight = 3
		}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// FuzzHello reads any bytes as the greeting of a raft stream.
func FuzzHello(f *testing.F) {
	f.Add([]byte{0, 0})
	f.Add([]byte{0xff, 0xff, 1})
	f.Add([]byte("\x00\x0a\x0a\x04test\x1a\x01b\x22"))
	f.Fuzz(func(t *testing.T, data []byte) {
		hello, err := readHello(bytes.NewReader(data))
		if err == nil && (hello == nil || len(data) < 2) {
			t.Fatalf("%v of %d bytes", hello, len(data))
		}
	})
}
