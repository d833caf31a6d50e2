package check

import (
	"bytes"
	"compress/gzip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/jepsen/history"
	"sluice/jepsen/model"
)

// good is a recorded run of five nodes: a transfer, three kills, a worker that was killed. Of the audits, n1's is whole
// and every twentieth row of n2's is kept.
func good(t *testing.T) *history.History { return recorded(t, "good") }

func recorded(t *testing.T, name string) *history.History {
	t.Helper()
	file, err := os.Open("testdata/" + name + ".jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	h, err := history.Read(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func caseOf(t *testing.T, h *history.History) *Case {
	t.Helper()
	c, err := New(h)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAGoodHistoryHasNoViolations(t *testing.T) {
	t.Parallel()
	v := Judge(caseOf(t, good(t)))
	var out bytes.Buffer
	if err := v.Print(&out); err != nil {
		t.Fatal(err)
	}
	if v.Count() != 0 {
		t.Errorf("%d violations:\n%s", v.Count(), out.String())
	}
	for _, want := range []string{"worker-kill  1", "drains interrupted by a new leader: 5", "I12           0"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the verdict lacks %q:\n%s", want, out.String())
		}
	}
}

// operation finds the first operation of a kind.
func operation(t *testing.T, h *history.History, fits func(*history.Operation) bool) *history.Operation {
	t.Helper()
	for n := range h.Operations {
		if fits(&h.Operations[n]) {
			return &h.Operations[n]
		}
	}
	t.Fatal("the good history has no such operation")
	return nil
}

// event finds the first thing of a kind that a worker noted.
func event(t *testing.T, h *history.History, fits func(*history.WorkerEvent) bool) *history.WorkerEvent {
	t.Helper()
	for n := range h.Worker {
		if fits(&h.Worker[n].Value) {
			return &h.Worker[n].Value
		}
	}
	t.Fatal("the good history has no such event")
	return nil
}

func isSend(o *history.Operation) bool {
	return o.What == history.Send && o.Result == history.OK && !o.Answer.Duplicate
}

func TestEachCheckerCatchesABadHistory(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		invariant, name string
		spoil           func(*testing.T, *history.History)
	}{
		{"I1", "a receipt of what was never committed", func(t *testing.T, h *history.History) {
			operation(t, h, isSend).Args.MessageID = "ghost"
		}},
		{"I1", "a receipt with another number", func(t *testing.T, h *history.History) { operation(t, h, isSend).Answer.Seq += 1000 }},
		{"I2", "an awaited settlement that does not stand", func(t *testing.T, h *history.History) {
			operation(t, h, func(o *history.Operation) bool {
				return o.What == history.Await && o.Answer.Settlement == "completed"
			}).Answer.Settlement = "skipped"
		}},
		{"I2", "a settlement under an epoch that it was not under", func(t *testing.T, h *history.History) {
			event(t, h, func(e *history.WorkerEvent) bool { return e.Deed == history.Settled && e.Seq > 0 }).Epoch += 7
		}},
		{"I3", "deliveries out of order", swapDeliveries},
		{"I4", "a message delivered from the other lane's mode", func(t *testing.T, h *history.History) {
			event(t, h, func(e *history.WorkerEvent) bool { return e.Deed == history.Deliver && e.Lane == "normal" }).Lane = "recovery"
		}},
		{"I8", "an epoch delivered to two", func(t *testing.T, h *history.History) {
			event(t, h, func(e *history.WorkerEvent) bool { return e.Deed == history.Deliver && e.Seq > 2 }).Worker = "another"
		}},
		{"I9", "a read of what never was", func(t *testing.T, h *history.History) {
			operation(t, h, func(o *history.Operation) bool { return o.What == history.GetInstance && o.Result == history.OK }).Answer.NextSeq += 100
		}},
		{"I9", "a message that took effect before it was sent", func(t *testing.T, h *history.History) {
			o := operation(t, h, isSend)
			o.Call, o.Return = time.Hour, 2*time.Hour
		}},
		{"I10", "a duplicate with another answer", func(t *testing.T, h *history.History) {
			operation(t, h, func(o *history.Operation) bool { return o.What == history.Send && o.Answer.Duplicate }).Answer.Epoch++
		}},
		{"I12", "replicas that applied different entries", func(_ *testing.T, h *history.History) { h.Audits["n2"][5].Value.Hash = "another" }},
		{"I12", "replicas with different states", func(_ *testing.T, h *history.History) { h.Audits["n2"][5].Value.Digest = "another" }},
		{"state", "a handler that saw another state", func(t *testing.T, h *history.History) {
			event(t, h, func(e *history.WorkerEvent) bool { return e.Deed == history.Deliver && e.Attempt == 1 && e.Seq > 2 }).State = "another"
		}},
		{"state", "a recovery handler that saw another state", func(t *testing.T, h *history.History) {
			event(t, h, func(e *history.WorkerEvent) bool { return e.Deed == history.Recover }).State = "another"
		}},
		{"outside", "an effect left twice", func(t *testing.T, h *history.History) {
			event(t, h, func(e *history.WorkerEvent) bool { return e.Deed == history.Effect && e.Application == "accounts" }).Before = 1
		}},
		{"liveness", "a node that is sent a snapshot again and again", func(_ *testing.T, h *history.History) {
			for n := range time.Duration(9) {
				h.Audits["n1"] = append(h.Audits["n1"], history.At[history.Audit]{At: n, Value: history.Audit{Node: "n1", Index: 7, Snapshot: true}})
			}
		}},
		{"liveness", "a run without an end", func(_ *testing.T, h *history.History) { h.Marks = nil }},
		{"liveness", "a cluster that did not become quiet", func(_ *testing.T, h *history.History) {
			h.Marks[len(h.Marks)-1].Value.Text = "something is unsettled"
		}},
	} {
		t.Run(test.invariant+" "+test.name, func(t *testing.T) {
			t.Parallel()
			h := good(t)
			test.spoil(t, h)
			caught(t, Judge(caseOf(t, h)), test.invariant)
		})
	}
}

