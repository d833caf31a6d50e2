package replay

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sluice/internal/xes"
)

// Plan is a log made ready: its cases, and what each sender does in which order.
type Plan struct {
	cases []*plannedCase
	order []*planned // all events, by time, each case in its own order
	// Stray counts events of the log that stand outside any case and are left out.
	Stray int
}

// plannedCase is one instance.
type plannedCase struct {
	key    string
	events []*planned
	sick   bool // is put into recovery
}

// planned is one message.
type planned struct {
	of     *plannedCase
	place  int // in its case, from 0
	at     time.Time
	kind   string
	data   []byte
	digest digest
	// deferred: it is sent while its case is in a recovery that the replay began, and must be deferred
	deferred bool
}

type digest [16]byte

func digestOf(kind string, data []byte) digest {
	h := sha256.New()
	io.WriteString(h, kind)
	h.Write([]byte{0})
	h.Write(data)
	return digest(h.Sum(nil)[:16])
}

// id is stable: a replay that is run again sends the same ids.
func (p *planned) id() string { return fmt.Sprintf("event-%d", p.place) }

// Cases and Events are the size of the plan.
func (p *Plan) Cases() int { return len(p.cases) }

// Events is how many messages there are to send.
func (p *Plan) Events() int { return len(p.order) }

// Read reads an XES log, plain or gzip; at most so many cases, 0: all.
func Read(r io.Reader, cases int) (*Plan, error) {
	p := &Plan{}
	keys := map[string]bool{}
	log, err := xes.Read(r, xes.Limits{}, func(c *xes.Case) error {
		p.cases = append(p.cases, planCase(c, keys))
		if len(p.cases) == cases {
			return xes.ErrStop
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.Stray = log.Stray
	for _, c := range p.cases {
		p.order = append(p.order, c.events...)
	}
	if len(p.order) == 0 {
		return nil, errors.New("the log holds no event of any case")
	}
	slices.SortStableFunc(p.order, func(a, b *planned) int { return a.at.Compare(b.at) })
	return p, nil
}

// planCase turns a case into messages. Its order is the log's: an event whose clock runs behind counts as at the time of
// the one before it.
func planCase(c *xes.Case, keys map[string]bool) *plannedCase {
	of := &plannedCase{key: freeName(keys, c.Name)}
	var last time.Time
	for i, e := range c.Events {
		if e.Time.After(last) {
			last = e.Time
		}
		p := &planned{of: of, place: i, at: last, kind: name(cmp.Or(e.Name, "event")), data: e.Attributes.AppendJSON(nil)}
		p.digest = digestOf(p.kind, p.data)
		of.events = append(of.events, p)
	}
	return of
}

// maxName is the longest key, id or type in bytes.
const maxName = 256

// name makes any text a key or a type: without control characters, and cut with a mark of what was cut.
func name(text string) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if len(clean) <= maxName {
		return clean
	}
	sum := sha256.Sum256([]byte(text))
	mark := "~" + hex.EncodeToString(sum[:6])
	cut := clean[:maxName-len(mark)]
	for !utf8.ValidString(cut) {
		cut = cut[:len(cut)-1]
	}
	return cut + mark
}

// freeName is name, told apart from those that are taken.
func freeName(taken map[string]bool, text string) string {
	key := name(text)
	for n := 2; taken[key]; n++ {
		key = name(fmt.Sprintf("%s#%d", text, n))
	}
	taken[key] = true
	return key
}

// step is one thing that a sender does.
type step struct {
	do    action
	event *planned     // to send
	of    *plannedCase // to enter or to complete
}

type action int

const (
	sends action = iota
	enters
	completes
)

// steps are what each of the senders does, in order. A case belongs to one sender, with its recovery: so what is sent
// between the entry and the completion is known to be deferred.
func (p *Plan) steps(senders int, share float64, seed uint64) [][]step {
	starts, ends := p.recoveries(share, rand.New(rand.NewPCG(seed, 0x736c75696365)))
	of := make(map[*plannedCase]int, len(p.cases))
	for i, c := range p.cases {
		of[c] = i % senders
	}
	all := make([][]step, senders)
	add := func(c *plannedCase, s step) { all[of[c]] = append(all[of[c]], s) }
	open := map[*plannedCase]bool{}
	for i := range len(p.order) + 1 {
		for _, c := range ends[i] {
			open[c] = false
			add(c, step{do: completes, of: c})
		}
		if i == len(p.order) {
			break
		}
		e := p.order[i]
		if starts[e] {
			open[e.of] = true
			add(e.of, step{do: enters, of: e.of})
		}
		e.deferred = open[e.of]
		add(e.of, step{do: sends, event: e})
	}
	return all
}

// recoveries chooses the cases that fall sick: each before a random one of its events, for a random time, which ends
// before the event of a later place in the order, or after all.
func (p *Plan) recoveries(share float64, rng *rand.Rand) (starts map[*planned]bool, ends map[int][]*plannedCase) {
	var able []*plannedCase
	for _, c := range p.cases {
		if len(c.events) > 0 {
			able = append(able, c)
		}
	}
	rng.Shuffle(len(able), func(i, j int) { able[i], able[j] = able[j], able[i] })
	position := make(map[*planned]int, len(p.order))
	for i, e := range p.order {
		position[e] = i
	}
	starts, ends = map[*planned]bool{}, map[int][]*plannedCase{}
	for _, c := range able[:int(math.Ceil(share*float64(len(able))))] {
		first := c.events[rng.IntN(len(c.events))]
		from := position[first]
		c.sick = true
		starts[first] = true
		end := from + 1 + rng.IntN(len(p.order)-from)
		ends[end] = append(ends[end], c)
	}
	return starts, ends
}
