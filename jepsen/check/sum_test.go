package check

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/jepsen/history"
)

func TestASumIsThatOfItsRuns(t *testing.T) {
	t.Parallel()
	one := Judge(caseOf(t, good(t))).Sum()
	if !reflect.DeepEqual((Sum{}).Plus(one).Plus(Sum{}), one.Plus(Sum{})) {
		t.Error("nothing added is not nothing")
	}
	two := one.Plus(one)
	if two.Runs != 2 || two.Messages != 2*one.Messages || two.Drains != 10 || two.Faults["kill"].Injected != 6 || len(two.Accepted) != 2*len(one.Accepted) || !slices.IsSorted(two.Accepted) {
		t.Errorf("%+v", two)
	}
	for kind, row := range one.Coverage {
		for phase, n := range row {
			if two.Coverage[kind][phase] != 2*n {
				t.Errorf("%s while hurt by %s: %d, and twice that is %d", phase, kind, n, two.Coverage[kind][phase])
			}
		}
	}
}

func TestASumNamesWhatALookerAsksFor(t *testing.T) {
	t.Parallel()
	h := good(t)
	for n := range 3 {
		h.Faults = append(h.Faults, history.At[history.FaultEvent]{At: time.Second, Value: history.FaultEvent{
			Number: 100 + n, Kind: "power-loss", Text: []string{"power-loss (all) n1 n2", "power-loss (all) n2 n1", "power-loss (leader) n1"}[n], Stage: history.Injected,
		}})
	}
	h.Faults = append(h.Faults, history.At[history.FaultEvent]{Value: history.FaultEvent{Number: 200, Kind: "disk-hang", Stage: history.Skipped}})
	s := Judge(caseOf(t, h)).Sum()
	s = s.Plus(s)
	var out bytes.Buffer
	if err := s.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2 runs: ", "drains interrupted by a new leader: 10", "whole-cluster power losses: 4, acknowledged messages lost: 0",
		"SKIPPED, for they cannot be done here: disk-hang", "kill × snapshot install", "0 violations",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the sum lacks %q:\n%s", want, out.String())
		}
	}
}

// rotated is the good history as if all its faults had been a rotation, and one message got that answer amid it.
func rotated(t *testing.T, answer func(*history.Operation), faults ...string) *Case {
	t.Helper()
	h := good(t)
	o := operation(t, h, func(o *history.Operation) bool { return o.What == history.Send && o.Result == history.OK })
	h.Faults, h.Marks = nil, []history.At[history.Mark]{{At: o.Call + time.Minute, Value: history.Mark{Name: history.FaultsOver}}}
	for n, kind := range faults {
		for after, stage := range []string{history.Injecting, history.Healed} {
			h.Faults = append(h.Faults, history.At[history.FaultEvent]{At: o.Call + time.Duration(2*after-1), Value: history.FaultEvent{Number: n, Kind: kind, Stage: stage}})
		}
	}
	answer(o)
	return caseOf(t, h)
}

func TestARotationThatLosesAMessageIsCaught(t *testing.T) {
	t.Parallel()
	lost := func(o *history.Operation) { o.Result, o.Return = history.Unknown, history.Never }
	refused := func(o *history.Operation) { o.Result, o.Answer.Reason = history.Fail, "NO_LEADER" }
	wrong := func(o *history.Operation) { o.Result, o.Answer.Reason = history.Fail, "NOT_SUITABLE" }
	for _, c := range []struct {
		answer func(*history.Operation)
		faults []string
		want   int
	}{
		{lost, []string{"cert-rotation"}, 1},
		{refused, []string{"cert-rotation"}, 1},
		{wrong, []string{"cert-rotation"}, 0},
		{lost, []string{"cert-rotation", "kill"}, 0},
		{lost, []string{"kill"}, 0},
	} {
		if got := Certificates(rotated(t, c.answer, c.faults...)); len(got) != c.want {
			t.Errorf("while hurt by %v: %v", c.faults, got)
		}
	}
}

func TestWhoWasLetInOrLeftIsTold(t *testing.T) {
	t.Parallel()
	h := good(t)
	for name, text := range map[string]string{history.Admitted: "n1 let in n9", history.Expelled: "n2 is no member any more"} {
		h.Marks = append(h.Marks, history.At[history.Mark]{At: time.Second, Value: history.Mark{Name: name, Text: text}})
	}
	c := caseOf(t, h)
	if got := Certificates(c); len(got) != 1 || got[0].Text != "at 1.0s: n1 let in n9" {
		t.Errorf("%v", got)
	}
	if got := Members(c); len(got) != 1 || got[0].Text != "at 1.0s: n2 is no member any more" {
		t.Errorf("%v", got)
	}
}
