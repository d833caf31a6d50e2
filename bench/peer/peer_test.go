//go:build linux

package peer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sluice/bench/process"
)

func TestWhatWaitsIsGathered(t *testing.T) {
	t.Parallel()
	queue := make(chan int, 8)
	for n := range 5 {
		queue <- n
	}
	for _, want := range [][]int{{0, 1, 2}, {3, 4}} {
		if got, err := gather(t.Context(), queue, 3); err != nil || !slices.Equal(got, want) {
			t.Errorf("gathered %v, %v, want %v", got, err, want)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if got, err := gather(ended, queue, 3); !errors.Is(err, context.Canceled) {
		t.Errorf("nothing waits and all is over, but %v were gathered, %v", got, err)
	}
}

func TestAPeerThatIsNotBuiltIsNotThere(t *testing.T) {
	t.Parallel()
	tools := t.TempDir()
	for _, name := range []string{"nats", "nats-default", "nats-queue", "etcd", "etcd-each", "restate"} {
		if _, err := Named(name, tools); err == nil || !strings.Contains(err.Error(), "not built") {
			t.Errorf("%s is not built, and Named says %v", name, err)
		}
	}
	for _, binary := range []string{"nats-server", "etcd", "restate-server"} {
		if err := os.WriteFile(filepath.Join(tools, binary), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"nats", "nats-default", "nats-queue", "etcd", "etcd-each", "restate"} {
		if one, err := Named(name, tools); err != nil || one.Name() != name {
			t.Errorf("%s is %v, %v", name, one, err)
		}
	}
	if _, err := Named("kafka", tools); err == nil {
		t.Error("a peer that there is not was made")
	}
}

func TestNATSSyncsWhenItMust(t *testing.T) {
	t.Parallel()
	always := NATS{Always: true}.configure("n1", "data", "a:1", "a:2", "a:3", []string{"a:3", "b:3"})
	if !strings.Contains(always, "sync_interval: always") || !strings.Contains(always, "routes: [nats://a:3, nats://b:3]") {
		t.Errorf("configured as\n%s", always)
	}
	if standard := (NATS{}).configure("n1", "data", "a:1", "a:2", "a:3", nil); strings.Contains(standard, "sync_interval") {
		t.Errorf("the default was changed:\n%s", standard)
	}
}

func TestANodeIsFoundByItsName(t *testing.T) {
	t.Parallel()
	c := &process.Cluster{All: []*process.Node{{Name: "n1", Address: "a"}, {Name: "n2", Address: "b"}}}
	if n, err := named(c, "n2"); err != nil || n.Address != "b" {
		t.Errorf("n2 is %v, %v", n, err)
	}
	if _, err := named(c, "n3"); err == nil {
		t.Error("a node that there is not was found")
	}
	if c.From(0) != "a" || c.From(3) != "b" {
		t.Errorf("nodes are taken in turn, got %s and %s", c.From(0), c.From(3))
	}
}
