package cluster

import (
	"fmt"

	"sluice/fsm"
)

// groupID names a raft group.
type groupID uint32

// firstGroup is the only group there is so far.
const firstGroup groupID = 1

// route tells which group holds an instance. Every raft stream, folder and metric carries the group, so that there can
// be more of them; the public contract never shows one.
func route(fsm.InstanceID) groupID { return firstGroup }

// groupOf is the group that holds an instance, on this node.
func (n *Node) groupOf(id fsm.InstanceID) *group {
	if g := route(id); g != firstGroup {
		panic(fmt.Sprintf("cluster: instance %s is routed to group %d, which this node does not have", id, g))
	}
	return n.group
}

// folder is the group's place within the data folder.
func (g groupID) folder() string { return fmt.Sprintf("groups/%04d", uint32(g)) }
