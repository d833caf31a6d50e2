package fsm

import (
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

const (
	maxApplications = 10_000
	maxGenerations  = 16
)

// counts are an application's instances by effective mode, and what is deferred in them.
type counts struct{ normal, recovery, draining, deferredMessages, deferredBytes uint64 }

func (c *counts) of(m sluicev1.Mode) *uint64 {
	switch m {
	case recoveryMode:
		return &c.recovery
	case drainingMode:
		return &c.draining
	default:
		return &c.normal
	}
}

// application is a declared application. Its slices and its declaration are replaced, never changed in place,
// so that a copy of the struct is a view for readers.
type application struct {
	uid         uint64
	spec        *sluicev1.Application
	version     uint64
	generations []*logv1.Generation
	counts      counts
	memory      []int64                 // its memory buckets, the one that was begun last last
	filling     filling                 // the memory bucket that is written to; Apply's own
	heldDueMS   int64                   // when its recovery as a whole is told of as held too long; 0: not
	failures    []*logv1.FailurePattern // alike, of late; the one last seen is the last
	failed      uint64                  // patterns of failures begun so far
	settings    settings
	patterns    []*pattern
	seen        *atomic.Pointer[application] // what readers see
	shownAt     uint64                       // of what readers see: the entry from which on it is so, at the latest
	waiting     *low                         // of the instances that wait for an owner, by position
}

func loadApplication(rec *logv1.ApplicationRecord) *application {
	c := rec.Counts
	a := &application{
		uid: rec.Uid, version: rec.Version, generations: rec.Generations, memory: rec.Memory, heldDueMS: rec.HeldDueMs, failures: rec.Failures, failed: rec.FailurePatterns, seen: &atomic.Pointer[application]{}, waiting: &low{},
		counts: counts{c.GetNormal(), c.GetRecovery(), c.GetDraining(), c.GetDeferredMessages(), c.GetDeferredBytes()},
	}
	a.declare(rec.Spec)
	return a
}

func (a *application) declare(spec *sluicev1.Application) {
	a.spec, a.settings, a.patterns = spec, resolve(spec), compile(spec.Patterns)
}

func (a *application) name() string { return a.spec.Name }

// show lets readers see the application as it is after an entry.
func (a *application) show(index uint64) {
	c := *a
	c.shownAt = index
	a.seen.Store(&c)
}

func (a *application) modeCounts() *sluicev1.ModeCounts {
	c := a.counts
	return &sluicev1.ModeCounts{Normal: c.normal, Recovery: c.recovery, Draining: c.draining, DeferredMessages: c.deferredMessages, DeferredBytes: c.deferredBytes}
}

func (a *application) record() *logv1.ApplicationRecord {
	return &logv1.ApplicationRecord{
		Uid: a.uid, Spec: a.spec, Version: a.version, Generations: a.generations, Counts: a.modeCounts(), HeldDueMs: a.heldDueMS, Failures: a.failures, FailurePatterns: a.failed,
		Memory: a.memory,
	}
}

// generation is the position of the last application-wide entry into recovery; 0: none.
func (a *application) generation() uint64 {
	if n := len(a.generations); n > 0 {
		return a.generations[n-1].Position
	}
	return 0
}

// answer is the application as the public contract shows it.
func (a *application) answer() *sluicev1.Application {
	out := proto.Clone(a.spec).(*sluicev1.Application)
	out.Version, out.RecoveryGeneration, out.Counts, out.Recovery = a.version, a.generation(), a.modeCounts(), a.recovery()
	return out
}

// settings are the declaration with its defaults filled in. Limits of 0 are none.
type settings struct {
	messageBytes, inboxMessages, inboxBytes, deferredMessages, deferredBytes, applicationBytes, stateBytes, outgoing uint64

	window, maxAttempts        uint32
	backoffInitial, backoffMax int64 // ms
	deadLetterAtMax, redeliver bool
	dedupWindow                int64 // ms
	history                    uint32
	freeze                     bool
	heldAfter                  int64 // ms; 0: never

	outageInstances uint32
	outageWindow    int64 // ms
}

func orDefault[V any](v *V, def V) V {
	if v == nil {
		return def
	}
	return *v
}

func millis(d *durationpb.Duration, def time.Duration) int64 {
	if d == nil {
		return def.Milliseconds()
	}
	return d.AsDuration().Milliseconds()
}

// resolve fills in the defaults of the public contract.
func resolve(spec *sluicev1.Application) settings {
	l, d, r, sup := spec.Limits, spec.Delivery, spec.Retention, spec.Supervision
	if l == nil {
		l = &sluicev1.Limits{}
	}
	if d == nil {
		d = &sluicev1.Application_Delivery{}
	}
	if r == nil {
		r = &sluicev1.Retention{}
	}
	if sup == nil {
		sup = &sluicev1.Supervision{}
	}
	return settings{
		messageBytes: orDefault(l.MaxMessageBytes, 1<<20), inboxMessages: orDefault(l.MaxInboxMessages, 100_000), inboxBytes: orDefault(l.MaxInboxBytes, 256<<20),
		deferredMessages: orDefault(l.MaxDeferredMessages, 10_000), deferredBytes: orDefault(l.MaxDeferredBytes, 64<<20),
		applicationBytes: orDefault(l.MaxApplicationDeferredBytes, 0), stateBytes: orDefault(l.MaxStateBytes, 1<<20), outgoing: orDefault(l.MaxOutgoing, 100),
		window: max(orDefault(d.Window, 1), 1), maxAttempts: orDefault(d.MaxAttempts, 10),
		backoffInitial: millis(d.BackoffInitial, 500*time.Millisecond), backoffMax: millis(d.BackoffMax, time.Minute),
		deadLetterAtMax: d.OnMaxAttempts == sluicev1.Policy_POLICY_DEAD_LETTER, redeliver: d.OnOwnerLost == sluicev1.Policy_POLICY_REDELIVER,
		dedupWindow: millis(r.DedupWindow, 24*time.Hour), history: orDefault(r.HistoryLimit, 100),
		freeze: spec.ExpiryClock == sluicev1.ExpiryClock_EXPIRY_CLOCK_FREEZE, heldAfter: heldAfter(spec.Supervision),
		outageInstances: orDefault(sup.OutageInstances, defaultOutageInstances), outageWindow: millis(sup.OutageWindow, defaultOutageWindow),
	}
}

// backoff is the wait after the nth failed attempt, doubling from the first.
func (s *settings) backoff(n uint32) int64 {
	wait := max(s.backoffInitial, 1)
	for ; n > 1 && wait < s.backoffMax; n-- {
		wait *= 2
	}
	return max(min(wait, s.backoffMax), 1)
}

// application finds an application, or the refusal that there is none.
func (t *txn) application(name string) (*application, error) {
	if a := t.m.applications[name]; a != nil {
		return a, nil
	}
	if err := checkApplicationName(name); err != nil {
		return nil, err
	}
	return nil, unknownApplication(name)
}

func unknownApplication(name string) error {
	return reason.UnknownApplication.Errorf("there is no application %q: it must be declared first", name)
}

func (t *txn) applyApplication(spec *sluicev1.Application) (*logv1.Outcome, error) {
	spec = proto.Clone(spec).(*sluicev1.Application)
	spec.Version, spec.RecoveryGeneration, spec.Counts, spec.Duplicate, spec.Recovery = 0, 0, nil, false, nil
	if err := checkApplication(spec); err != nil {
		return refused(err)
	}
	a := t.m.applications[spec.Name]
	switch {
	case a == nil && len(t.m.applications) >= maxApplications:
		return refused(reason.Rate.Errorf("there are %d applications already, which is the limit", maxApplications))
	case a == nil:
		a = loadApplication(&logv1.ApplicationRecord{Uid: t.mint(), Spec: spec, Version: 1})
		t.m.applications[spec.Name] = a
		t.added = true
		t.changeApplication(a)
	case !proto.Equal(a.spec, spec):
		a.declare(spec)
		a.version++
		t.changeApplication(a)
	}
	return &logv1.Outcome{Result: &logv1.Outcome_Application{Application: a.answer()}}, nil
}

// enterApplication puts every instance of an application into recovery by its generation alone.
func (t *txn) enterApplication(r *sluicev1.EnterApplicationRecoveryRequest) (*logv1.Outcome, error) {
	a, err := t.application(r.Application)
	if err == nil {
		err = errors.Join(checkText("cause", r.Cause, maxTextBytes), checkRequestID(r.RequestId))
	}
	if err != nil {
		return refused(err)
	}
	return t.once(call{a: a, method: "EnterApplicationRecovery", request: r.RequestId, content: r}, func() (*logv1.Outcome, error) {
		if err := t.enterWhole(a, &logv1.Generation{Cause: r.Cause, Actor: t.actor}); err != nil {
			return nil, err
		}
		return &logv1.Outcome{Result: &logv1.Outcome_Application{Application: a.answer()}}, nil
	})
}

// checkApplication refuses a declaration that could not be carried out.
func checkApplication(s *sluicev1.Application) error {
	if err := checkApplicationName(s.Name); err != nil {
		return err
	}
	if err := errors.Join(checkPatterns(s.Patterns), checkOutage(s.Supervision)); err != nil {
		return err
	}
	if err := checkHeldAfter(s.GetSupervision().GetHeldAfter()); err != nil {
		return err
	}
	if d := s.Delivery; d != nil {
		if w := orDefault(d.Window, 1); w < 1 || w > 1024 {
			return reason.BadField.Errorf("delivery.window is %d; allowed are 1 to 1,024", w)
		}
		if p := d.OnMaxAttempts; p == sluicev1.Policy_POLICY_REDELIVER {
			return reason.BadField.Errorf("delivery.on_max_attempts is %v; allowed are POLICY_RECOVER and POLICY_DEAD_LETTER", p)
		}
		if p := d.OnOwnerLost; p == sluicev1.Policy_POLICY_DEAD_LETTER {
			return reason.BadField.Errorf("delivery.on_owner_lost is %v; allowed are POLICY_RECOVER and POLICY_REDELIVER", p)
		}
		if err := errors.Join(checkSpan("delivery.backoff_initial", d.BackoffInitial, 0, 24*time.Hour), checkSpan("delivery.backoff_max", d.BackoffMax, 0, 24*time.Hour)); err != nil {
			return err
		}
	}
	if r := s.Retention; r != nil {
		if n := orDefault(r.HistoryLimit, 1); n < 1 || n > 10_000 {
			return reason.BadField.Errorf("retention.history_limit is %d; allowed are 1 to 10,000", n)
		}
		return checkSpan("retention.dedup_window", r.DedupWindow, time.Second, 366*24*time.Hour)
	}
	return nil
}

func checkSpan(field string, d *durationpb.Duration, least, most time.Duration) error {
	if d == nil {
		return nil
	}
	if err := d.CheckValid(); err != nil {
		return reason.BadField.Errorf("%s: %v", field, err)
	}
	if v := d.AsDuration(); v < least || v > most {
		return reason.BadField.Errorf("%s is %v; allowed are %v to %v", field, v, least, most)
	}
	return nil
}

func checkPatterns(ps []*sluicev1.Pattern) error {
	if len(ps) > 100 {
		return reason.BadField.Errorf("patterns holds %d; at most 100 are allowed", len(ps))
	}
	names := map[string]bool{}
	for _, p := range ps {
		if err := checkText("patterns.name", p.Name, 256); err != nil {
			return err
		}
		if p.Name == "" || names[p.Name] {
			return reason.BadField.Errorf("pattern %q: names must be given, and differ", p.Name)
		}
		names[p.Name] = true
		if err := checkTypes(p); err != nil {
			return err
		}
	}
	return nil
}

func checkTypes(p *sluicev1.Pattern) error {
	if len(p.Types) == 0 || len(p.Types) > 1000 {
		return reason.BadField.Errorf("pattern %q declares %d types; allowed are 1 to 1,000", p.Name, len(p.Types))
	}
	known := map[string]bool{"": true}
	for _, ty := range p.Types {
		if err := checkKey("type", ty.Name, reason.BadField); err != nil {
			return err
		}
		if known[ty.Name] {
			return reason.BadField.Errorf("pattern %q declares type %q twice", p.Name, ty.Name)
		}
		if _, ok := sluicev1.Suitability_name[int32(ty.Suitable)]; !ok {
			return reason.BadField.Errorf("pattern %q, type %q: suitable is %d; allowed are SUITABLE_NORMAL, SUITABLE_RECOVERY and SUITABLE_BOTH", p.Name, ty.Name, ty.Suitable)
		}
		known[ty.Name] = true
	}
	for _, ty := range p.Types {
		for _, a := range ty.After {
			if !known[a] {
				return reason.BadField.Errorf("pattern %q, type %q: after names %q, which the pattern does not declare; it declares %s", p.Name, ty.Name, a, strings.Join(typeNames(p), ", "))
			}
		}
	}
	return nil
}

func typeNames(p *sluicev1.Pattern) (names []string) {
	for _, ty := range p.Types {
		names = append(names, ty.Name)
	}
	return names
}
