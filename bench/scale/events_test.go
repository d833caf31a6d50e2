package main

import (
	"testing"
)

// playLog plays a log to which entries come at random, and counts its syncs a second and the entries in one.
func playLog(rate, base, entry, seconds float64) (syncs, entries float64) {
	m := small()
	w := &world{chance: m.chance(9)}
	d := &disk{w: w, shared: true, base: base, entry: entry}
	var came, synced int
	var last float64
	var next func()
	next = func() {
		if w.now > seconds {
			return
		}
		came++
		d.keep(0, func() {
			if w.now != last {
				synced, last = synced+1, w.now
			}
		})
		w.after(w.chance.ExpFloat64()/rate, next)
	}
	next()
	w.run()
	return float64(synced) / seconds, float64(came) / float64(synced)
}

func TestSyncsOfALogAreWhatAPlayedOneMakes(t *testing.T) {
	t.Parallel()
	const takes = 0.0005
	for _, rate := range []float64{10, 500, 2000, 20000} {
		played, _ := playLog(rate, takes, 0, 60)
		near(t, "syncs of a log of its own", 1/cycle(rate, takes), played, 0.03)
	}
	for _, rate := range []float64{500, 20000, 100000} {
		played, entries := playLog(rate, 480e-6, 3.8e-6, 10)
		syncs, _, in := sharedLog(rate, 480e-6, 3.8e-6)
		near(t, "syncs of a shared log", syncs, played, 0.08)
		near(t, "entries in a sync", in, entries, 0.08)
	}
}

func TestOwnLogsGetWhatTheDiskDoes(t *testing.T) {
	t.Parallel()
	few := []float64{10, 20}
	asked, got, takes := ownLogs(few, 0.0005, 8000)
	if asked != got || takes != 0.0005 {
		t.Errorf("an idle disk: %v asked for, %v done, one takes %v", asked, got, takes)
	}
	many := make([]float64, 100)
	for i := range many {
		many[i] = 1e6 // always something to sync
	}
	asked, got, takes = ownLogs(many, 0.0005, 8000)
	near(t, "asked for by logs that never rest", asked, 100/0.0005, 0.01)
	near(t, "done", got, 8000, 1e-6)
	near(t, "one takes", takes, 100.0/8000, 1e-6)
}

// Two voters that both notice at the timeout: a round of pre-votes, a vote on either disk, the first entry on either.
func TestAnElectionTakesItsSteps(t *testing.T) {
	t.Parallel()
	m := small()
	m.behind = 0
	for _, s := range []style{{"", true, true}, {"", true, false}} {
		b := m.newBallot(3, s, 1)
		b.ages[[2]int{0, 2}], b.ages[[2]int{1, 2}] = 0, 0
		e := &election{quorum: 2, voters: []*voter{{node: 0}, {node: 1}}}
		b.hold([]*election{e}, func(*election) int { return 2 })
		call, sync, vote := m.roundTrip.Seconds()+m.voteCPU.Seconds()/m.cores, (m.syncBase + m.syncEntry).Seconds(), (m.syncBase + m.syncEntry).Seconds()
		entry := sync
		if !s.shared {
			vote = 3 * m.stableSync.Seconds()
		}
		near(t, "the time without a leader", e.led, m.timeout.Seconds()+3*call+2*vote+2*entry+m.roundTrip.Seconds(), 1e-9)
		if e.leader != 0 || e.tries != 1 {
			t.Errorf("node %d leads after %d candidacies; want 0 after 1", e.leader, e.tries)
		}
	}
}

func TestWhoIsBehindDoesNotLead(t *testing.T) {
	t.Parallel()
	m := small()
	m.behind = 1
	var elections []*election
	for range 300 {
		elections = append(elections, &election{quorum: 2, voters: []*voter{{node: 0}, {node: 1}}})
	}
	for _, s := range styles {
		for _, e := range elections {
			*e = election{quorum: 2, voters: []*voter{{node: 0}, {node: 1}}}
		}
		m.newBallot(3, s, 4).hold(elections, func(*election) int { return 2 })
		for _, e := range elections {
			if e.led == 0 {
				t.Fatalf("%s: nobody leads", s.name)
			}
			if v := e.voters[e.leader]; v.behind {
				t.Fatalf("%s: the one that is behind leads", s.name)
			}
		}
	}
}

func TestOneOfThreeIsNoQuorum(t *testing.T) {
	t.Parallel()
	m := small()
	e := &election{quorum: 2, voters: []*voter{{node: 0}}}
	m.newBallot(3, styles[0], 1).hold([]*election{e}, func(*election) int { return 2 })
	if e.led != 0 {
		t.Errorf("one of three leads after %v s", e.led)
	}
}

func TestEveryGroupIsLedAgain(t *testing.T) {
	t.Parallel()
	m := small()
	for _, lost := range m.losses() {
		for _, s := range styles {
			place, after := m.byLoad(256), m.fleet.without(lost.gone)
			elections, next, err := m.failed(place, after, s, 3)
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			for g := range place {
				if after.dead[place[g][0]] {
					want++
				} else if place[g] != next[g] {
					t.Errorf("group %d had a leader and has another", g)
				}
				if after.dead[next[g][0]] {
					t.Errorf("group %d is led by a dead node", g)
				}
			}
			if len(elections) != want {
				t.Errorf("%d elections for %d groups without a leader", len(elections), want)
			}
		}
	}
}

// Timers of one group of three: no voter notices before the timeout less a heartbeat, none after three timeouts.
func TestTimersNoticeWithinTheirBounds(t *testing.T) {
	t.Parallel()
	m := small()
	b := m.newBallot(2, styles[0], 8)
	least, most := 1e9, 0.0
	for range 20000 {
		at := b.notices(&voter{}, 1)
		least, most = min(least, at), max(most, at)
	}
	timeout := m.timeout.Seconds()
	if least < 0.8*timeout || most > 3*timeout || most < 2*timeout {
		t.Errorf("noticed between %v and %v s with a timeout of %v s", least, most, timeout)
	}
}

func TestTransfersTakeTheirTime(t *testing.T) {
	t.Parallel()
	var one []*transfer
	for g := range 10 {
		one = append(one, &transfer{group: g, from: 0, to: 1, bytes: 1e6})
	}
	near(t, "ten between two nodes", carry(2, one, 1e6, 2), 10, 1e-9)
	var apart []*transfer
	for g := range 10 {
		apart = append(apart, &transfer{group: g, from: g, to: 10 + g, bytes: 1e6})
	}
	near(t, "ten between ten pairs", carry(20, apart, 1e6, 2), 2, 1e-9)
}

func TestNoNodeCarriesMoreThanItsSlots(t *testing.T) {
	t.Parallel()
	m := small()
	transfers, _ := m.repairs(m.byLoad(256), m.load(256), m.fleet.without(m.losses()[1].gone))
	carry(m.nodes, transfers, m.copyRate, m.copySlots)
	for _, a := range transfers {
		if a.ended <= a.began {
			t.Fatalf("group %d never arrived", a.group)
		}
		out, in := 0, 0
		for _, b := range transfers {
			if b.began <= a.began && a.began < b.ended {
				if b.from == a.from {
					out++
				}
				if b.to == a.to {
					in++
				}
			}
		}
		if out > m.copySlots || in > m.copySlots {
			t.Fatalf("%d transfers out of node %d and %d into node %d at once", out, a.from, in, a.to)
		}
	}
}
