package main

import (
	"fmt"
	"io"
	"math"
)

// beatInterval is the mean time between two heartbeats of a leader to a follower.
func (m *model) beatInterval() float64 { return 1.5 * m.timeout.Seconds() / 10 }

// beatCPU is what one message of a heartbeat, or its answer, costs over a connection of its own: what a replica at rest
// costs more with connections than without, over the messages of its group.
func (m *model) beatCPU() float64 {
	messages := 2 * (replicas - 1) / m.beatInterval()
	return replicas * (m.idleTCP - m.idleMemory).Seconds() / messages
}

// beats are the messages that a node sends a second, in the mean, and the processors that this and rest take.
type beats struct{ messages, cpu float64 }

// perGroup is one heartbeat for each follower of each group, over connections of its own.
func (m *model) perGroup(groups int) beats {
	each := float64(replicas*groups) / float64(m.nodes)
	return beats{
		messages: 2 * (replicas - 1) / m.beatInterval() * float64(groups) / float64(m.nodes),
		cpu:      each * m.idleTCP.Seconds(),
	}
}

// coalesced is one message to each node that follows, for all groups; the timers of each group go on.
func (m *model) coalesced(place placement) beats {
	b := m.betweenNodes(place)
	b.cpu += float64(replicas*len(place)) / float64(m.nodes) * m.idleMemory.Seconds()
	return b
}

// betweenNodes is one message to each node that follows, which speaks for the node.
func (m *model) betweenNodes(place placement) beats {
	messages := 2 * float64(followed(place)) / float64(m.nodes) / m.beatInterval()
	return beats{messages: messages, cpu: messages * m.beatCPU()}
}

// followed counts the pairs of nodes of which the one leads a group that the other follows.
func followed(place placement) int {
	pairs := map[[2]int]bool{}
	for _, nodes := range place {
		for _, n := range nodes[1:] {
			pairs[[2]int{nodes[0], n}] = true
		}
	}
	return len(pairs)
}

// quiet is the share of groups in which nothing is entered for as long as the heartbeat timeout.
func (m *model) quiet(l load, rate float64) (share float64) {
	for _, s := range l.share {
		share += math.Exp(-s * rate * m.entriesOfJob * m.timeout.Seconds())
	}
	return share / float64(len(l.share))
}

// printBeats compares ways to know who is alive.
func printBeats(out io.Writer, m *model) error {
	t := newTable("Heartbeats: messages that a node sends a second, and processors that are busy with them and with replicas at rest",
		"groups", "each group", "CPU", "coalesced", "CPU", "between nodes", "CPU", "groups quiet at the demand", "at 1 % of it")
	for _, groups := range m.groups {
		place, l := m.byLoad(groups), m.load(groups)
		own, one, node := m.perGroup(groups), m.coalesced(place), m.betweenNodes(place)
		t.row(count(float64(groups)), count(own.messages), fmt.Sprintf("%.2f", own.cpu), count(one.messages), fmt.Sprintf("%.2f", one.cpu),
			count(node.messages), fmt.Sprintf("%.2f", node.cpu), percent(m.quiet(l, m.rate)), percent(m.quiet(l, m.rate/100)))
	}
	return t.print(out)
}

// printMemory compares what replicas may share.
func printMemory(out io.Writer, m *model) error {
	t := newTable("Memory of a node, beside caches",
		"groups", "replicas", "all of their own", "connections shared", "store and log shared, too", "of it the log's index")
	for _, groups := range m.groups {
		have := float64(replicas*groups) / float64(m.nodes)
		index := have * m.trailing * m.indexBytes
		raft := m.processBytes + have*m.replicaBytes
		t.row(count(float64(groups)), fmt.Sprintf("%.0f", have), bytes(raft+have*(m.connectionBytes+m.storeBytes)),
			bytes(raft+have*m.storeBytes), bytes(raft+m.storeBytes+index), bytes(index))
	}
	return t.print(out)
}
