package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"sluice/jepsen/history"
	"sluice/jepsen/model"
)

// step is one in a message's life.
type step struct {
	at   model.Point
	life *model.Life
	kind stepKind
	// ending is the one that the life had there, or that was revoked there.
	ending model.Ending
	// taken: it is a settlement by a handler that the cluster took, whatever was promised.
	taken bool
}

// stepKind is what happened: a message was accepted, settled, or put back.
type stepKind int

const (
	accepted stepKind = iota
	settled
	putBack
)

// steps are those of all lives, in the committed order; what one command puts back comes after what it settles, for which
// that waited.
func steps(lives []*model.Life) (all []step) {
	for _, l := range lives {
		all = append(all, step{at: l.Accepted, life: l, kind: accepted})
		for _, r := range l.Revoked {
			all = append(all, step{at: r.Settled, life: l, kind: settled, ending: r.Ending}, step{at: r.At, life: l, kind: putBack, ending: r.Ending})
		}
		if l.Settlement != "" {
			all = append(all, step{at: l.Settled, life: l, kind: settled, ending: l.Ending})
		}
	}
	slices.SortStableFunc(all, compareSteps)
	return all
}

func compareSteps(a, b step) int {
	return cmp.Or(comparePoints(a.at, b.at), cmp.Compare(a.kind, b.kind))
}

func comparePoints(a, b model.Point) int {
	switch {
	case a.Before(b):
		return -1
	case b.Before(a):
		return 1
	}
	return 0
}

// told are the steps of lives, in the committed order: the settlements by handlers as the cluster took them, and all else
// as it was promised.
func told(m *model.Machine) (all []step) {
	taken := map[*model.Life]bool{}
	for _, t := range m.Taken {
		taken[t.Life] = true
		all = append(all, step{at: t.At, life: t.Life, kind: settled, taken: true})
	}
	for _, s := range steps(m.Lives) {
		if s.kind != settled || s.ending.By == nil || !taken[s.life] {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, compareSteps)
	return all
}

// orderTime bounds the search for real-time order of one instance.
const orderTime = time.Minute

// look is what an operation says of an instance: that it made its version (made), or that it saw one that looks so.
type look struct {
	made     int  // -1: it made none
	perhaps  bool // what it asked for may have been done before
	mode     string
	epoch    uint64
	nextSeq  uint64
	owner    string
	deferred uint64
}

// I9 holds the committed order of each instance against real time, by Porcupine: every operation took effect at its
// place in the order, between its call and its return, and every read saw a version that stood between its own. One
// whose outcome is unknown may have taken effect at any time after its call, if the order has it at all.
func I9(c *Case) []Violation {
	out := c.told("I9")
	asked := map[model.ID][]porcupine.Operation{}
	whole := c.wholeEntries()
	for _, t := range c.Model.Transitions {
		if o, asks := whole[t.Epoch.Number]; t.Whole && asks {
			at := look{made: versionAt(t.Instance, t.At)}
			asked[t.Instance.ID] = append(asked[t.Instance.ID], porcupine.Operation{Input: at, Output: o.ID, Call: int64(o.Call), Return: int64(o.Return)})
		}
	}
	for _, o := range c.Operations {
		id := model.ID{Application: o.Args.Application, Key: o.Args.Instance}
		if i := c.Model.Instances()[id]; i != nil {
			if l, ok := c.lookOf(o, i); ok {
				asked[id] = append(asked[id], porcupine.Operation{Input: l, Output: o.ID, Call: int64(o.Call), Return: int64(o.Return)})
			}
		}
	}
	for id, operations := range asked {
		versions := c.Model.Instances()[id].Versions
		switch porcupine.CheckOperationsTimeout(versionModel(versions), operations, orderTime) {
		case porcupine.Ok:
		case porcupine.Illegal:
			out = append(out, violation("I9", "%s: the committed order of %d operations does not respect real time: %s", id, len(operations), explain(versions, operations)))
		case porcupine.Unknown:
			out = append(out, violation("I9", "%s: the order of %d operations could not be judged within %v", id, len(operations), orderTime))
		}
	}
	return out
}

// wholeEntries are the entries of whole applications into recovery, by their generations. Each is an operation on every
// instance of its application.
func (c *Case) wholeEntries() map[uint64]history.Operation {
	all := map[uint64]history.Operation{}
	for _, o := range c.Operations {
		if o.What == history.EnterApplication && o.Result == history.OK && !o.Answer.Duplicate {
			all[o.Answer.Epoch] = o
		}
	}
	return all
}

// lookOf is what an operation says; false: nothing that is judged here.
func (c *Case) lookOf(o history.Operation, i *model.Instance) (look, bool) {
	switch o.What {
	case history.Send:
		l := c.lifeOf(o)
		if l == nil || o.Result == history.Fail || o.Answer.Duplicate {
			return look{}, false
		}
		return look{made: versionAt(i, l.Accepted), perhaps: o.Result == history.Unknown}, true
	case history.EnterRecovery, history.CompleteRecovery:
		if o.Result != history.OK || o.Answer.Duplicate {
			return look{}, false
		}
		for _, t := range c.Model.Transitions {
			if t.Instance == i && t.Epoch.Number == o.Answer.Epoch && (t.To == model.Recovery || t.From == model.Recovery) {
				return look{made: versionAt(i, t.At)}, true
			}
		}
		return look{made: len(i.Versions)}, true // the order has none: no place in it is right
	case history.GetInstance:
		a := o.Answer
		return look{made: -1, mode: a.Mode, epoch: a.Epoch, nextSeq: a.NextSeq, owner: a.Owner, deferred: a.Deferred}, o.Result == history.OK
	}
	return look{}, false
}

func versionAt(i *model.Instance, at model.Point) int {
	n, _ := slices.BinarySearchFunc(i.Versions, at, func(v model.Version, at model.Point) int { return comparePoints(v.At, at) })
	return n
}

// versionModel is a register whose state is how far an instance's versions have come.
func versionModel(versions []model.Version) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return 0 },
		Step: func(state, input, _ any) (bool, any) {
			at, l := state.(int), input.(look)
			if l.made >= 0 {
				return (l.made >= at || l.perhaps) && l.made < len(versions), max(at, l.made)
			}
			for n := at; n < len(versions); n++ {
				if l.saw(versions[n]) {
					return true, n
				}
			}
			return false, at
		},
	}
}

