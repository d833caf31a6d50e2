package cluster

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/api/reason"
	"sluice/fsm"
)

// metrics is what a node counts. None is labelled by instance.
type metrics struct {
	proposeSeconds, commitSeconds, applySeconds prometheus.Histogram
	batchCommands, batchBytes, applyEntries     prometheus.Histogram
	failures                                    *prometheus.CounterVec
	messages, refused, settled, transitions     *prometheus.CounterVec
	events                                      *prometheus.CounterVec
	commands, duplicates, forwarded, installs   prometheus.Counter
	beatsBeside                                 prometheus.Counter
}

const namespace = "sluice"

func newMetrics() *metrics {
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, []string{label})
	}
	seconds, sizes := prometheus.ExponentialBuckets(0.0005, 2, 15), prometheus.ExponentialBuckets(1, 2, 11)
	return &metrics{
		proposeSeconds: histogram("propose_seconds", "From a call to its outcome, at the node that was called.", seconds),
		commitSeconds:  histogram("commit_seconds", "From a raft entry's start to its application, on the leader.", seconds),
		applySeconds:   histogram("apply_seconds", "Time to apply one batch of raft entries.", seconds),
		batchCommands:  histogram("batch_commands", "Commands in one raft entry.", sizes),
		batchBytes:     histogram("batch_bytes", "Bytes of one raft entry.", prometheus.ExponentialBuckets(64, 4, 9)),
		applyEntries:   histogram("apply_entries", "Raft entries applied in one batch.", sizes),
		failures:       vector("propose_failures_total", "Calls that were not done or of unknown outcome, by reason.", "reason"),
		messages:       vector("messages_total", "Messages accepted, by disposition.", "disposition"),
		refused:        vector("refused_total", "Messages and settlements refused, by reason.", "reason"),
		settled:        vector("settled_total", "Messages settled, by outcome.", "settlement"),
		transitions:    vector("transitions_total", "Changes of mode, by the mode entered.", "mode"),
		events:         vector("events_total", "Events that this node has applied, by type.", "type"),
		commands:       counter("commands_total", "Commands applied."),
		duplicates:     counter("duplicates_total", "Repeats that had no further effect."),
		forwarded:      counter("forwarded_commands_total", "Commands forwarded to the leader."),
		installs:       counter("snapshots_sent_total", "Snapshots sent to other nodes."),
		beatsBeside:    counter("heartbeats_beside_raft_total", "Heartbeats answered while raft was held up by a message for long, as a rule by a slow disk."),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{
		m.proposeSeconds, m.commitSeconds, m.applySeconds, m.batchCommands, m.batchBytes, m.applyEntries, m.failures, m.messages,
		m.refused, m.settled, m.transitions, m.events, m.commands, m.duplicates, m.forwarded, m.installs, m.beatsBeside,
	}
}

// proposed counts a call to Propose.
func (m *metrics) proposed(began time.Time, err error) {
	m.proposeSeconds.Observe(time.Since(began).Seconds())
	if refusal, ok := err.(*reason.Error); ok {
		m.failures.WithLabelValues(string(refusal.Reason)).Inc()
	}
}

func (m *metrics) committed(began time.Time) { m.commitSeconds.Observe(time.Since(began).Seconds()) }

func (m *metrics) batched(b *batch) {
	m.batchCommands.Observe(float64(b.commands))
	m.batchBytes.Observe(float64(b.bytes))
}

// applying measures an apply; the answered function ends it.
func (m *metrics) applying(entries int) (done func()) {
	began := time.Now()
	return func() {
		m.applySeconds.Observe(time.Since(began).Seconds())
		m.applyEntries.Observe(float64(entries))
	}
}

