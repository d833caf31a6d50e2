//go:build linux

package proc

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"sluice/jepsen/history"
)

const (
	stopWithin = 15 * time.Second
	// reviveAfter is how long a node that ended by itself stays down.
	reviveAfter = time.Second
)

// node is one place and what runs in it.
type node struct {
	w      *World
	place  string
	number int
	// address and gossip are those of the place, for ever.
	address, gossip string
	disk            *disk // nil: a plain folder

	mu sync.Mutex // guards all below
	// id of the node in the place; generation counts those that have been there.
	id         string
	generation int
	process    *process
	// held says that a fault keeps the node down, so that nobody else starts it.
	held bool
}

// process is one process of ours.
type process struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
}

// launch starts a program that ends with this one, its output appended to a file.
func launch(log string, argv []string, env ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("proc: %w", err)
	}
	defer out.Close()
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), gone: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = out, out, append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("proc: start %s: %w", argv[0], err)
	}
	go func() { _ = p.cmd.Wait(); close(p.gone) }() // how it ended shows in its log
	return p, nil
}

func (p *process) alive() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// signal sends a signal; to one that has ended it is not sent.
func (p *process) signal(s os.Signal) error {
	if !p.alive() {
		return nil
	}
	return p.cmd.Process.Signal(s)
}

// kill ends the process at once, and waits until it has ended.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.gone
}

// stop ends the process in good order, by force if that takes too long.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	timer := time.NewTimer(stopWithin)
	defer timer.Stop()
	select {
	case <-p.gone:
	case <-timer.C:
		p.kill()
	}
}

func (n *node) data() string { return filepath.Join(n.w.cfg.Dir, "nodes", n.place, "data") }

func (n *node) log() string { return filepath.Join(n.w.cfg.Dir, "log", n.place+".log") }

// arguments are those of the node's process.
func (n *node) arguments() []string {
	expect := len(n.w.nodes)
	if n.generation > 1 {
		expect = 0 // it joins a cluster that is there
	}
	argv := []string{
		n.w.cfg.Bin, "server", "--node-id", n.id, "--data-dir", n.data(), "--listen", n.address, "--gossip", n.gossip,
		"--bootstrap-expect", strconv.Itoa(expect), "--audit-file", filepath.Join(n.w.cfg.Dir, "audit", n.id+".jsonl"),
		"--snapshot-interval", "1s", "--snapshot-threshold", "50", "--trailing-logs", "16",
	}
	for _, other := range n.w.nodes {
		argv = append(argv, "--join", other.gossip)
	}
	if stores := n.w.cfg.LogStores; len(stores) > 0 {
		argv = append(argv, "--log-store", stores[n.number%len(stores)])
	}
	if n.w.authorities != nil {
		argv = append(argv, "--tls-cert", n.tls(certFile), "--tls-key", n.tls(keyFile), "--tls-ca", n.tls(caFile))
	} else {
		argv = append(argv, "--insecure")
	}
	if n.w.network != nil {
		argv = n.w.network.within(n.number, argv)
	}
	return argv
}

// start starts the node if it is down.
func (n *node) start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = false
	return n.startLocked()
}

func (n *node) startLocked() error {
	if n.process != nil && n.process.alive() {
		return nil
	}
	p, err := launch(n.log(), n.arguments(), clockVariable+"="+n.clock())
	if err != nil {
		return err
	}
	n.process = p
	go n.watch(p)
	return nil
}

// watch starts a node again that ended by itself: what is not a fault is told in the history.
func (n *node) watch(p *process) {
	<-p.gone
	n.mu.Lock()
	current := n.process == p && !n.held
	n.mu.Unlock()
	if !current || n.w.closing.Err() != nil {
		return
	}
	n.w.log.Mark(history.Mark{Name: history.NodeEnded, Text: fmt.Sprintf("%s ended by itself: %v", n.id, p.cmd.ProcessState)})
	if n.w.Wait(n.w.closing, reviveAfter) != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == p && !n.held {
		if err := n.startLocked(); err != nil {
			n.w.cfg.Tell("%s could not be started again: %v", n.place, err)
		}
	}
}

// hold has nobody but the holder start the node, and gives what runs.
func (n *node) hold() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = true
	return n.process
}

// running is what runs in the place, alive or not.
func (n *node) running() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

func (n *node) name() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.id
}

// renew has the place's next process be another node.
func (n *node) renew() (old string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old = n.id
	n.generation++
	n.id = fmt.Sprintf("%s-%d", n.place, n.generation)
	return old
}

// wipe takes all data of the place away.
func (n *node) wipe(ctx context.Context) error {
	if n.disk == nil {
		return os.RemoveAll(n.data())
	}
	if err := n.disk.unmount(ctx); err != nil {
		return err
	}
	return n.disk.format(ctx)
}
