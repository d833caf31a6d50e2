package cluster

import (
	"strings"
	"sync"

	gometrics "github.com/hashicorp/go-metrics"
	gometricsprom "github.com/hashicorp/go-metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"
)

// librarySink is where raft, its log stores and gossip put their metrics. These libraries know one sink a process, so
// the nodes of one process share it.
var librarySink = sync.OnceValue(func() prometheus.Collector {
	options := gometricsprom.DefaultPrometheusOpts
	options.Expiration = 0
	options.Registerer = prometheus.NewRegistry()
	inner, err := gometricsprom.NewPrometheusSinkFrom(options)
	if err != nil {
		return nil
	}
	cfg := gometrics.DefaultConfig("")
	cfg.EnableHostname, cfg.EnableRuntimeMetrics = false, false
	sink := &summedSink{PrometheusSink: inner}
	if _, err := gometrics.NewGlobal(cfg, sink); err != nil {
		return nil
	}
	return sink
})

// summedSink keeps the sum and the number of a library's samples. Its own sink would keep quantiles of the last ten
// seconds, too: raft takes a dozen samples for each entry, and sorting them was four hundredths of what the nodes did for
// a lone message.
type summedSink struct {
	*gometricsprom.PrometheusSink
	// samples holds a prometheus.Summary for each name with its labels.
	samples sync.Map
}

// AddSample adds a sample.
func (s *summedSink) AddSample(name []string, value float32) { s.AddSampleWithLabels(name, value, nil) }

// AddSampleWithLabels adds a sample.
func (s *summedSink) AddSampleWithLabels(name []string, value float32, labels []gometrics.Label) {
	key := strings.Join(name, "_")
	for _, l := range labels {
		key += ";" + l.Name + "=" + l.Value
	}
	kept, ok := s.samples.Load(key)
	if !ok {
		kept, _ = s.samples.LoadOrStore(key, newSummary(name, labels))
	}
	kept.(prometheus.Summary).Observe(float64(value))
}

// forbidden are the characters of libraries' names that a series' name must not have.
var forbidden = strings.NewReplacer(" ", "_", ".", "_", "=", "_", "-", "_", "/", "_")

func newSummary(name []string, labels []gometrics.Label) prometheus.Summary {
	series := forbidden.Replace(strings.Join(name, "_"))
	constant := prometheus.Labels{}
	for _, l := range labels {
		constant[l.Name] = l.Value
	}
	return prometheus.NewSummary(prometheus.SummaryOpts{Name: series, Help: series, ConstLabels: constant})
}

// Collect gives all series.
func (s *summedSink) Collect(out chan<- prometheus.Metric) {
	s.PrometheusSink.Collect(out)
	s.samples.Range(func(_, kept any) bool {
		kept.(prometheus.Summary).Collect(out)
		return true
	})
}
