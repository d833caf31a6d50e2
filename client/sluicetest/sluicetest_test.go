package sluicetest_test

import (
	"testing"

	"go.uber.org/goleak"

	"sluice/client"
	"sluice/client/sluicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNodesKeepTheirDataOverARestart(t *testing.T) {
	t.Parallel()
	cluster := sluicetest.Start(t)
	c := cluster.Client(t)
	if _, err := c.Applications().Apply(t.Context(), client.Application{Name: "app"}); err != nil {
		t.Fatal(err)
	}
	before := cluster.Addrs()
	if err := cluster.Restart(0); err != nil {
		t.Fatal(err)
	}
	app, err := c.Applications().Get(t.Context(), "app")
	if err != nil || app.Name != "app" || cluster.Addrs()[0] != before[0] {
		t.Errorf("%+v, %v; addresses %q, before %q", app, err, cluster.Addrs(), before)
	}
}

func TestLeaderIsOneOfTheNodes(t *testing.T) {
	t.Parallel()
	cluster := sluicetest.Start(t, sluicetest.Nodes(3))
	first, err := cluster.Leader()
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Stop(first); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Stop(first); err != nil {
		t.Errorf("stopped again: %v", err)
	}
	if _, err := cluster.Client(t).Applications().Apply(t.Context(), client.Application{Name: "app"}); err != nil {
		t.Errorf("two of three nodes: %v", err)
	}
	second, err := cluster.Leader()
	if err != nil || second == first {
		t.Errorf("the leader was %d and is %d, %v", first, second, err)
	}
}

func TestNumberOfNodesIsChecked(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, sluicetest.MaxNodes + 1} {
		if c, err := sluicetest.New(sluicetest.Nodes(n)); err == nil {
			c.Close()
			t.Errorf("%d nodes: want an error", n)
		}
	}
}
