//go:build linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sluice/jepsen/world"
)

// detour is a proxy in a node's namespace: while it stands, what other nodes say to the node, and its answers, go
// through it and are treated badly.
type detour struct {
	w *World
	n *node
	// treat makes what treats one way of one connection.
	treat    func(random *rand.Rand) treatment
	listener net.Listener

	mu sync.Mutex // guards all below
	// conns are those that are open; closed tells that no more may come.
	conns  map[net.Conn]bool
	closed bool
	random *rand.Rand
}

const (
	// resetTime is how long connections between nodes are answered with resets, so that they are made again.
	resetTime = 300 * time.Millisecond
	// heldMost is how many pieces of at most pieceBytes a connection holds; then its sender must wait.
	heldMost   = 256
	pieceBytes = 16 << 10
)

// detoured leads the connections of other nodes to some nodes through proxies that treat them.
func (w *World) detoured(ctx context.Context, f world.Fault, nodes []*node, treat func(*rand.Rand) treatment) (world.Heal, error) {
	var detours []*detour
	heal := func(ctx context.Context) (err error) {
		for _, d := range detours {
			err = errors.Join(err, d.remove(ctx))
		}
		return err
	}
	for i, n := range nodes {
		d := &detour{w: w, n: n, treat: treat, conns: map[net.Conn]bool{}, random: rand.New(rand.NewPCG(f.Seed, uint64(i)))}
		if err := d.make(ctx); err != nil {
			return heal, err
		}
		detours = append(detours, d)
	}
	return heal, nil
}

func (d *detour) make(ctx context.Context) error {
	host, _, err := net.SplitHostPort(d.n.address)
	if err != nil {
		return err
	}
	err = d.w.network.inside(d.n.number, func() (err error) {
		d.listener, err = net.Listen("tcp", net.JoinHostPort(host, detourPort))
		return err
	})
	if err != nil {
		return err
	}
	go d.serve()
	if err := d.w.network.lead(ctx, d.n.number, true); err != nil {
		return errors.Join(err, d.remove(context.WithoutCancel(ctx)))
	}
	return nil
}

// remove has nodes speak to each other directly again.
func (d *detour) remove(ctx context.Context) error {
	err := d.w.network.lead(ctx, d.n.number, false)
	err = errors.Join(err, d.listener.Close())
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for c := range d.conns {
		_ = c.Close() // what is on its way is lost, as it is when a machine between dies
	}
	return err
}

func (d *detour) serve() {
	for {
		c, err := d.listener.Accept()
		if err != nil {
			return // it was closed
		}
		go d.carry(c)
	}
}

// keep notes a connection; false: it is too late.
func (d *detour) keep(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns[c] = true
	return !d.closed
}

// treatment makes one for one way of a connection, with a source of chance of its own.
func (d *detour) treatment() treatment {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.treat(rand.New(rand.NewPCG(d.random.Uint64(), d.random.Uint64())))
}

func (d *detour) carry(from net.Conn) {
	defer from.Close()
	var to net.Conn
	err := d.w.network.inside(d.n.number, func() (err error) {
		to, err = net.DialTimeout("tcp", d.n.address, time.Second)
		return err
	})
	if err != nil {
		return
	}
	defer to.Close()
	if !d.keep(from) || !d.keep(to) {
		return
	}
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			d.w.pump(way[1], way[0], d.treatment())
			ended <- struct{}{}
		}()
	}
	<-ended
}

// pump carries bytes one way, each piece as it is treated. The order is kept.
func (w *World) pump(to io.WriteCloser, from io.Reader, treat treatment) {
	pieces := make(chan piece, heldMost)
	go func() {
		defer close(pieces)
		for {
			buffer := make([]byte, pieceBytes)
			n, err := from.Read(buffer)
			if n > 0 {
				p := treat(buffer[:n], time.Now())
				pieces <- p
				if p.last {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		if w.Wait(w.closing, time.Until(p.due)) != nil {
			break
		}
		if _, err := to.Write(p.data); err != nil || p.last {
			break
		}
	}
	_ = to.Close() // the reader ends with its connection
	for range pieces {
	}
}

// lead has the connections of other nodes to one be led to its proxy, or no more; those that stand are reset.
func (n *network) lead(ctx context.Context, i int, on bool) error {
	script := "flush chain ip detour pre\n"
	if on {
		script += "add rule ip detour pre " + n.from(n.others(i)) + "tcp dport " + nodePort + " redirect to :" + detourPort + "\n"
	}
	return n.reset(ctx, map[int]string{i: script + n.breaks(n.others(i))})
}

// sever resets all connections between one node and the others, whoever made them.
func (n *network) sever(ctx context.Context, i int) error {
	scripts := map[int]string{i: n.breaks(n.others(i))}
	for _, other := range n.others(i) {
		scripts[other] = n.breaks([]int{i})
	}
	return n.reset(ctx, scripts)
}

func (n *network) others(i int) (others []int) {
	for other := range n.places {
		if other != i {
			others = append(others, other)
		}
	}
	return others
}

// from is the beginning of a rule about what some nodes send.
func (n *network) from(nodes []int) string {
	var hosts []string
	for _, i := range nodes {
		hosts = append(hosts, n.host(i))
	}
	return "ip saddr { " + strings.Join(hosts, ", ") + " } "
}

// breaks is a rule that resets the connections that some nodes have made.
func (n *network) breaks(nodes []int) string {
	return "add rule ip detour breaks " + n.from(nodes) + "tcp dport { " + nodePort + ", " + detourPort + " } ct state established reject with tcp reset\n"
}

// reset changes the filters of nodes, and has the rules that reset connections stand for a while.
func (n *network) reset(ctx context.Context, scripts map[int]string) (err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, script := range scripts {
		err = errors.Join(err, n.nft(ctx, i, script))
	}
	timer := time.NewTimer(resetTime)
	defer timer.Stop()
	<-timer.C
	for i := range scripts {
		err = errors.Join(err, n.nft(ctx, i, "flush chain ip detour breaks\n"))
	}
	return err
}

// inside runs a function in the namespace of a place; sockets that it makes stay there. The thread comes back from it
// and lives on: processes that were started by a thread are killed when it ends (Pdeathsig).
func (n *network) inside(i int, f func() error) (err error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("proc: %w", err)
	}
	defer home.Close()
	there, err := os.Open("/run/netns/" + n.namespace(i))
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("proc: %w", err)
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("proc: setns: %w", err)
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread stays locked, so that nobody else runs in a foreign namespace.
		return errors.Join(err, fmt.Errorf("proc: setns: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}
