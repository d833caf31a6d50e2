// Package process starts the processes that are measured, and reads what they and the machine use.
package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	// ReadyWithin bounds how long a node, or anything that is waited for, may take.
	ReadyWithin = 60 * time.Second
	stopWithin  = 15 * time.Second
	readyEvery  = 2 * time.Millisecond
)

// Node is one process under measurement.
type Node struct {
	// Name tells the node from others of its cluster; Address is where clients reach it.
	Name, Address string
	// Pid is the process that does the work: the one started, unless that is a script and the work is done below it.
	Pid     int
	log     string
	cmd     *exec.Cmd
	started time.Time
	gone    chan struct{} // closed when it has ended
}

// Cluster is the processes of one cluster.
type Cluster struct {
	// All are its nodes.
	All []*Node
	// Dir holds all their data, and goes with them.
	Dir string
}

// Program is what to start.
type Program struct {
	// Name and Address of the node.
	Name, Address string
	// Log is the file to which its output is appended.
	Log string
	// Env comes on top of this process's environment.
	Env []string
	// Path and Args are the program and what it is told.
	Path string
	Args []string
}

// Launch starts a program. It dies with this process.
func Launch(p Program) (*Node, error) {
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	n := &Node{Name: p.Name, Address: p.Address, log: p.Log, cmd: exec.Command(p.Path, p.Args...), gone: make(chan struct{}), started: time.Now()}
	n.cmd.Stdout, n.cmd.Stderr, n.cmd.Env = out, out, append(os.Environ(), p.Env...)
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	n.Pid = n.cmd.Process.Pid
	go func() { _ = n.cmd.Wait(); close(n.gone) }() // how it ended shows in its log
	return n, nil
}

// Ready waits until the probe succeeds, and tells how long that took since the start.
func (n *Node) Ready(ctx context.Context, probe func(context.Context) error) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, ReadyWithin)
	defer cancel()
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		err := probe(ctx)
		if err == nil {
			return time.Since(n.started), nil
		}
		select {
		case <-n.gone:
			return 0, fmt.Errorf("the node at %s ended by itself:\n%s", n.Address, n.tail())
		case <-ctx.Done():
			return 0, fmt.Errorf("the node at %s is not ready: %w:\n%s", n.Address, err, n.tail())
		case <-tick.C:
		}
	}
}

// Answers is a probe: the page must be answered with 200.
func Answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, answer.Status)
		}
		return nil
	}
}

func (n *Node) tail() string {
	text, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// End sends a signal and waits until the process is gone.
func (n *Node) End(signal syscall.Signal) error {
	if err := n.cmd.Process.Signal(signal); err != nil {
		return err
	}
	<-n.gone
	return nil
}

// Stop ends the node in good order, by force if it does not end in time.
func (n *Node) Stop() error {
	timer := time.NewTimer(stopWithin)
	defer timer.Stop()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	select {
	case <-n.gone:
		return nil
	case <-timer.C:
	}
	err := syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL)
	<-n.gone
	return errors.Join(fmt.Errorf("the node at %s did not stop within %v", n.Address, stopWithin), err)
}

// Stop ends all nodes and removes their data.
func (c *Cluster) Stop() (err error) {
	stopped := make(chan error)
	for _, one := range c.All {
		go func() { stopped <- one.Stop() }()
	}
	for range c.All {
		err = errors.Join(err, <-stopped)
	}
	return errors.Join(err, os.RemoveAll(c.Dir))
}

// Up waits until all nodes are ready, each by its own probe; if one is not, it stops them.
func (c *Cluster) Up(ctx context.Context, probe func(*Node) func(context.Context) error) error {
	for _, one := range c.All {
		if _, err := one.Ready(ctx, probe(one)); err != nil {
			return errors.Join(err, c.Stop())
		}
	}
	return nil
}

// From gives one node's address, the nodes in turn.
func (c *Cluster) From(i int) string { return c.All[i%len(c.All)].Address }

// Addresses are those of all nodes.
func (c *Cluster) Addresses() (all []string) {
	for _, one := range c.All {
		all = append(all, one.Address)
	}
	return all
}

// FreePorts asks the kernel for addresses that are free for TCP and UDP.
func FreePorts(count int) (addresses []string, err error) {
	for len(addresses) < count {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer tcp.Close()
		if udp, err := net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			defer udp.Close()
			addresses = append(addresses, tcp.Addr().String())
		}
	}
	return addresses, nil
}
