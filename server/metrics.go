package server

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// callMetrics counts and times calls. Labels are methods and codes alone: nothing that a caller can make up.
type callMetrics struct {
	total    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	// refused counts what no service got to see; those calls are not in total.
	refused *prometheus.CounterVec
}

func newCallMetrics() *callMetrics {
	return &callMetrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "sluice", Subsystem: "server", Name: "calls_total", Help: "Calls that ended, by method and Connect code (ok: success).",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "sluice", Subsystem: "server", Name: "call_seconds", Help: "How long calls took, by method; streams and long polls with their wait.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"method"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "sluice", Subsystem: "server", Name: "calls_in_flight", Help: "Calls being served now, streams and long polls among them.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "sluice", Subsystem: "server", Name: "calls_refused_total", Help: "Calls that were refused before any service saw them, by reason; not in calls_total.",
		}, []string{"reason"}),
	}
}

func (m *callMetrics) begin() { m.inFlight.Inc() }

func (m *callMetrics) end(procedure, code string, took time.Duration) {
	method := strings.TrimPrefix(procedure, "/sluice.v1.")
	m.inFlight.Dec()
	m.total.WithLabelValues(method, code).Inc()
	m.seconds.WithLabelValues(method).Observe(took.Seconds())
}

// newRegistry gathers what /metrics shows: this package's own, the process's, and the node's with raft's.
func newRegistry(calls *callMetrics, node prometheus.Collector) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(calls.total, calls.seconds, calls.inFlight, calls.refused,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), node)
	return registry
}