// applied counts what one apply did.
func (m *metrics) applied(c *fsm.Counters) {
	m.commands.Add(float64(c.Commands))
	m.duplicates.Add(float64(c.Duplicates))
	for disposition, n := range map[string]uint64{"accepted": c.Accepted, "deferred": c.Deferred, "recovery": c.Recovery} {
		m.messages.WithLabelValues(disposition).Add(float64(n))
	}
	for r, n := range c.Refused {
		m.refused.WithLabelValues(r).Add(float64(n))
	}
	for kind, n := range c.Settled {
		m.settled.WithLabelValues(label(kind.String(), "SETTLEMENT_")).Add(float64(n))
	}
	for mode, n := range c.Transitions {
		m.transitions.WithLabelValues(label(mode.String(), "MODE_")).Add(float64(n))
	}
	for what, n := range c.Events {
		m.events.WithLabelValues(label(what.String(), "EVENT_")).Add(float64(n))
	}
}

// Descriptions of what is read when it is asked for.
var (
	descInstances     = describe("instances", "Instances, by application and effective mode.", "application", "mode")
	descDeferred      = describe("deferred_messages", "Deferred messages, by application.", "application")
	descDeferredBytes = describe("deferred_bytes", "Bytes of deferred messages, by application.", "application")
	descLeader        = describe("is_leader", "1 on the node that leads, with its duties begun.", "group")
	descApplied       = describe("applied_index", "Last raft index applied.", "group")
	descTerm          = describe("raft_term", "Current raft term.", "group")
	descSessions      = describe("sessions", "Open sessions, as the leader knows them.")
	descPolls         = describe("polls_waiting", "Polls that wait at the leader.")
	descOwned         = describe("owned_instances", "Instances with an owner, as the leader knows them.")
	descPaced         = describe("drains_waiting", "Instances that drain and wait for room because others have work, as the leader knows them.")
	descQueued        = describe("proposals_waiting", "Calls that wait to be proposed.")
	descDisk          = describe("disk_full", "1 while the node takes no commands for want of space.")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

// Collector gives everything this node measures, raft's own metrics among it.
func (n *Node) Collector() prometheus.Collector { return &collector{n} }

type collector struct{ node *Node }

// Describe sends nothing: the collector is unchecked, because raft's metrics are known only once they exist.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the node's state.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, m := range c.node.metrics.all() {
		m.Collect(out)
	}
	if !c.node.cfg.NoLibraryMetrics {
		if sink := librarySink(); sink != nil {
			sink.Collect(out)
		}
	}
	c.collectNode(out)
	c.collectApplications(out)
}

func (c *collector) collectNode(out chan<- prometheus.Metric) {
	n := c.node
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	group := label(firstGroup.folder(), "groups/")
	lead := n.lead.Load()
	gauge(descLeader, flag(lead != nil), group)
	gauge(descApplied, float64(n.group.applied.index()), group)
	if n.raft() != nil {
		gauge(descTerm, float64(n.raft().CurrentTerm()), group)
	}
	gauge(descQueued, float64(len(n.proposer.queue)))
	gauge(descDisk, flag(n.disk.full()))
	if lead != nil {
		sessions, polls, owned, paced := lead.dispatch.counts()
		gauge(descSessions, float64(sessions))
		gauge(descPolls, float64(polls))
		gauge(descOwned, float64(owned))
		gauge(descPaced, float64(paced))
	}
}

func (c *collector) collectApplications(out chan<- prometheus.Metric) {
	applications, err := c.node.group.view().Applications()
	if err != nil {
		c.node.log.Warn("cannot read the applications for the metrics", "error", err)
		return
	}
	gauge := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	for _, a := range applications {
		counts := a.GetCounts()
		gauge(descInstances, counts.GetNormal(), a.Name, "normal")
		gauge(descInstances, counts.GetRecovery(), a.Name, "recovery")
		gauge(descInstances, counts.GetDraining(), a.Name, "draining")
		gauge(descDeferred, counts.GetDeferredMessages(), a.Name)
		gauge(descDeferredBytes, counts.GetDeferredBytes(), a.Name)
	}
}

func flag(set bool) float64 {
	if set {
		return 1
	}
	return 0
}
