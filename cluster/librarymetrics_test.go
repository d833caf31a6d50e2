package cluster

import (
	"maps"
	"strings"
	"testing"

	gometrics "github.com/hashicorp/go-metrics"
	gometricsprom "github.com/hashicorp/go-metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"
)

func TestSamplesOfLibrariesAreSummedByTheirLabels(t *testing.T) {
	t.Parallel()
	inner, err := gometricsprom.NewPrometheusSinkFrom(gometricsprom.PrometheusOpts{Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	sink := &summedSink{PrometheusSink: inner}
	for _, peer := range []string{"a", "b"} {
		sink.AddSampleWithLabels([]string{"raft", "rpc.time"}, 2, []gometrics.Label{{Name: "peer", Value: peer}})
	}
	sink.AddSampleWithLabels([]string{"raft", "rpc.time"}, 3, []gometrics.Label{{Name: "peer", Value: "b"}})
	sink.AddSample([]string{"raft", "apply-time"}, 4)
	sink.IncrCounter([]string{"raft", "elections"}, 1)
	registry := prometheus.NewRegistry()
	if err := registry.Register(sink); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sums, counts := map[string]float64{}, map[string]uint64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name = strings.Join([]string{name, l.GetName(), l.GetValue()}, " ")
			}
			sums[name], counts[name] = m.GetSummary().GetSampleSum()+m.GetCounter().GetValue(), m.GetSummary().GetSampleCount()
		}
	}
	wantSums := map[string]float64{"raft_rpc_time peer a": 2, "raft_rpc_time peer b": 5, "raft_apply_time": 4, "raft_elections": 1}
	wantCounts := map[string]uint64{"raft_rpc_time peer a": 1, "raft_rpc_time peer b": 2, "raft_apply_time": 1, "raft_elections": 0}
	if !maps.Equal(sums, wantSums) || !maps.Equal(counts, wantCounts) {
		t.Fatalf("sums %v of %v", sums, counts)
	}
}
