package report

import (
	"bytes"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice/bench/load"
	"sluice/bench/process"
)

func TestASampleIsTakenOfWhatWasMeasured(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	res := load.Result{
		Before:  process.Usage{At: at, Nodes: 5 * time.Second, Own: time.Second, Machine: 10 * time.Second, Written: 1000},
		After:   process.Usage{At: at.Add(2 * time.Second), Nodes: 7 * time.Second, Own: 1500 * time.Millisecond, Machine: 13 * time.Second, Written: 4000},
		Settled: 1200, Repeated: 2, Elections: new(uint64(1)),
	}
	for n := 1000; n > 0; n-- {
		res.Latencies = append(res.Latencies, time.Duration(n)*time.Millisecond)
	}
	got := NewSample("sluice", Closed, 3, load.Plan{Senders: 16, Payload: 256}, res)
	want := Sample{
		Who: "sluice", Mode: Closed, Repetition: 3, Senders: 16, Payload: 256, Rate: 500,
		P50: 501 * time.Millisecond, P99: 991 * time.Millisecond, P999: 1000 * time.Millisecond,
		ServerCPU: 2 * time.Millisecond, LoadCPU: 500 * time.Microsecond, Written: 3, Foreign: 0.25, Elections: res.Elections, Jobs: 1200, Repeated: 2,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestNothingMeasuredIsNoSampleOfAnything(t *testing.T) {
	t.Parallel()
	if got := NewSample("etcd", Closed, 1, load.Plan{}, load.Result{}); got.Rate != 0 || got.P99 != 0 {
		t.Errorf("no job was measured, and the sample says %+v", got)
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   Spread
	}{
		{nil, Spread{}},
		{[]float64{4}, Spread{4, 4, 4}},
		{[]float64{9, 1, 5}, Spread{5, 1, 9}},
		{[]float64{8, 2, 4, 6}, Spread{5, 2, 8}},
	} {
		if got := spread(c.values); got != c.want {
			t.Errorf("spread of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

// samples gives one sample for each rate, in as many repetitions.
func samples(who string, senders int, rates ...float64) (all []Sample) {
	for i, r := range rates {
		all = append(all, Sample{Who: who, Mode: Closed, Repetition: i + 1, Senders: senders, Payload: 256, Rate: r, P99: time.Duration(r) * time.Millisecond, ServerCPU: 90 * time.Microsecond, Written: 2000})
	}
	return all
}

func verdict(t *testing.T, all []Verdict, id string, of string) Verdict {
	t.Helper()
	for _, v := range all {
		if v.ID == id && strings.Contains(v.What, of) {
			return v
		}
	}
	t.Fatalf("no verdict on %s %s", id, of)
	return Verdict{}
}

func TestGoalsAreJudged(t *testing.T) {
	t.Parallel()
	run := append(samples("sluice", 256, 4000, 6000, 5000), samples("nats", 256, 1000, 2000, 1250)...)
	run = append(run, samples("sluice", 16, 100)...)
	run = append(run, samples("nats", 16, 50)...)
	all := Judge(Goals(256), run)
	faster := verdict(t, all, "G1", ", 256 senders")
	if !faster.Measured || !faster.Met || faster.Figure != 4 || faster.Range != (Spread{4, 3, 4}) {
		t.Errorf("5000 against 1250 is %+v", faster)
	}
	if v := verdict(t, all, "G1", ", 16 senders"); !v.Measured || v.Met || v.Figure != 2 {
		t.Errorf("twice at 16 senders, where 2.5 times is wanted, is %+v", v)
	}
	if v := verdict(t, all, "G5", Closed); !v.Measured || v.Met || v.Figure != 4 {
		t.Errorf("four times the latency is %+v", v)
	}
	if v := verdict(t, all, "G6", "1M jobs"); !v.Met || v.Figure < 89.9 || v.Figure > 90.1 {
		t.Errorf("90 s of CPU for 1M jobs is %+v", v)
	}
	if v := verdict(t, all, "G7", ", 256 senders"); v.Met || v.Figure < 2.6 || v.Figure > 2.61 {
		t.Errorf("2000 bytes for 256 are %+v", v)
	}
	if v := verdict(t, all, "G2", ", 256 senders"); v.Measured || v.Met {
		t.Errorf("etcd was not measured, and the verdict is %+v", v)
	}
}

func TestALargePayloadHasItsOwnBound(t *testing.T) {
	t.Parallel()
	for payload, most := range map[int]float64{256: 2, 4096: 1.2} {
		for _, g := range Goals(payload) {
			if g.ID == "G7" && (g.Most != most || g.Payload != payload) {
				t.Errorf("at %d bytes G7 wants %v, want %v", payload, g.Most, most)
			}
		}
	}
}

func TestSamplesOfAnotherPayloadAreNotJudged(t *testing.T) {
	t.Parallel()
	for _, v := range Judge(Goals(4096), append(samples("sluice", 256, 5000), samples("nats", 256, 1000)...)) {
		if v.Measured {
			t.Errorf("%s %s was judged by other messages", v.ID, v.What)
		}
	}
}

func TestVerdictsAreTold(t *testing.T) {
	t.Parallel()
	out := &bytes.Buffer{}
	PrintVerdicts(out, Judge(Goals(256), append(samples("sluice", 64, 5000), samples("etcd", 64, 1000)...)))
	text := out.String()
	if !strings.Contains(text, "| G2 | jobs a second, 64 senders, ours / etcd | 5.00 | 5.00–5.00 | ≥ 3 | met |") {
		t.Errorf("the verdict on G2 is missing:\n%s", text)
	}
	if !strings.Contains(text, "Not measured: G1 jobs a second, 1 senders") {
		t.Errorf("what was not measured is missing:\n%s", text)
	}
}

func TestSamplesAreTold(t *testing.T) {
	t.Parallel()
	out := &bytes.Buffer{}
	all := append(samples("nats", 256, 1000, 3000, 2000), samples("sluice", 16, 500)...)
	all[0].Repeated = 2
	PrintSamples(out, all)
	text := out.String()
	if !strings.Contains(text, "2000 (1000–3000)") || !strings.Contains(text, "500 (500–500)") {
		t.Errorf("medians and ranges are missing:\n%s", text)
	}
	if strings.Index(text, "sluice") > strings.Index(text, "nats") {
		t.Errorf("few senders come first:\n%s", text)
	}
	out.Reset()
	PrintAgainst(out, append(samples("send", 64, 300), samples("bare", 64, 400)...), "bare")
	if got := out.String(); got != "send / bare, 64 senders: 0.75\n" {
		t.Errorf("told %q", got)
	}
}

func TestFailoversAreJudged(t *testing.T) {
	t.Parallel()
	out := &bytes.Buffer{}
	PrintFailovers(out, []Failover{
		{"sluice", 1, 900 * time.Millisecond}, {"sluice", 2, 700 * time.Millisecond}, {"sluice", 3, 1200 * time.Millisecond},
		{"etcd", 1, time.Second}, {"etcd", 2, 900 * time.Millisecond}, {"etcd", 3, 2 * time.Second},
	}, false)
	for _, want := range []string{"| sluice | 3 | 0.90 s | 0.70 s | 1.20 s |", "seconds, median: 0.90, wanted ≤ 1: met", "ours / etcd, medians: 0.90, wanted ≤ 0.8: **missed**"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing:\n%s", want, out)
		}
	}
}

func TestARunIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "run.json")
	run := &Run{Machine: "m", Go: "g", Revision: "r", Began: time.Unix(1000, 0).UTC(), Private: true, Seconds: 8, Samples: samples("etcd", 1, 2), Failovers: []Failover{{"etcd", 1, time.Second}}, Skipped: []string{"rabbitmq: it is not installed"}}
	if err := run.Write(name); err != nil {
		t.Fatal(err)
	}
	again, err := Read(name)
	if err != nil || !reflect.DeepEqual(run, again) {
		t.Errorf("%v\nwrote %+v\nread  %+v", err, run, again)
	}
}

func TestCurves(t *testing.T) {
	t.Parallel()
	all := append(samples("nats", 16, 30, 10, 20), samples("nats", 1, 5)...)
	open := samples("nats", 16, 99)
	open[0].Mode = OpenOwn
	c := Lines(append(all, open...))
	if len(c.Rate) != 1 || len(c.Rate[0].Points) != 2 || c.Rate[0].Points[0].X != 1 || c.Rate[0].Points[1].Y != 20 || c.Rate[0].Points[1].Greatest != 30 {
		t.Errorf("the curve of rates is %+v", c.Rate)
	}
	if got := c.P99[0].Points[1].Y; got < 19.99 || got > 20.01 {
		t.Errorf("the median p99 is %v ms, want 20", got)
	}
}
