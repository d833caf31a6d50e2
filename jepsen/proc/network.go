//go:build linux

package proc

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"

	"sluice/jepsen/world"
)

// network joins the nodes and the workers: one namespace for each node, and one for all workers, on one bridge, with a
// filter in each namespace.
type network struct {
	name   string // of the bridge, and the beginning of all other names
	subnet string // the first three numbers
	places []string
	undo   undo

	mu sync.Mutex // guards all below, and changes of the filters
	// cuts counts the faults that want each cut; losses those that want a share of a node's packets dropped.
	cuts   map[setCut]int
	losses map[string][]int
}

// setCut is a cut and the set that makes it, which says what is cut.
type setCut struct {
	set string
	world.Cut
}

// The sets of addresses that are not heard: at all, in gossip, in all that nodes say to each other but gossip, and at
// all with connections that break, so that nothing waits in them for the cut to be healed.
const (
	cutAll    = "inb"
	cutGossip = "gossip"
	cutRaft   = "raft"
	cutLag    = "lag"
)

// The ports of a place, in a namespace of its own: its node's, its gossip's, and that of a proxy before the node.
const (
	nodePort   = "7631"
	gossipPort = "7641"
	detourPort = "7632"
)

// filter is what stands in each namespace: sets of addresses that are not heard, a chain for loss, and chains that lead
// connections through a proxy.
const filter = `table inet part {
 set inb { type ipv4_addr; }
 set gossip { type ipv4_addr; }
 set raft { type ipv4_addr; }
 set lag { type ipv4_addr; }
 chain loss { }
 chain i {
  type filter hook input priority 0; iif "lo" accept; ip saddr @inb drop;
  ip saddr @gossip th dport ` + gossipPort + ` drop; ip saddr @gossip th sport ` + gossipPort + ` drop;
  ip saddr @raft tcp dport { ` + nodePort + ", " + detourPort + ` } drop; ip saddr @raft tcp sport ` + nodePort + ` drop;
  ip saddr @lag ct state established meta l4proto tcp reject with tcp reset; ip saddr @lag drop;
  jump loss;
 }
}
table ip detour {
 chain breaks { type filter hook input priority 10; }
 chain pre { type nat hook prerouting priority -100; }
}
`

// prefix begins the names of everything that is made on the machine.
const prefix = "sj"

// newNetwork makes the network; its error says what is not there.
func newNetwork(ctx context.Context, places []string) (*network, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("network namespaces need root")
	}
	for _, program := range []string{"ip", "nft", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("there is no program %s", program)
		}
	}
	n := &network{name: fmt.Sprintf("%s%d", prefix, os.Getpid()), subnet: fmt.Sprintf("10.213.%d", os.Getpid()%250+1), places: places, cuts: map[setCut]int{}, losses: map[string][]int{}}
	if err := n.make(ctx); err != nil {
		return nil, fmt.Errorf("%w%s", err, also(n.undo.run(context.WithoutCancel(ctx))))
	}
	return n, nil
}

func also(errs []error) (text string) {
	for _, err := range errs {
		text += "; " + err.Error()
	}
	return text
}