func (l look) saw(v model.Version) bool {
	return l.mode == v.Mode && l.nextSeq == v.NextSeq && l.owner == v.Owner && l.deferred == uint64(v.Deferred) &&
		(v.Epoch.Number == 0 || v.Epoch.Number == l.epoch)
}

// explain finds an operation that comes too late: one that had returned before it was called stands behind it.
func explain(versions []model.Version, operations []porcupine.Operation) string {
	model := versionModel(versions)
	byCall := slices.Clone(operations)
	slices.SortFunc(byCall, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	byReturn := slices.Clone(operations)
	slices.SortFunc(byReturn, func(a, b porcupine.Operation) int { return int(a.Return - b.Return) })
	floor, last, reached := 0, "the beginning", map[any]int{}
	for _, o := range byCall {
		for len(byReturn) > 0 && byReturn[0].Return < o.Call {
			if at := reached[byReturn[0].Output]; at > floor {
				floor, last = at, byReturn[0].Output.(string)
			}
			byReturn = byReturn[1:]
		}
		ok, next := model.Step(floor, o.Input, nil)
		if !ok {
			return fmt.Sprintf("%v %+v finds no place at or after version %d, which %s had reached: %+v", o.Output, o.Input, floor, last, near(versions, floor))
		}
		reached[o.Output] = next.(int)
	}
	return "no single operation shows it"
}

// near are some versions from a place on.
func near(versions []model.Version, at int) (text string) {
	for n := max(at-2, 0); n < min(at+3, len(versions)); n++ {
		v := versions[n]
		text += fmt.Sprintf("[%d: %v %s epoch %d next seq %d owner %q deferred %d] ", n, v.At, v.Mode, v.Epoch.Number, v.NextSeq, v.Owner, v.Deferred)
	}
	return text
}
