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
// through it and are held.
type detour struct {
	w        *World
	n        *node
	span     time.Duration
	listener net.Listener

	mu sync.Mutex // guards all below
	// conns are those that are open; closed tells that no more may come.
	conns  map[net.Conn]bool
	closed bool
	random *rand.Rand
}

const (
	// detourPort is where a proxy listens.
	detourPort = "7632"
	// resetTime is how long connections between nodes are answered with resets, so that they are made again.
	resetTime = 300 * time.Millisecond
	// heldMost is how many pieces of at most pieceBytes a connection holds; then its sender must wait.
	heldMost   = 1024
	pieceBytes = 32 << 10
)

// delay leads the connections of other nodes to the fault's nodes through proxies that hold them.
func (w *World) delay(ctx context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	var detours []*detour
	heal := func(ctx context.Context) (err error) {
		for _, d := range detours {
			err = errors.Join(err, d.remove(ctx))
		}
		return err
	}
	for i, n := range nodes {
		d := &detour{w: w, n: n, span: f.Span, conns: map[net.Conn]bool{}, random: rand.New(rand.NewPCG(f.Seed, uint64(i)))}
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
	return d.w.network.lead(ctx, d.n.number, true)
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
			d.pump(way[1], way[0])
			ended <- struct{}{}
		}()
	}
	<-ended
}

// piece is what was read, and when it is to go on.
type piece struct {
	data []byte
	due  time.Time
}

// pump carries bytes one way, each piece late. The order is kept.
func (d *detour) pump(to io.WriteCloser, from io.Reader) {
	pieces := make(chan piece, heldMost)
	go func() {
		defer close(pieces)
		for {
			buffer := make([]byte, pieceBytes)
			n, err := from.Read(buffer)
			if n > 0 {
				pieces <- piece{buffer[:n], time.Now().Add(d.hold())}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		if d.w.Wait(d.w.closing, time.Until(p.due)) != nil {
			break
		}
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	_ = to.Close() // the reader ends with its connection
	for range pieces {
	}
}

// hold is how long a piece is held: the span, and one in fifty five times as long.
func (d *detour) hold() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.random.IntN(50) == 0 {
		return 5 * d.span
	}
	return d.span/2 + time.Duration(d.random.Int64N(int64(d.span)))
}

// lead has the connections of other nodes to one be led to its proxy, or no more; those that stand are reset.
func (n *network) lead(ctx context.Context, i int, on bool) error {
	var others []string
	for other := range n.places {
		if other != i {
			others = append(others, n.host(other))
		}
	}
	from := "ip saddr { " + strings.Join(others, ", ") + " } tcp dport "
	script := "flush chain ip detour pre\n"
	if on {
		script += "add rule ip detour pre " + from + "7631 redirect to :" + detourPort + "\n"
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.nft(ctx, i, script+"add rule ip detour breaks "+from+"{ 7631, "+detourPort+" } ct state established reject with tcp reset\n"); err != nil {
		return err
	}
	timer := time.NewTimer(resetTime)
	defer timer.Stop()
	<-timer.C
	return n.nft(ctx, i, "flush chain ip detour breaks\n")
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
