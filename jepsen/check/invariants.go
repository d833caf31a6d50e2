package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/jepsen/history"
	"sluice/jepsen/model"
)

// Checker is one of the checkers.
type Checker struct {
	Name string
	// About says in a sentence what it doubts.
	About string
	Check func(*Case) []Violation
}

// Checkers are all of them, in the order of semantics. I11, that memory is bounded, is measured and not checked here.
func Checkers() []Checker {
	return []Checker{
		{"I1", "no loss", I1}, {"I2", "settled once, as told", I2}, {"I3", "order in each lane", I3}, {"I4", "gate", I4},
		{"I5", "isolation", I5}, {"I6", "drain before what came later", I6}, {"I7", "fencing", I7}, {"I8", "one owner", I8},
		{"I9", "linearizable", I9}, {"I10", "idempotence", I10}, {"I12", "replicas agree", I12},
		{"lease", "no lease is cut short", Lease},
		{"state", "state with its settlement, or not at all", State}, {"outside", "effects outside, once", Outside},
		{"certificates", "who must not be believed is refused, and a rotation loses no message", Certificates},
		{"members", "no node leaves the cluster that was not removed", Members}, {"liveness", "quiet after the faults", Liveness},
	}
}

func violation(invariant, format string, args ...any) Violation {
	return Violation{invariant, fmt.Sprintf(format, args...)}
}

// told are the mismatches that speak against an invariant.
func (c *Case) told(invariant string) (out []Violation) {
	for _, m := range c.Mismatches {
		if m.Invariant == invariant {
			out = append(out, violation(invariant, "entry %v: %s", m.At, m.Text))
		}
	}
	return out
}

func (c *Case) lifeOf(o history.Operation) *model.Life {
	return c.lives[lifeKey{o.Args.Application, o.Args.Instance, o.Args.MessageID}]
}

// I1 holds every receipt against the committed order: what was accepted is there, under the number that was told, and
// is settled or in its inbox.
func I1(c *Case) []Violation {
	out := c.told("I1")
	for _, o := range c.Operations {
		if o.What != history.Send || o.Result != history.OK {
			continue
		}
		l := c.lifeOf(o)
		switch {
		case l == nil:
			out = append(out, violation("I1", "%s was told that %s/%s has %q as seq %d of entry %d: it was never committed", o.ID, o.Args.Application, o.Args.Instance, o.Args.MessageID, o.Answer.Seq, o.Answer.Index))
		case l.Seq != o.Answer.Seq || l.Accepted.Index != o.Answer.Index:
			out = append(out, violation("I1", "%s was told seq %d of entry %d; committed is seq %d of entry %d", o.ID, o.Answer.Seq, o.Answer.Index, l.Seq, l.Accepted.Index))
		}
	}
	return out
}

// I2 holds what senders and workers were told of a settlement against the one that stands, or stood until an operator
// revoked it; and the reply that senders were told against the settlement's.
func I2(c *Case) []Violation {
	out := c.told("I2")
	for _, o := range c.Operations {
		if o.What != history.Await || o.Result != history.OK || o.Answer.Settlement == "" {
			continue
		}
		l := c.lifeOf(o)
		if l != nil && o.Answer.HasReply && !slices.ContainsFunc(endings(l), func(e model.Ending) bool { return string(e.By.GetReply()) == o.Answer.Reply }) {
			out = append(out, violation("I2", "%s was told the reply %q to %q of %s/%s; committed is %q", o.ID, o.Answer.Reply, o.Args.MessageID, o.Args.Application, o.Args.Instance, l.By.GetReply()))
		}
		if l == nil || !slices.ContainsFunc(endings(l), func(e model.Ending) bool { return e.Settlement == o.Answer.Settlement }) {
			out = append(out, violation("I2", "%s was told that %q of %s/%s was settled as %s; committed is %s", o.ID, o.Args.MessageID, o.Args.Application, o.Args.Instance, o.Answer.Settlement, settlementOf(l)))
		}
	}
	ends := map[history.Deed]string{history.Settled: "completed", history.Rejected: "dead-lettered"}
	for _, e := range c.Worker {
		want, ends := ends[e.Value.Deed]
		if !ends || e.Value.Seq == 0 {
			continue
		}
		l := c.numbers[keyOf(e.Value)]
		if l == nil || !slices.ContainsFunc(endings(l), func(end model.Ending) bool {
			return end.Settlement == want && end.By != nil && end.Under.Number == e.Value.Epoch
		}) {
			out = append(out, violation("I2", "%s was told that its settlement of %s/%s %s %d under epoch %d stands (%s); committed is %s", e.Value.Worker, e.Value.Application, e.Value.Instance, e.Value.Lane, e.Value.Seq, e.Value.Epoch, want, settlementOf(l)))
		}
	}
	return out
}

