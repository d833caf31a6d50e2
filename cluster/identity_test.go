package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	peerv1 "sluice/api/peer/v1"
)

func TestFolderBelongsToOneNodeOfOneCluster(t *testing.T) {
	dir := t.TempDir()
	f, err := openFolder(dir, "a", "one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openFolder(dir, "a", "one"); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second opening: %v", err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ node, cluster, want string }{
		{"b", "one", `belongs to node "a", asked was node "b"`},
		{"a", "two", `belongs to cluster "one", asked was cluster "two"`},
	} {
		if _, err := openFolder(dir, c.node, c.cluster); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v", c, err)
		}
	}
	f, err = openFolder(dir, "a", "one")
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
	if _, err := openFolder(dir, "a", "one"); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a broken node.json: %v", err)
	}
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "groups"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := openFolder(dir, "a", "one"); err == nil || !strings.Contains(err.Error(), "no node.json") {
		t.Errorf("data without node.json: %v", err)
	}
}

func TestPromisesAreKept(t *testing.T) {
	dir := t.TempDir()
	f, err := openFolder(dir, "a", "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.promise("x"); err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	if f, err = openFolder(dir, "a", "one"); err != nil {
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
		want  string
	}{
		{&peerv1.Hello{Cluster: "test", ClusterId: id, From: "b", To: "a"}, ""},
		{&peerv1.Hello{Cluster: "test", ClusterId: id, From: "b"}, ""},
		{&peerv1.Hello{Cluster: "other", ClusterId: id, From: "b", To: "a"}, "belongs to cluster"},
		{&peerv1.Hello{Cluster: "test", ClusterId: "x", From: "b", To: "a"}, "cluster id"},
		{&peerv1.Hello{Cluster: "test", ClusterId: id, From: "b", To: "c"}, "means node"},
	} {
		err := n.welcome(c.hello)
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
