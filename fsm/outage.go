package fsm

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

const (
	// maxFailurePatterns bounds the patterns of failures that an application counts at a time.
	maxFailurePatterns = 16
	// patternStep is how far the last time of a pattern may lie back before it is written again, ms: a failure that
	// counts nothing new should cost no write.
	patternStep = 1000

	defaultOutageInstances = 100
	mostOutageInstances    = 1_000_000
	defaultOutageWindow    = time.Minute

	outageActor = "outage"
)

// checkOutage refuses thresholds of an outage that could not be carried out.
func checkOutage(s *sluicev1.Supervision) error {
	if s == nil {
		return nil
	}
	if n := orDefault(s.OutageInstances, 0); n == 1 || n > mostOutageInstances {
		return reason.BadField.Errorf("supervision.outage_instances is %d; allowed are 0 (never) and 2 to 1,000,000", n)
	}
	return checkSpan("supervision.outage_window", s.OutageWindow, time.Second, time.Hour)
}

// countFailure counts an instance among those whose messages fail alike, and gives the outage that this makes of it;
// nil: none. An instance counts for the pattern of its last failure alone, once, so that one whose errors vary is never
// taken for many. What fails during a recovery does not count: else an outage would be declared again and again.
func (t *txn) countFailure(i *instance, text string) *sluicev1.Outage {
	a := i.app
	if a.settings.outageInstances == 0 || i.rec.Mode == recoveryMode {
		return nil
	}
	alike := fingerprint(text)
	p := a.standing(alike, t.now)
	counted := p != nil && i.rec.FailurePattern == p.Number
	if counted && t.now-p.LastTimeMs < patternStep && p.Instances < uint64(a.settings.outageInstances) {
		return nil
	}
	if p == nil {
		a.failed++
		p = &logv1.FailurePattern{Fingerprint: alike, FirstTimeMs: t.now, Number: a.failed}
	}
	p = proto.CloneOf(p)
	p.LastTimeMs, p.Error = t.now, cutCause(text)
	patterns := slices.DeleteFunc(slices.Clone(a.failures), func(o *logv1.FailurePattern) bool { return o.Fingerprint == alike })
	if !counted {
		patterns = uncount(patterns, i.rec)
		p.Instances++
		i.rec.FailurePattern = p.Number
		t.change(i)
	}
	a.failures = append(patterns, p)
	a.failures = a.failures[max(len(a.failures)-maxFailurePatterns, 0):]
	t.changeApplication(a)
	if p.Instances < uint64(a.settings.outageInstances) {
		return nil
	}
	return &sluicev1.Outage{Fingerprint: alike, Error: p.Error, Instances: p.Instances, FirstTime: timestamp(p.FirstTimeMs)}
}

// standing finds the pattern with a fingerprint whose window has not passed; nil: none. Patterns stand in the order in
// which they were last seen.
func (a *application) standing(fingerprint string, now int64) *logv1.FailurePattern {
	for _, p := range a.failures {
		if p.Fingerprint == fingerprint && now-p.FirstTimeMs < a.settings.outageWindow {
			return p
		}
	}
	return nil
}

// uncount takes an instance out of the pattern in which it was counted; a pattern of no instance goes.
func uncount(patterns []*logv1.FailurePattern, r *logv1.InstanceRecord) []*logv1.FailurePattern {
	at := slices.IndexFunc(patterns, func(p *logv1.FailurePattern) bool { return p.Number == r.FailurePattern })
	if at < 0 {
		return patterns
	}
	if patterns[at].Instances <= 1 {
		return slices.Delete(patterns, at, at+1)
	}
	less := proto.CloneOf(patterns[at])
	less.Instances--
	patterns[at] = less
	return patterns
}

// declareOutage enters the whole application into recovery. The attempt that showed the outage has ended, as those of
// the other instances have: its message waits like theirs, so that it is not in doubt, and is not its last one.
func (t *txn) declareOutage(i *instance, l sluicev1.Lane, wait int64, o *sluicev1.Outage) error {
	i.lane(l).HeadAttempts++
	i.lane(l).HeadWaitMs = t.now + wait // until the entry below, which also puts back what waited for that
	t.change(i)
	if err := t.thaw(i); err != nil {
		return err
	}
	seconds := max((t.now-o.FirstTime.AsTime().UnixMilli()+999)/1000, 1)
	cause := cutCause(fmt.Sprintf("outage: %d instances failed alike within %d s: %s", o.Instances, seconds, o.Error))
	if err := t.enterWhole(i.app, &logv1.Generation{Cause: cause, Actor: outageActor, Outage: o}); err != nil {
		return err
	}
	return t.catchUp(i)
}

// enterWhole puts every instance of an application into recovery by its generation alone: the one way of a whole
// application into recovery. What was counted of failures counts no more.
func (t *txn) enterWhole(a *application, g *logv1.Generation) error {
	g.Position, g.Index, g.TimeMs, g.Window = t.mint(), t.index, t.now, a.settings.window
	a.generations = append(slices.Clone(a.generations), g)
	if n := len(a.generations); n > maxGenerations {
		a.generations = a.generations[n-maxGenerations:]
	}
	c := &a.counts
	c.normal, c.recovery, c.draining = 0, c.normal+c.recovery+c.draining, 0
	a.failures = nil
	t.changeApplication(a)
	t.fx.Entered = append(t.fx.Entered, a.name())
	t.fx.Counters.Transitions[recoveryMode]++
	return t.applicationEntered(a, g)
}

// recovery is the last entry of the whole application into recovery; nil: none.
func (a *application) recovery() *sluicev1.ApplicationRecovery {
	n := len(a.generations)
	if n == 0 {
		return nil
	}
	g := a.generations[n-1]
	return &sluicev1.ApplicationRecovery{Generation: g.Position, Time: timestamp(g.TimeMs), Cause: g.Cause, Actor: g.Actor, Outage: g.Outage}
}

// poisonOf tells whether what is in doubt in an instance is so because it failed as the outage's instances did, and
// not because its handler's outcome is unknown.
func (a *application) poisonOf(generation uint64, r *logv1.InstanceRecord) bool {
	at := slices.IndexFunc(a.generations, func(g *logv1.Generation) bool { return g.Position == generation })
	return at >= 0 && r.PoisonFingerprint != "" && a.generations[at].Outage.GetFingerprint() == r.PoisonFingerprint
}
