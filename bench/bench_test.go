//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/bench/report"
)

func TestWhatIsComparedIsParsed(t *testing.T) {
	t.Parallel()
	c, err := parseComparison(strings.Fields("-peers nats,etcd -senders 1,64,1024 -seconds 1.5 -warm 0 -repeat 7 -payload 4096"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.peers, []string{"nats", "etcd"}) || !slices.Equal(c.senders, []int{1, 64, 1024}) || c.openSenders != 64 || c.repeat != 7 ||
		c.plan.Length != 1500*time.Millisecond || c.plan.Warm != 0 || c.plan.Payload != 4096 || !c.open {
		t.Errorf("parsed %+v", c)
	}
	alone, err := parseComparison([]string{"-peers", "", "-senders", "1024"})
	if err != nil || len(alone.peers) != 0 || alone.openSenders != 1024 {
		t.Errorf("no peers at all: %+v, %v", alone, err)
	}
}

func TestWrongFlagsAreNamed(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-peers kafka": "kafka", "-senders 0": "-senders", "-senders 1,x": "-senders", "-repeat 0": "-repeat", "-payload 7": "-payload", "-warm -1": "-warm", "-seconds 0": "-seconds",
	} {
		if _, err := parseComparison(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error should name %s: %v", args, want, err)
		}
	}
	if _, err := parseFailover([]string{"-kills", "0"}); err == nil || !strings.Contains(err.Error(), "-kills") {
		t.Errorf("no kills: %v", err)
	}
	if _, err := parse(strings.Fields("-only nothing")); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a part that there is not: %v", err)
	}
	if err := run(t.Context(), []string{"jump"}); err == nil || !strings.Contains(err.Error(), "jump") {
		t.Errorf("a command that there is not: %v", err)
	}
}

func TestRatesOfTheOpenLoops(t *testing.T) {
	t.Parallel()
	sample := func(who string, senders, repetition int, rate float64) report.Sample {
		return report.Sample{Who: who, Mode: report.Closed, Senders: senders, Repetition: repetition, Rate: rate}
	}
	c := &comparison{openSenders: 256, run: report.Run{Samples: []report.Sample{
		sample("sluice", 64, 1, 1), sample("sluice", 256, 1, 8000), sample("sluice", 256, 2, 6000), sample("nats", 256, 1, 3000), sample("restate", 256, 1, 1000),
	}}}
	for _, want := range []struct {
		who        string
		repetition int
		own, even  float64
	}{
		{"sluice", 1, 4000, 1500}, {"nats", 1, 1500, 1500},
		{"sluice", 2, 3000, 0}, // nats was not measured
		{"restate", 1, 500, 0}, // it cannot do so many
	} {
		got := c.openRates(want.who, want.repetition)
		if got[report.OpenOwn] != want.own || got[report.OpenEven] != want.even {
			t.Errorf("%s, repetition %d: %v, want %v and %v", want.who, want.repetition, got, want.own, want.even)
		}
	}
}

func TestTheLongestGapIsFound(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	w := newGapWatch(start)
	w.success(at(5000)) // before anybody watches
	w.reset(at(6000))
	for _, ms := range []int{6100, 6150, 6900, 6910} {
		w.success(at(ms))
	}
	if got := w.end(at(7000)); got != 750*time.Millisecond {
		t.Errorf("the longest gap is %v, want 750 ms", got)
	}
	w.reset(at(8000))
	if got := w.end(at(9000)); got != time.Second {
		t.Errorf("without any success it is %v, want all of the time", got)
	}
}

func TestBacklogs(t *testing.T) {
	t.Parallel()
	got, err := parseBacklogs("1x1000,20x3")
	if err != nil || !slices.Equal(got, []backlog{{1, 1000}, {20, 3}}) {
		t.Errorf("parsed %v, %v", got, err)
	}
	for _, text := range []string{"", "5", "0x1", "1x-1", "axb"} {
		if _, err := parseBacklogs(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