func (n *network) make(ctx context.Context) error {
	if _, err := command(ctx, "", "ip", "link", "add", n.name, "type", "bridge"); err != nil {
		return err
	}
	n.undo.addCommand("ip", "link", "del", n.name)
	for _, args := range [][]string{{"addr", "add", n.subnet + ".254/24", "dev", n.name}, {"link", "set", n.name, "up"}} {
		if _, err := command(ctx, "", "ip", args...); err != nil {
			return err
		}
	}
	for i := range len(n.places) + 1 {
		if err := n.join(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// workersPlace is where all workers are, behind the places of nodes.
const workersPlace = "workers"

// join makes the namespace of one place and connects it.
func (n *network) join(ctx context.Context, i int) error {
	ns, veth := n.namespace(i), fmt.Sprintf("%sv%d", n.name, i+1)
	if _, err := command(ctx, "", "ip", "netns", "add", ns); err != nil {
		return err
	}
	n.undo.addCommand("ip", "netns", "del", ns)
	if _, err := command(ctx, "", "ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", ns); err != nil {
		return err
	}
	// The end of a namespace takes its time; until then the pair would stay, and with it the name.
	n.undo.addCommand("ip", "link", "del", veth)
	for _, args := range [][]string{
		{"link", "set", veth, "master", n.name, "up"},
		{"-n", ns, "addr", "add", n.host(i) + "/24", "dev", "eth0"},
		{"-n", ns, "link", "set", "eth0", "up"},
		{"-n", ns, "link", "set", "lo", "up"},
	} {
		if _, err := command(ctx, "", "ip", args...); err != nil {
			return err
		}
	}
	return n.nft(ctx, i, filter)
}

func (n *network) namespace(i int) string { return fmt.Sprintf("%sn%d", n.name, i+1) }

func (n *network) host(i int) string { return fmt.Sprintf("%s.%d", n.subnet, i+1) }

// within makes a command that runs in the namespace of a place. Unlike `ip netns exec`, nsenter leaves the mounts
// alone: a copy of them would keep the disks of other nodes in use.
func (n *network) within(i int, argv []string) []string {
	return append([]string{"nsenter", "--net=/run/netns/" + n.namespace(i), "--"}, argv...)
}

func (n *network) nft(ctx context.Context, i int, script string) error {
	argv := n.within(i, []string{"nft", "-f", "-"})
	_, err := command(ctx, script, argv[0], argv[1:]...)
	return err
}

func (n *network) place(name string) int {
	for i, place := range n.places {
		if place == name {
			return i
		}
	}
	if name == workersPlace {
		return len(n.places)
	}
	return -1
}

// cut adds one to the faults that want each cut by a set, or takes one off; the filters follow.
func (n *network) cut(ctx context.Context, set string, cuts []world.Cut, by int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	changes := map[int]string{}
	for _, cut := range cuts {
		from, to := n.place(cut.From), n.place(cut.To)
		if from < 0 || to < 0 || from == to {
			return fmt.Errorf("proc: no cut from %q to %q: the places are %v", cut.From, cut.To, n.places)
		}
		before := n.cuts[setCut{set, cut}]
		n.cuts[setCut{set, cut}] = before + by
		switch {
		case before == 0 && by > 0:
			changes[to] += fmt.Sprintf("add element inet part %s { %s }\n", set, n.host(from))
		case before+by == 0 && by < 0:
			changes[to] += fmt.Sprintf("delete element inet part %s { %s }\n", set, n.host(from))
		}
	}
	for to, script := range changes {
		if err := n.nft(ctx, to, script); err != nil {
			return err
		}
	}
	return nil
}

// lose adds a share of packets that places drop, or takes it off; the greatest holds.
func (n *network) lose(ctx context.Context, places []string, percent int, on bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range places {
		i := n.place(name)
		if i < 0 {
			return fmt.Errorf("proc: there is no place %q: the places are %v", name, n.places)
		}
		n.losses[name] = withOrWithout(n.losses[name], percent, on)
		script := "flush chain inet part loss\n"
		if most := greatest(n.losses[name]); most > 0 {
			script += fmt.Sprintf("add rule inet part loss numgen random mod 100 < %d drop\n", most)
		}
		if err := n.nft(ctx, i, script); err != nil {
			return err
		}
	}
	return nil
}

func withOrWithout(all []int, one int, with bool) []int {
	if with {
		return append(all, one)
	}
	for i, other := range all {
		if other == one {
			return append(all[:i:i], all[i+1:]...)
		}
	}
	return all
}

func greatest(all []int) (most int) {
	for _, one := range all {
		most = max(most, one)
	}
	return most
}