// endings are those that a message's life had, the one that stands last.
func endings(l *model.Life) (all []model.Ending) {
	for _, r := range l.Revoked {
		all = append(all, r.Ending)
	}
	return append(all, l.Ending)
}

func keyOf(e history.WorkerEvent) numberKey {
	return numberKey{e.Application, e.Instance, e.Lane, e.Seq}
}

func settlementOf(l *model.Life) string {
	switch {
	case l == nil:
		return "nothing of it"
	case l.Settlement == "":
		return "that it is unsettled"
	case l.By != nil && l.Under != nil:
		return fmt.Sprintf("%s by %s under epoch %d", l.Settlement, l.Session, l.Under.Number)
	}
	return l.Settlement + ", not by a worker"
}

// I3 holds the order of each lane: of the settlements by handlers, and of the deliveries of one epoch.
func I3(c *Case) []Violation {
	out := c.told("I3")
	last := map[numberKey]step{}
	for _, s := range told(c.Model) {
		l := s.life
		lane := numberKey{l.Instance.ID.Application, l.Instance.ID.Key, laneName(l.Lane), 0}
		switch {
		case s.kind == putBack: // its successors may have been settled; from here on what is left is in order again
			delete(last, lane)
			continue
		case !s.taken:
			continue
		}
		if before, any := last[lane]; any && before.life.Seq > l.Seq {
			out = append(out, violation("I3", "%s, lane %s: seq %d was settled at %v, and seq %d before it, at %v", l.Instance.ID, lane.lane, l.Seq, s.at, before.life.Seq, before.at))
		}
		last[lane] = s
	}
	given := map[string]uint64{}
	for _, e := range c.Worker {
		if v := e.Value; v.Deed == history.Deliver {
			under := fmt.Sprintf("%s/%s %s under epoch %d", v.Application, v.Instance, v.Lane, v.Epoch)
			if given[under] > v.Seq {
				out = append(out, violation("I3", "%s: %s was given seq %d after seq %d", under, v.Worker, v.Seq, given[under]))
			}
			given[under] = v.Seq
		}
	}
	return out
}

// I4 holds every delivery against the mode of its epoch.
func I4(c *Case) []Violation {
	out := c.told("I4")
	inRecovery := c.recoveryEpochs()
	for _, e := range c.Worker {
		v := e.Value
		if v.Deed != history.Deliver {
			continue
		}
		recovery, known := inRecovery[epochKey{v.Application, v.Instance, v.Epoch}]
		if known && recovery != (v.Lane == "recovery") {
			out = append(out, violation("I4", "%s was given %s/%s %s %d under epoch %d, in which the instance is in recovery: %v", v.Worker, v.Application, v.Instance, v.Lane, v.Seq, v.Epoch, recovery))
		}
	}
	return out
}

type epochKey struct {
	application, instance string
	epoch                 uint64
}

// recoveryEpochs tells of each epoch that was ever told whether its instance was in recovery: an epoch begins with every
// entry and every completion, so that it is either or.
func (c *Case) recoveryEpochs() map[epochKey]bool {
	all := map[epochKey]bool{}
	for id, i := range c.Model.Instances() {
		for _, v := range i.Versions {
			if v.Epoch.Number != 0 {
				all[epochKey{id.Application, id.Key, v.Epoch.Number}] = v.Mode == model.Recovery
			}
		}
	}
	return all
}

// isolationMost is how long a message may wait, with nothing hurt, whose own instance is normal all the time.
const isolationMost = 15 * time.Second

// I5 holds messages of instances that are normal, while nothing is hurt, against a bound: recoveries of others do not
// delay them.
func I5(c *Case) []Violation {
	out := c.told("I5")
	disturbed := c.disturbed()
	for _, l := range c.Model.Lives {
		settled, ended := c.settledAt(l)
		accepted := c.times[l.Accepted.Index]
		if !ended || settled-accepted <= isolationMost || l.Disposition != "accepted" || len(l.Revoked) > 0 || !normalWithin(l) {
			continue
		}
		if !disturbed.overlaps(accepted, settled) {
			out = append(out, violation("I5", "%s seq %d waited %v, though its instance was normal and nothing was hurt", l.Instance.ID, l.Seq, settled-accepted))
		}
	}
	return out
}

// normalWithin tells that the instance was normal from a message's acceptance to its settlement.
func normalWithin(l *model.Life) bool {
	for _, v := range l.Instance.Versions {
		if !v.At.Before(l.Accepted) && v.At.Before(l.Settled) && v.Mode != model.Normal {
			return false
		}
	}
	return true
}

