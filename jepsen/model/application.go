package model

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
)

// application is a declaration, with what its instances share.
type application struct {
	name       string
	patterns   []pattern
	window     int
	attempts   int // 0: for ever
	backoff    [2]int64
	deadLetter bool // at the last attempt
	redeliver  bool
	freeze     bool // the time to expiry stands still in recovery
	limits     limits
	// So many instances that fail alike within so many milliseconds are an outage; 0: never.
	outageInstances int
	outageWindow    int64
	failures        []*alike
	// entered is the last application-wide entry, generation its number as far as it was told; outages are what the
	// failures that brought an entry about have in common.
	entered    int
	generation uint64
	outages    map[int]string
	instances  map[*Instance]bool
}

// limits of an application; 0: none.
type limits struct {
	message, inboxMessages, inboxBytes, deferredMessages, deferredBytes, applicationBytes, state, outgoing uint64
}

// pattern is a message exchange pattern, with its types by name.
type pattern struct {
	name  string
	types map[string]*sluicev1.MessageType
}

func (m *Machine) declare(d *sluicev1.Application) error {
	a := m.applications[d.Name]
	if a == nil {
		a = &application{name: d.Name, outages: map[int]string{}, instances: map[*Instance]bool{}}
		m.applications[d.Name] = a
	}
	a.patterns = nil
	for _, p := range d.Patterns {
		types := map[string]*sluicev1.MessageType{}
		for _, t := range p.Types {
			types[t.Name] = t
		}
		a.patterns = append(a.patterns, pattern{p.Name, types})
	}
	p := d.GetDelivery()
	if p == nil {
		p = &sluicev1.Application_Delivery{}
	}
	a.window, a.attempts = orStandard(p.Window, 1), orStandard(p.MaxAttempts, 10)
	a.backoff = [2]int64{milliseconds(p.BackoffInitial, 500*time.Millisecond), milliseconds(p.BackoffMax, time.Minute)}
	a.deadLetter = p.OnMaxAttempts == sluicev1.Policy_POLICY_DEAD_LETTER
	a.redeliver = p.OnOwnerLost == sluicev1.Policy_POLICY_REDELIVER
	a.freeze = d.ExpiryClock == sluicev1.ExpiryClock_EXPIRY_CLOCK_FREEZE
	s := d.GetSupervision()
	if s == nil {
		s = &sluicev1.Supervision{}
	}
	a.outageInstances, a.outageWindow = orStandard(s.OutageInstances, 100), milliseconds(s.OutageWindow, time.Minute)
	a.limits = limitsOf(d.GetLimits())
	if memory := milliseconds(d.GetRetention().GetDedupWindow(), 24*time.Hour); m.memory == 0 || memory < m.memory {
		m.memory = memory
	}
	return nil
}

func limitsOf(l *sluicev1.Limits) limits {
	if l == nil {
		l = &sluicev1.Limits{}
	}
	return limits{
		message: limit(l.MaxMessageBytes, 1<<20), inboxMessages: limit(l.MaxInboxMessages, 100_000), inboxBytes: limit(l.MaxInboxBytes, 256<<20),
		deferredMessages: limit(l.MaxDeferredMessages, 10_000), deferredBytes: limit(l.MaxDeferredBytes, 64<<20),
		applicationBytes: limit(l.MaxApplicationDeferredBytes, 0), state: limit(l.MaxStateBytes, 1<<20), outgoing: limit(l.MaxOutgoing, 100),
	}
}

func limit(given *uint64, standard uint64) uint64 {
	if given == nil {
		return standard
	}
	return *given
}

func orStandard(given *uint32, standard int) int {
	if given == nil {
		return standard
	}
	return int(*given)
}

func milliseconds(given *durationpb.Duration, standard time.Duration) int64 {
	if given == nil {
		return standard.Milliseconds()
	}
	return given.AsDuration().Milliseconds()
}

// wait is the backoff after the nth failed attempt: it doubles from the first on, within the bound.
func (a *application) wait(n int, asked *time.Duration) int64 {
	if asked != nil {
		return max(asked.Milliseconds(), 1)
	}
	wait := max(a.backoff[0], 1)
	for range n - 1 {
		wait = min(2*wait, max(a.backoff[1], 1))
	}
	return max(min(wait, a.backoff[1]), 1)
}

// pattern finds a pattern by its name; nil: it is not declared.
func (a *application) pattern(name string) *pattern {
	if at := slices.IndexFunc(a.patterns, func(p pattern) bool { return p.name == name }); at >= 0 {
		return &a.patterns[at]
	}
	return nil
}

// opening finds the first pattern in which a type opens; nil: there is none.
func (a *application) opening(typ string) *pattern {
	if at := slices.IndexFunc(a.patterns, func(p pattern) bool { return p.types[typ].GetOpens() }); at >= 0 {
		return &a.patterns[at]
	}
	return nil
}

// byName is how a type is suitable where no pattern is declared.
func byName(typ string) sluicev1.Suitability {
	if strings.HasPrefix(typ, "recovery.") {
		return sluicev1.Suitability_SUITABLE_RECOVERY
	}
	return sluicev1.Suitability_SUITABLE_NORMAL
}