func TestAHistoryWithoutAuditsIsNotJudged(t *testing.T) {
	t.Parallel()
	h := good(t)
	h.Audits = nil
	if _, err := New(h); err == nil {
		t.Error("a run that was broken off has a verdict")
	}
}

func caught(t *testing.T, v *Verdict, invariant string) {
	t.Helper()
	if len(v.Violations[invariant]) == 0 {
		t.Errorf("%s does not catch it; what is caught is %v", invariant, v.Violations)
	}
}

// swapDeliveries has two deliveries of one epoch change places.
func swapDeliveries(t *testing.T, h *history.History) {
	t.Helper()
	first := map[epochKey]*history.WorkerEvent{}
	for n := range h.Worker {
		e := &h.Worker[n].Value
		if e.Deed != history.Deliver || e.Lane != "normal" {
			continue
		}
		key := epochKey{e.Application, e.Instance, e.Epoch}
		if before := first[key]; before != nil && before.Seq < e.Seq {
			before.Seq, e.Seq = e.Seq, before.Seq
			return
		}
		first[key] = e
	}
	t.Fatal("the good history has no two deliveries of one epoch")
}

// TestAModelThatIsSpoiltIsCaught spoils what the model made of the committed order: what no client can see.
func TestAModelThatIsSpoiltIsCaught(t *testing.T) {
	t.Parallel()
	t.Run("I5 a message that waited for nothing", func(t *testing.T) {
		t.Parallel()
		c := caseOf(t, good(t))
		c.Faults = nil
		for _, l := range c.Model.Lives {
			if l.Disposition == "accepted" && normalWithin(l) {
				c.times[l.Settled.Index] += time.Minute
				caught(t, Judge(c), "I5")
				return
			}
		}
		t.Fatal("no message was accepted by an instance that stayed normal")
	})
	t.Run("I3 a message settled before its neighbour", func(t *testing.T) {
		t.Parallel()
		c := caseOf(t, good(t))
		all := c.Model.Taken
		for n, first := range all {
			for m := n + 1; m < len(all); m++ {
				if later := all[m]; later.Life.Instance == first.Life.Instance && later.Life.Lane == first.Life.Lane {
					all[n].Life, all[m].Life = later.Life, first.Life
					caught(t, Judge(c), "I3")
					return
				}
			}
		}
		t.Fatal("no lane had two messages")
	})
	t.Run("I6 a deferred message overtaken", func(t *testing.T) {
		t.Parallel()
		c := caseOf(t, good(t))
		deferred, later := overtakable(c.Model.Lives)
		if later == nil {
			t.Fatal("no message was accepted after a deferred one")
		}
		deferred.Settled = model.Point{Index: later.Settled.Index + 1}
		for n := range c.Model.Taken {
			if c.Model.Taken[n].Life == deferred {
				c.Model.Taken[n].At = deferred.Settled
			}
		}
		caught(t, Judge(c), "I6")
	})
	t.Run("I7 an epoch that runs back", func(t *testing.T) {
		t.Parallel()
		c := caseOf(t, good(t))
		for _, i := range c.Model.Instances() {
			i.Versions[len(i.Versions)-1].Epoch = &model.Epoch{Number: 1}
		}
		caught(t, Judge(c), "I7")
	})
}

// TestWhatFailedForGoodIsNoBacklog: the last failed attempt ends a message as a settlement does.
func TestWhatFailedForGoodIsNoBacklog(t *testing.T) {
	t.Parallel()
	i := &model.Instance{ID: model.ID{Application: "feeds", Key: "i"}}
	failed := &model.Life{Instance: i, Seq: 1, Told: "deferred", Accepted: model.Point{Index: 1}, Ending: model.Ending{
		Settlement: "dead-lettered", Settled: model.Point{Index: 2}, By: &sluicev1.Settlement{Outcome: sluicev1.Outcome_OUTCOME_FAILED}}}
	later := &model.Life{Instance: i, Seq: 2, Told: "accepted", Accepted: model.Point{Index: 3}}
	m := model.New()
	m.Lives, m.Taken = []*model.Life{failed, later}, []model.Taken{{At: model.Point{Index: 4}, Life: later}}
	c := &Case{History: &history.History{}, Model: m}
	if found := I6(c); len(found) > 0 {
		t.Error(found)
	}
	failed.Settled.Index = 5
	if found := I6(c); len(found) == 0 {
		t.Error("a deferred message was overtaken")
	}
}

