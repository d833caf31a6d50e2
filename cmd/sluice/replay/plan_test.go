package replay

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// logOf makes a log: each case is a list of times in seconds, one event each.
func logOf(cases ...[]int) string {
	var b strings.Builder
	b.WriteString("<log>")
	for i, times := range cases {
		fmt.Fprintf(&b, `<trace><string key="concept:name" value="case %d"/>`, i)
		for n, at := range times {
			fmt.Fprintf(&b, `<event><string key="concept:name" value="step %d"/><date key="time:timestamp" value="2026-01-01T00:%02d:%02dZ"/></event>`, n, at/60, at%60)
		}
		b.WriteString("</trace>")
	}
	return b.String() + "</log>"
}

func mustRead(t *testing.T, text string, cases int) *Plan {
	t.Helper()
	p, err := Read(strings.NewReader(text), cases)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *Plan) transcript() string {
	var all []string
	for _, e := range p.order {
		all = append(all, fmt.Sprintf("%s:%d", strings.TrimPrefix(e.of.key, "case "), e.place))
	}
	return strings.Join(all, " ")
}

func TestCasesAreInterleavedByTimeAndKeepTheirOrder(t *testing.T) {
	t.Parallel()
	p := mustRead(t, logOf([]int{1, 9, 3}, []int{2, 2, 10}, nil), 0)
	// The third event of case 0 has a clock that runs behind: it counts as at 9.
	if got, want := p.transcript(), "0:0 1:0 1:1 0:1 0:2 1:2"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
	if p.Cases() != 3 || p.Events() != 6 {
		t.Errorf("%d cases and %d events", p.Cases(), p.Events())
	}
	if limited := mustRead(t, logOf([]int{1}, []int{2}), 1); limited.Cases() != 1 || limited.Events() != 1 {
		t.Errorf("limited to one case, there are %d with %d events", limited.Cases(), limited.Events())
	}
	if _, err := Read(strings.NewReader("<log><trace/></log>"), 0); err == nil {
		t.Error("a log without events was taken")
	}
}

func TestNamesAreMadeKeys(t *testing.T) {
	t.Parallel()
	if got := name("a\tb\u0085c"); got != "a b c" {
		t.Errorf("control characters: %q", got)
	}
	long, other := strings.Repeat("ü", 200), strings.Repeat("ü", 201)
	if a, b := name(long), name(other); len(a) > maxName || !utf8.ValidString(a) || a == b {
		t.Errorf("long names: %q and %q", a, b)
	}
	taken := map[string]bool{}
	if a, b := freeName(taken, "x\ny"), freeName(taken, "x y"); a == b {
		t.Errorf("two cases are called %q", a)
	}
}

func TestStepsKeepEachCaseWithOneSenderAndItsRecoveryInOrder(t *testing.T) {
	t.Parallel()
	var cases [][]int
	for i := range 40 {
		cases = append(cases, []int{i, i + 10, i + 20, i + 30})
	}
	p := mustRead(t, logOf(cases...), 0)
	lists := p.steps(3, 0.25, 7)
	of := map[*plannedCase]int{}
	next := map[*plannedCase]int{}
	inRecovery := map[*plannedCase]bool{}
	entered, completed, deferred := 0, 0, 0
	for n, list := range lists {
		for _, s := range list {
			switch s.do {
			case enters:
				entered++
				inRecovery[s.of] = true
			case completes:
				if !inRecovery[s.of] {
					t.Errorf("%s is completed before it is in recovery", s.of.key)
				}
				completed++
				inRecovery[s.of] = false
			case sends:
				c := s.event.of
				if was, ok := of[c]; ok && was != n {
					t.Errorf("%s is with two senders", c.key)
				}
				of[c] = n
				if s.event.place != next[c] {
					t.Errorf("%s: event %d comes where %d should", c.key, s.event.place, next[c])
				}
				next[c]++
				if s.event.deferred != inRecovery[c] {
					t.Errorf("%s: event %d is planned as deferred: %v", c.key, s.event.place, s.event.deferred)
				}
				if s.event.deferred {
					deferred++
				}
			}
		}
	}
	if entered != 10 || completed != 10 || deferred < 10 {
		t.Errorf("%d recoveries were begun and %d completed, %d events are in them", entered, completed, deferred)
	}
	for _, c := range p.cases {
		if next[c] != 4 {
			t.Errorf("%s: %d events are sent", c.key, next[c])
		}
	}
}

func TestTheSeedDecides(t *testing.T) {
	t.Parallel()
	plan := func(seed uint64) string {
		p := mustRead(t, logOf([]int{1, 2, 3}, []int{1, 2, 3}, []int{1, 2, 3}, []int{1, 2, 3}), 0)
		var b strings.Builder
		for _, s := range p.steps(1, 0.5, seed)[0] {
			fmt.Fprint(&b, s.do)
		}
		return b.String()
	}
	if one, again := plan(1), plan(1); one != again {
		t.Error("the same seed gave two plans")
	}
	different := false
	for seed := range uint64(10) {
		different = different || plan(seed) != plan(1)
	}
	if !different {
		t.Error("the seed has no influence")
	}
}
