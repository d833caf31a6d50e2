package check

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"sluice/jepsen/history"
	"sluice/jepsen/model"
)

// wide is a recorded run of five nodes in virtual time, in which messages expired and were put back, transactions followed
// patterns, and sets were held. Of the audits, n1's is whole and every twentieth row of n2's is kept.
func wide(t *testing.T) *history.History { return recorded(t, "wide") }

func TestAWideHistoryHasNoViolations(t *testing.T) {
	t.Parallel()
	v := Judge(caseOf(t, wide(t)))
	var out bytes.Buffer
	if err := v.Print(&out); err != nil {
		t.Fatal(err)
	}
	if v.Count() != 0 {
		t.Errorf("%d violations:\n%s", v.Count(), out.String())
	}
	for _, want := range []string{"12 times put back", "2 times put back later", "20 times expired", "15 times refused: OUT_OF_PATTERN"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the verdict lacks %q:\n%s", want, out.String())
		}
	}
}

// overtaken finds a message that was put back after one behind it had been settled by a handler, as it was itself then.
func overtaken(t *testing.T, lives []*model.Life) *model.Life {
	t.Helper()
	for _, l := range lives {
		if len(l.Revoked) == 0 || l.By == nil {
			continue
		}
		if slices.ContainsFunc(lives, func(o *model.Life) bool {
			return o.Instance == l.Instance && o.Lane == l.Lane && o.Seq > l.Seq && o.By != nil && o.Settled.Before(l.Settled)
		}) {
			return l
		}
	}
	t.Fatal("the wide history has no message that was put back behind its successors")
	return nil
}

func TestWhatWasPutBackIsAnException(t *testing.T) {
	t.Parallel()
	t.Run("I3 only by an operator", func(t *testing.T) {
		t.Parallel()
		c := caseOf(t, wide(t))
		i := overtaken(t, c.Model.Lives).Instance
		for _, l := range c.Model.Lives {
			if l.Instance == i {
				l.Revoked = nil
			}
		}
		caught(t, Judge(c), "I3")
	})
	t.Run("I2 told before it was put back", func(t *testing.T) {
		t.Parallel()
		c := caseOf(t, wide(t))
		l := overtaken(t, c.Model.Lives)
		c.Operations = append(c.Operations, history.Operation{
			ID: "told", What: history.Await, Result: history.OK, Answer: history.Answer{Settlement: l.Revoked[0].Settlement},
			Args: history.Args{Application: l.Instance.ID.Application, Instance: l.Instance.ID.Key, MessageID: l.Message.Id},
		})
		if found := I2(c); len(found) > 0 {
			t.Errorf("it was true when it was told: %v", found)
		}
		c.Operations[len(c.Operations)-1].Answer.Settlement = "skipped"
		if len(I2(c)) == 0 {
			t.Error("it was never settled so")
		}
	})
	t.Run("I6 from then on", func(t *testing.T) {
		t.Parallel()
		c := caseOf(t, wide(t))
		deferred, later := overtakable(c.Model.Lives)
		if later == nil {
			t.Fatal("no message was accepted after a deferred one")
		}
		before := model.Point{Index: later.Settled.Index - 1}
		deferred.Revoked = []model.Revoked{{Ending: deferred.Ending, At: before}}
		deferred.Settled = model.Point{Index: later.Settled.Index + 1}
		caught(t, Judge(c), "I6")
	})
	t.Run("outside", func(t *testing.T) {
		t.Parallel()
		h := wide(t)
		c := caseOf(t, h)
		e := event(t, h, func(e *history.WorkerEvent) bool { return e.Deed == history.Effect && e.Application == "accounts" })
		e.Before = 1
		if len(Outside(c)) != 1 {
			t.Error("an effect that was left twice")
		}
		c.numbers[keyOf(*e)].Revoked = []model.Revoked{{}}
		if len(Outside(c)) != 0 {
			t.Error("an operator put the message back: its handler may repeat its effect")
		}
	})
	t.Run("I2 another reply", func(t *testing.T) {
		t.Parallel()
		h := wide(t)
		operation(t, h, func(o *history.Operation) bool { return o.What == history.Await && o.Answer.HasReply }).Answer.Reply = "another"
		caught(t, Judge(caseOf(t, h)), "I2")
	})
}