func overtakable(lives []*model.Life) (deferred, later *model.Life) {
	for _, d := range lives {
		for _, l := range lives {
			if d.Disposition == "deferred" && l.Instance == d.Instance && l.Disposition == "accepted" && l.Seq > d.Seq && l.By != nil && l.Settlement == "completed" {
				return d, l
			}
		}
	}
	return nil, nil
}

// TestTheModelCatchesOutcomesThatWereNotPromised spoils what the cluster itself answered, command by command.
func TestTheModelCatchesOutcomesThatWereNotPromised(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		invariant, name string
		spoil           func(*logv1.Command, *logv1.Outcome) bool
	}{
		{"I4", "a message accepted that had to be deferred", func(_ *logv1.Command, o *logv1.Outcome) bool {
			for _, r := range o.GetSend().GetResults() {
				if r.GetReceipt().GetDisposition() == 2 {
					r.Receipt.Disposition = 1
					return true
				}
			}
			return false
		}},
		{"I4", "a recovery message accepted in normal mode", func(_ *logv1.Command, o *logv1.Outcome) bool {
			for _, r := range o.GetSend().GetResults() {
				if r.GetError().GetReason() == "NOT_SUITABLE" {
					r.Error = nil
					return true
				}
			}
			return false
		}},
		{"I3", "a number that is not the next", func(_ *logv1.Command, o *logv1.Outcome) bool {
			for _, r := range o.GetSend().GetResults() {
				if r.GetReceipt() != nil {
					r.Receipt.Seq++
					return true
				}
			}
			return false
		}},
		{"I7", "an epoch that is another", func(_ *logv1.Command, o *logv1.Outcome) bool {
			for _, r := range o.GetSend().GetResults() {
				if r.GetReceipt().GetSeq() > 5 {
					r.Receipt.Epoch++
					return true
				}
			}
			return false
		}},
		{"I10", "a repeat that is told to be the first", func(_ *logv1.Command, o *logv1.Outcome) bool {
			for _, r := range o.GetSend().GetResults() {
				if r.GetReceipt().GetDuplicate() {
					r.Receipt.Duplicate = false
					return true
				}
			}
			return false
		}},
		{"I10", "a repeat that is refused", func(_ *logv1.Command, o *logv1.Outcome) bool {
			if !o.GetInstance().GetDuplicate() {
				return false
			}
			o.Result, o.Fault = nil, &sluicev1.Fault{Reason: "NOT_IN_RECOVERY"}
			return true
		}},
		{"I7", "a settlement under an old epoch taken", func(_ *logv1.Command, o *logv1.Outcome) bool {
			for _, r := range o.GetSettle().GetResults() {
				if r.GetError().GetReason() == "STALE_EPOCH" {
					r.Error = nil
					return true
				}
			}
			return false
		}},
		{"I8", "an assignment that took no effect", func(c *logv1.Command, o *logv1.Outcome) bool {
			if c.GetAssign() == nil || o.GetProgress().GetDone() == 0 {
				return false
			}
			o.GetProgress().Done--
			return true
		}},
		{"I9", "an entry that left the mode as it was", func(_ *logv1.Command, o *logv1.Outcome) bool {
			if o.GetInstance().GetMode() != 2 {
				return false
			}
			o.GetInstance().Mode = 1
			return true
		}},
	} {
		t.Run(test.invariant+" "+test.name, func(t *testing.T) {
			t.Parallel()
			h := good(t)
			spoilOutcome(t, h, test.spoil)
			caught(t, Judge(caseOf(t, h)), test.invariant)
		})
	}
}

// spoilOutcome changes the first outcome that can be spoilt so.
func spoilOutcome(t *testing.T, h *history.History, spoil func(*logv1.Command, *logv1.Outcome) bool) {
	t.Helper()
	for n := range h.Audits["n1"] {
		a := &h.Audits["n1"][n].Value
		entry := &logv1.Entry{}
		if err := proto.Unmarshal(a.Entry, entry); err != nil {
			t.Fatal(err)
		}
		for i, command := range entry.Commands {
			o := &logv1.Outcome{}
			if err := proto.Unmarshal(a.Outcomes[i], o); err != nil {
				t.Fatal(err)
			}
			if !spoil(command, o) {
				continue
			}
			spoilt, err := proto.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			a.Outcomes = slices.Clone(a.Outcomes)
			a.Outcomes[i] = spoilt
			return
		}
	}
	t.Fatal("the good history has no such outcome")
}
