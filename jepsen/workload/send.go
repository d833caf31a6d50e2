package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"sluice/client"
	"sluice/jepsen/world"
)

// Load says how much is sent. The zero value of a field means its default.
type Load struct {
	// Instances of each application; default 10.
	Instances int
	// Senders at work at once; default 6.
	Senders int
	// Operators at work at once; default 2.
	Operators int
	// Pause between two messages of one sender; default 30 ms.
	Pause time.Duration
	// Seed of whatever is left to chance.
	Seed uint64
}

// Defaults fills in what is zero.
func (l Load) Defaults() Load {
	standard(&l.Instances, 10)
	standard(&l.Senders, 6)
	standard(&l.Operators, 2)
	standard(&l.Pause, 30*time.Millisecond)
	return l
}

func standard[T comparable](field *T, otherwise T) {
	var zero T
	if *field == zero {
		*field = otherwise
	}
}

// Declare applies the applications under test, until it succeeds or ctx ends.
func Declare(ctx context.Context, w world.World) error {
	c, err := w.Client(ctx, "declare")
	if err != nil {
		return err
	}
	defer c.Close()
	ask := newCaller("declare", c, w.History())
	for _, a := range append(Applications(), client.Application{Name: Bystanders}) {
		if err := ask.apply(ctx, a); err != nil {
			return fmt.Errorf("workload: declare %s: %w", a.Name, err)
		}
	}
	return nil
}

// sender sends messages to instances chosen by chance.
type sender struct {
	*caller
	w      world.World
	load   Load
	random *rand.Rand
	sent   int
	// recent are the last messages sent, to be sent again now and then.
	recent []client.Message
	exchange
}

// exchange is a transaction that a sender is at.
type exchange struct {
	id, instance string
	types        []string // that are to come
}

// recentMost is how many messages a sender remembers.
const recentMost = 16

// Send sends until ctx ends. The name is the client's and the beginning of its messages' ids.
func Send(ctx context.Context, w world.World, name string, l Load) error {
	c, err := w.Client(ctx, name)
	if err != nil {
		return err
	}
	defer c.Close()
	l = l.Defaults()
	s := &sender{caller: newCaller(name, c, w.History()), w: w, load: l, random: chance(l.Seed, name)}
	for ctx.Err() == nil {
		if s.random.IntN(6) == 0 {
			s.several(ctx)
		} else {
			s.one(ctx)
		}
		if w.Wait(ctx, l.Pause/2+time.Duration(s.random.Int64N(int64(l.Pause)))) != nil {
			break
		}
	}
	return nil
}

// several sends new messages at once, which the client gathers.
func (s *sender) several(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for range 2 + s.random.IntN(7) {
		m := s.next()
		s.remember(m)
		all.Go(func() { _, _ = s.send(ctx, m) }) // whatever comes of it is in the history
	}
}

// one sends a new message, or one of late again, or one of late with other content, which must be refused.
func (s *sender) one(ctx context.Context) {
	m := s.next()
	switch roll := s.random.IntN(100); {
	case roll < 8 && len(s.recent) > 0:
		m = s.recent[s.random.IntN(len(s.recent))]
	case roll < 10 && len(s.recent) > 0:
		m = s.recent[s.random.IntN(len(s.recent))]
		m.Data = append(slices.Clone(m.Data), " and more"...)
	default:
		s.remember(m)
	}
	if _, err := s.send(ctx, m); err != nil || s.random.IntN(10) > 0 {
		return
	}
	waiting, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, _ = s.await(waiting, m.InstanceID(), m.ID) // whatever comes of it is in the history
}

func (s *sender) next() client.Message {
	s.sent++
	apps := Applications()
	m := client.Message{
		Application: apps[s.random.IntN(len(apps))].Name, Instance: Instance(s.random.IntN(s.load.Instances)),
		ID: fmt.Sprintf("%s-%d", s.name, s.sent), Type: TypeWork, AwaitReply: true,
	}
	switch roll := s.random.IntN(100); {
	case roll < 12:
		m.Type = TypeFix
	case roll < 20:
		m.Type = TypeNote
	}
	m.Data = plan(s.random, s.load.Instances)
	if m.Application == "feeds" {
		s.exchanged(&m)
	}
	if s.random.IntN(10) == 0 {
		m.ExpireTime = time.Now().Add(time.Duration(s.random.IntN(1500)-100) * time.Millisecond)
	}
	return m
}

// exchanged makes every second message one of a transaction, mostly at its turn. Some of the others end the default one.
func (s *sender) exchanged(m *client.Message) {
	switch roll := s.random.IntN(50); {
	case roll == 0:
		m.Type = typeFinish
		return
	case roll < 25:
		return
	}
	if len(s.types) == 0 || s.random.IntN(20) == 0 {
		s.exchange = exchange{id: fmt.Sprintf("%s-transaction-%d", s.name, s.sent), instance: m.Instance, types: orderTypes}
		if s.random.IntN(2) == 0 {
			s.types = talkTypes
		}
	}
	m.Transaction, m.Instance = s.id, s.instance
	if s.random.IntN(8) == 0 { // out of its turn, if it has one
		m.Type = slices.Concat(orderTypes, talkTypes, []string{TypeNote, "nonsense"})[s.random.IntN(len(orderTypes)+len(talkTypes)+2)]
		return
	}
	m.Type, s.types = s.types[0], s.types[1:]
}

func (s *sender) remember(m client.Message) {
	s.recent = append(s.recent, m)
	if len(s.recent) > recentMost {
		s.recent = s.recent[1:]
	}
}
