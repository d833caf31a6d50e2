package fsm_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/jepsen/model"
	"sluice/queue"
)

// Random commands are answered as the reference model, which shares no code with the machine, says that they must be.
func TestAnswersAreThoseOfTheModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(16) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { newPair(t, seed).run(400) })
	}
}

// pair is a machine and the model of it, which are given the same commands.
type pair struct {
	*course
	t *testing.T
	m *model.Machine
}

func newPair(t *testing.T, seed uint64) *pair {
	c := &course{leader: newReplica(t, "leader", queue.NewMemoryStore(), 4, 1), handled: map[string]uint64{}}
	c.g = &generator{r: rand.New(rand.NewPCG(seed, 2)), v: c.leader.m.View(), now: start}
	return &pair{c, t, model.New()}
}

func (p *pair) run(entries int) {
	for _, name := range []string{"app", "flow", "strict"} {
		c := p.g.declare()
		for c.GetApplyApplication().Name != name {
			c = p.g.declare()
		}
		p.both(c)
	}
	for range entries {
		switch n := p.g.r.IntN(100); {
		case n < 3:
			p.g.now += p.g.r.Int64N(30_000)
		case n < 6: // a leader whose clock is behind
			p.g.now -= p.g.r.Int64N(1000)
		case n < 60:
			p.g.now += p.g.r.Int64N(300)
		}
		cs := make([]*logv1.Command, p.g.r.IntN(5))
		for k := range cs {
			cs[k] = p.g.command()
		}
		p.both(cs...)
	}
}

// both makes an entry of both.
func (p *pair) both(cs ...*logv1.Command) {
	p.t.Helper()
	e := &logv1.Entry{TimeMs: p.g.now}
	for _, c := range cs {
		covered(c)
	}
	asked := proto.CloneOf(&logv1.Entry{Commands: cs})
	before := len(p.leader.outcomes)
	p.add(cs...)
	var outcomes []*logv1.Outcome
	for k, c := range asked.Commands {
		out := &logv1.Outcome{}
		if err := proto.Unmarshal(p.leader.outcomes[before+k], out); err != nil {
			p.t.Fatal(err)
		}
		if !misshapen(out.Fault) {
			wellShaped(c, out)
			e.Commands, outcomes = append(e.Commands, c), append(outcomes, out)
		}
	}
	found, err := p.m.Apply(uint64(len(p.entries)), e, outcomes)
	if err != nil {
		p.t.Fatal(err)
	}
	if len(found) > 0 {
		p.t.Fatalf("entry %d: %s: %s", len(p.entries), found[0].Invariant, found[0].Text)
	}
}

// covered changes a command to one that the model covers: nothing is forgotten, and nothing that is due is left over.
func covered(c *logv1.Command) {
	if a := c.GetApplyApplication(); a != nil {
		a.Retention.DedupWindow = durationpb.New(300 * time.Hour)
	}
	if a := c.GetAdvance(); a != nil {
		a.Limit = 10_000
	}
}

// misshapen tells a refusal for shape alone, of which the model knows nothing.
func misshapen(f *sluicev1.Fault) bool {
	return f.GetReason() == string(reason.BadField) || f.GetReason() == string(reason.BadName)
}

// wellShaped leaves out of a batch what was refused for its shape alone.
func wellShaped(c *logv1.Command, out *logv1.Outcome) {
	if s, r := c.GetSend(), out.GetSend(); s != nil && r != nil {
		messages, results := s.Messages, r.GetResults()
		s.Messages, r.Results = nil, nil
		for n, one := range results {
			if !misshapen(one.Error) {
				s.Messages, r.Results = append(s.Messages, messages[n]), append(r.Results, one)
			}
		}
	}
	if s, r := c.GetSettle(), out.GetSettle(); s != nil && r != nil {
		settlements, results := s.Settlements, r.GetResults()
		s.Settlements, r.Results = nil, nil
		for n, one := range results {
			if !misshapen(one.Error) {
				s.Settlements, r.Results = append(s.Settlements, settlements[n]), append(r.Results, one)
			}
		}
	}
}