// I6 holds, at every settlement of what was accepted in normal mode, that nothing deferred before it is left: as the
// cluster told of both, for by the model's own order nothing can be accepted before a drain is over.
func I6(c *Case) []Violation {
	out := c.told("I6")
	held := map[*model.Instance]map[*model.Life]bool{}
	for _, s := range told(c.Model) {
		l := s.life
		if held[l.Instance] == nil {
			held[l.Instance] = map[*model.Life]bool{}
		}
		switch {
		case l.Told == "deferred" && s.kind != settled:
			held[l.Instance][l] = true
		case l.Told == "deferred":
			delete(held[l.Instance], l)
		case l.Told == "accepted" && s.taken:
			for left := range held[l.Instance] {
				if left.Accepted.Before(l.Accepted) {
					out = append(out, violation("I6", "%s: seq %d, accepted in normal mode, was settled at %v before seq %d, which had been deferred", l.Instance.ID, l.Seq, s.at, left.Seq))
				}
			}
		}
	}
	return out
}

// I7 holds what took effect against the epochs: the model refuses what is old.
func I7(c *Case) []Violation {
	out := c.told("I7")
	for id, i := range c.Model.Instances() {
		last := uint64(0)
		for _, v := range i.Versions {
			if v.Epoch.Number != 0 && v.Epoch.Number < last {
				out = append(out, violation("I7", "%s: epoch %d came after epoch %d", id, v.Epoch.Number, last))
			}
			last = max(last, v.Epoch.Number)
		}
	}
	return out
}

// I8 holds that one epoch of an instance is delivered to one worker alone.
func I8(c *Case) []Violation {
	out := c.told("I8")
	owner := map[epochKey]string{}
	for _, e := range c.Worker {
		v := e.Value
		if v.Deed != history.Deliver && v.Deed != history.Recover {
			continue
		}
		key := epochKey{v.Application, v.Instance, v.Epoch}
		if other := owner[key]; other != "" && other != v.Worker {
			out = append(out, violation("I8", "%s/%s under epoch %d was given to %s and to %s", v.Application, v.Instance, v.Epoch, other, v.Worker))
		}
		owner[key] = v.Worker
	}
	return out
}

// I10 holds that the same message sent again, and the same request asked again, is answered as it was the first time.
func I10(c *Case) []Violation {
	out := c.told("I10")
	first := map[string]history.Operation{}
	for _, o := range c.Operations {
		key := ""
		switch {
		case o.Result != history.OK:
		case o.What == history.Send:
			key = fmt.Sprintf("message %q to %s/%s", o.Args.MessageID, o.Args.Application, o.Args.Instance)
		case o.What == history.EnterRecovery || o.What == history.CompleteRecovery:
			key = fmt.Sprintf("%s of %s/%s with request id %q", o.What, o.Args.Application, o.Args.Instance, o.Args.Request)
		}
		if key == "" {
			continue
		}
		before, again := first[key]
		if !again {
			first[key] = o
			continue
		}
		a, b := before.Answer, o.Answer
		if a.Seq != b.Seq || a.Epoch != b.Epoch || a.Mode != b.Mode || a.Index != b.Index || a.Disposition != b.Disposition {
			out = append(out, violation("I10", "%s: %s was answered %s, and %s %s", key, before.ID, brief(a), o.ID, brief(b)))
		}
		if !a.Duplicate && !b.Duplicate {
			out = append(out, violation("I10", "%s: both %s and %s were told that they were the first", key, before.ID, o.ID))
		}
	}
	return out
}

func brief(a history.Answer) string {
	return fmt.Sprintf("seq %d, %s, %s, epoch %d, entry %d", a.Seq, a.Disposition, a.Mode, a.Epoch, a.Index)
}

// I12 holds that replicas applied the same entries and had the same state after each.
func I12(c *Case) []Violation { return append(c.told("I12"), c.Disagreements...) }

// Outside holds that handlers of accounts, with a recovery handler that asks what took effect, left each effect once in
// the world outside. Handlers of feeds are delivered again, and may leave it more often; so may those of a message that an
// operator took from its handler, dead-lettered, and put back.
func Outside(c *Case) (out []Violation) {
	for _, e := range c.Worker {
		v := e.Value
		if l := c.numbers[keyOf(v)]; l != nil && len(l.Revoked) > 0 {
			continue
		}
		if v.Deed == history.Effect && v.Before > 0 && v.Application == "accounts" {
			out = append(out, violation("outside", "%s left the effect of %s/%s %s %d under epoch %d, which had been left %d times before", v.Worker, v.Application, v.Instance, v.Lane, v.Seq, v.Epoch, v.Before))
		}
	}
	return out
}

