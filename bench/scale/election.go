package main

import "math"

// style is how a cluster notices that a leader is gone, and where it keeps votes.
type style struct {
	name string
	// nodes: each node knows of each other node whether it is alive; otherwise each group has timers of its own.
	nodes bool
	// shared: votes are in the node's one log; otherwise in a stable store of each group.
	shared bool
}

var styles = []style{
	{"timers and stable store of each group (today)", false, false},
	{"timers of each group, shared log", false, true},
	{"nodes know nodes, stable store of each group", true, false},
	{"nodes know nodes, shared log", true, true},
}

// voter is a replica that is left of a group.
type voter struct {
	node int
	// missed: it has noticed that the leader is gone.
	missed bool
	// behind: it lacks an entry that the others have.
	behind bool
	term   int
	// voted is whom it voted for in its term; nil: nobody.
	voted *voter
}

// election is one group's.
type election struct {
	group  int
	voters []*voter
	quorum int
	// led is when its new leader's first entry is committed; 0: not yet.
	led    float64
	leader int
	tries  int
}

// ballot is all elections that one failure calls for.
type ballot struct {
	*world
	m     *model
	style style
	disks []*disk
	// free is when a node has answered all calls that it got.
	free []float64
	// ages are how long before the failure a node heard of another.
	ages map[[2]int]float64
}

func (m *model) newBallot(nodes int, s style, use uint64) *ballot {
	b := &ballot{world: &world{chance: m.chance(use)}, m: m, style: s, free: make([]float64, nodes), ages: map[[2]int]float64{}}
	for range nodes {
		b.disks = append(b.disks, &disk{w: b.world, shared: s.shared, base: m.syncBase.Seconds(), entry: m.syncEntry.Seconds(), parallel: int(math.Round(m.syncParallel))})
	}
	return b
}

// hold has the voters of each group notice, each in its time, and elect. The failure is at 0.
func (b *ballot) hold(elections []*election, dead func(*election) int) {
	for _, e := range elections {
		if b.chance.Float64() < b.m.behind {
			e.voters[b.chance.IntN(len(e.voters))].behind = true
		}
		for rank, v := range e.voters {
			b.after(b.notices(v, dead(e)), func() {
				v.missed = true
				if !b.style.nodes || rank == 0 {
					b.stand(e, v)
					return
				}
				// Those behind the first let it win.
				b.after(float64(rank)*b.patience(), func() { b.stand(e, v) })
			})
		}
	}
	b.run()
}

// patience is how long a voter waits for another that stands first, or until it stands again.
func (b *ballot) patience() float64 {
	if b.style.nodes {
		return b.between(0.05, 0.1)
	}
	return b.between(b.m.timeout.Seconds(), 2*b.m.timeout.Seconds())
}

// notices is when a voter knows that its leader's node is gone.
func (b *ballot) notices(v *voter, dead int) float64 {
	timeout := b.m.timeout.Seconds()
	interval := b.between(timeout/10, timeout/5)
	if b.style.nodes {
		pair := [2]int{v.node, dead}
		if _, ok := b.ages[pair]; !ok {
			b.ages[pair] = b.between(0, interval)
		}
		return timeout - b.ages[pair]
	}
	// Raft's timer goes on by itself, and only looks how long ago the last word of the leader is.
	heard := -b.between(0, interval)
	timer := -40 * timeout
	for timer < heard+timeout {
		timer += b.between(timeout, 2*timeout)
	}
	return max(timer, 0)
}

// call reaches another node and has it answer; back is called with what it says.
func (b *ballot) call(to int, answer func(back func(bool)), back func(bool)) {
	half := b.m.roundTrip.Seconds() / 2
	b.after(half, func() {
		b.free[to] = max(b.free[to], b.now) + b.m.voteCPU.Seconds()/b.m.cores
		b.after(b.free[to]-b.now, func() {
			answer(func(ok bool) { b.after(half, func() { back(ok) }) })
		})
	})
}

// stand asks the others whether they would vote, and then for their votes.
func (b *ballot) stand(e *election, v *voter) {
	if e.led > 0 {
		return
	}
	e.tries++
	began, retry := b.now, b.patience()
	again := func() { b.after(max(0, began+retry-b.now), func() { b.stand(e, v) }) }
	b.poll(e, v, func(u *voter, back func(bool)) { back(u.missed && v.upToDate(u)) }, func(won bool) {
		if !won || e.led > 0 {
			again()
			return
		}
		b.elect(e, v, again)
	})
}

func (v *voter) upToDate(u *voter) bool { return !v.behind || u.behind }

// poll asks all others and tells once whether a quorum, the asker among it, agrees.
func (b *ballot) poll(e *election, v *voter, ask func(u *voter, back func(bool)), told func(bool)) {
	yes, open, over := 1, len(e.voters)-1, false
	for _, u := range e.voters {
		if u == v {
			continue
		}
		b.call(u.node, func(back func(bool)) { ask(u, back) }, func(ok bool) {
			open--
			if ok {
				yes++
			}
			if over || yes < e.quorum && open > 0 {
				return
			}
			over = true
			told(yes >= e.quorum)
		})
	}
}

// elect has a voter vote for itself, asks for votes, and commits the first entry of the term.
func (b *ballot) elect(e *election, v *voter, again func()) {
	v.term++
	v.voted = v
	term := v.term
	b.disks[v.node].keep(b.voteTakes(), func() {
		b.poll(e, v, func(u *voter, back func(bool)) { b.vote(u, v, term, back) }, func(won bool) {
			if !won || v.term != term || e.led > 0 {
				again()
				return
			}
			b.begin(e, v)
		})
	})
}

// voteTakes is how long a vote takes to be durable in a stable store of its own.
func (b *ballot) voteTakes() float64 { return float64(b.m.stableWrites) * b.m.stableSync.Seconds() }

func (b *ballot) vote(u, v *voter, term int, back func(bool)) {
	if !u.missed || term < u.term || !v.upToDate(u) || term == u.term && u.voted != v && u.voted != nil {
		back(false)
		return
	}
	u.term, u.voted = term, v
	b.disks[u.node].keep(b.voteTakes(), func() { back(true) })
}

// begin commits the new leader's first entry: on its own disk, and then on a quorum's.
func (b *ballot) begin(e *election, v *voter) {
	takes := b.m.syncBase.Seconds() + b.m.syncEntry.Seconds()
	b.disks[v.node].keep(takes, func() {
		b.poll(e, v, func(u *voter, back func(bool)) {
			b.disks[u.node].keep(takes, func() { back(true) })
		}, func(bool) {
			if e.led == 0 {
				e.led, e.leader = b.now+b.m.roundTrip.Seconds(), v.node
			}
		})
	})
}