// State holds what handlers saw of their instances' states against the settlements before: all of them are in it, once,
// and nothing else. So are those that recovery handlers saw, and what one was told that it set is what stands. Recovery
// messages see what the recovery handler set before it is written, and write it with their own.
func State(c *Case) (out []Violation) {
	seen := map[numberKey]map[uint64]string{} // by epoch
	set, left := map[epochKey]string{}, c.leftByCompletions()
	for _, e := range c.Worker {
		v := e.Value
		switch under := (epochKey{v.Application, v.Instance, v.Epoch}); v.Deed {
		case history.Deliver:
			if seen[keyOf(v)] == nil {
				seen[keyOf(v)] = map[uint64]string{}
			}
			seen[keyOf(v)][v.Epoch] = v.State
		case history.Settled:
			l := c.numbers[keyOf(v)]
			state, noted := seen[keyOf(v)][v.Epoch]
			if v.Lane == "recovery" && set[under] != "" {
				noted = noted && state != set[under]
				delete(set, under)
			}
			if noted && l != nil && l.Under != nil && l.Under.Number == v.Epoch && l.Found != state {
				out = append(out, violation("state", "%s seq %d under epoch %d: the handler saw %q, and %q was there", l.Instance.ID, l.Seq, v.Epoch, state, l.Found))
			}
		case history.Recover:
			if known, stood := c.stood(v); known && !stood {
				out = append(out, violation("state", "%s/%s: the recovery handler saw %q under epoch %d, which never was its state then", v.Application, v.Instance, v.State, v.Epoch))
			}
		case history.Done:
			if v.Lane == "" && v.State != "" {
				set[under] = v.State
			}
		case history.Recovered:
			if stands, ended := left[under]; ended && set[under] != "" && set[under] != stands {
				out = append(out, violation("state", "%s/%s: the recovery under epoch %d was told that it set %q, and %q stands", v.Application, v.Instance, v.Epoch, set[under], stands))
			}
		}
	}
	return out
}

// stood tells whether the state that was seen of an instance was its state at any time of the epoch; known: the epoch was
// ever told.
func (c *Case) stood(v history.WorkerEvent) (known, stood bool) {
	i := c.Model.Instances()[model.ID{Application: v.Application, Key: v.Instance}]
	if i == nil {
		return false, false
	}
	for _, version := range i.Versions {
		if version.Epoch.Number == v.Epoch {
			known = true
			stood = stood || version.State == v.State
		}
	}
	return known, stood
}

// leftByCompletions is the state that each completion left, by the epoch that it ended.
func (c *Case) leftByCompletions() map[epochKey]string {
	left := map[epochKey]string{}
	for _, t := range c.Model.Transitions {
		if t.Ended != nil && t.Ended.Number != 0 {
			left[epochKey{t.Instance.ID.Application, t.Instance.ID.Key, t.Ended.Number}] = t.State
		}
	}
	return left
}

// sameSnapshots is how often in a row a node may take the same snapshot: it may be killed, or its answer be lost.
const sameSnapshots = 8

// standsStill tells of nodes that were sent the same snapshot again and again, and got no further.
func standsStill(c *Case) (out []Violation) {
	for node, rows := range c.Audits {
		index, times := uint64(0), 0
		for _, row := range rows {
			switch a := row.Value; {
			case !a.Snapshot:
				times = 0
			case a.Index == index:
				times++
			default:
				index, times = a.Index, 1
			}
			if times == sameSnapshots+1 {
				out = append(out, violation("liveness", "%s was sent snapshot %d again and again, until %v, and applied nothing behind it", node, index, row.At))
			}
		}
	}
	return out
}

// Liveness holds that once the faults were over the cluster took a message again and settled all it held, and that no
// node was sent the same snapshot again and again.
func Liveness(c *Case) (out []Violation) {
	out = standsStill(c)
	over := false
	for _, m := range c.Marks {
		if m.Value.Name == history.QuietOver {
			over = true
			if m.Value.Text != "" {
				out = append(out, violation("liveness", "%s", m.Value.Text))
			}
		}
	}
	if !over {
		return append(out, violation("liveness", "the quiet phase did not end: the run was broken off"))
	}
	for _, l := range c.Model.Lives {
		if l.Settlement == "" && !strings.HasPrefix(l.Message.Id, "probe-") {
			out = append(out, violation("liveness", "%s seq %d, accepted at %v, is unsettled at the end", l.Instance.ID, l.Seq, l.Accepted))
		}
	}
	return out
}
