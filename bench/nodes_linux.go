package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	readyWithin = 60 * time.Second
	stopWithin  = 15 * time.Second
	readyEvery  = 2 * time.Millisecond
)

// node is one process under measurement.
type node struct {
	address string
	log     string
	cmd     *exec.Cmd
	started time.Time
	gone    chan struct{} // closed when it has ended
}

// nodes are the processes of one cluster.
type nodes struct {
	all []*node
	dir string
}

// launch starts a program in a folder, its output in a file beside.
func launch(address, log string, env []string, program string, args ...string) (*node, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	n := &node{address: address, log: log, cmd: exec.Command(program, args...), gone: make(chan struct{}), started: time.Now()}
	n.cmd.Stdout, n.cmd.Stderr, n.cmd.Env = out, out, append(os.Environ(), env...)
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = n.cmd.Wait(); close(n.gone) }() // how it ended shows in its log
	return n, nil
}

// ready waits until the node says that it is, and tells how long that took since its start.
func (n *node) ready(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.address+"/readyz", nil)
		if err != nil {
			return 0, err
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return time.Since(n.started), nil
			}
		}
		select {
		case <-n.gone:
			return 0, fmt.Errorf("the node at %s ended by itself:\n%s", n.address, n.tail())
		case <-ctx.Done():
			return 0, fmt.Errorf("the node at %s is not ready:\n%s", n.address, n.tail())
		case <-tick.C:
		}
	}
}

func (n *node) tail() string {
	text, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// stop ends the node in good order, by force if it does not end in time.
func (n *node) stop() error {
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
	err := n.cmd.Process.Kill()
	<-n.gone
	return errors.Join(fmt.Errorf("the node at %s did not stop within %v", n.address, stopWithin), err)
}

func (n *nodes) stop() (err error) {
	stopped := make(chan error)
	for _, one := range n.all {
		go func() { stopped <- one.stop() }()
	}
	for range n.all {
		err = errors.Join(err, <-stopped)
	}
	return errors.Join(err, os.RemoveAll(n.dir))
}

// up waits until all nodes are ready; if one is not, it stops them.
func (n *nodes) up(ctx context.Context) (*nodes, error) {
	for _, one := range n.all {
		if _, err := one.ready(ctx); err != nil {
			return nil, errors.Join(err, n.stop())
		}
	}
	return n, nil
}

// freePorts asks the kernel for addresses that are free for TCP and UDP.
func freePorts(count int) (addresses []string, err error) {
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

// startSluice starts three nodes of Sluice.
func (s *settings) startSluice(ctx context.Context) (*nodes, error) {
	ports, err := freePorts(6)
	if err != nil {
		return nil, err
	}
	n := &nodes{}
	if n.dir, err = os.MkdirTemp(s.dir, "sluice-"); err != nil {
		return nil, err
	}
	for i := range 3 {
		id := fmt.Sprintf("n%d", i+1)
		args := []string{"server", "--node-id", id, "--data-dir", filepath.Join(n.dir, id), "--listen", ports[i], "--gossip", ports[3+i], "--bootstrap-expect", "3"}
		for _, gossip := range ports[3:] {
			args = append(args, "--join", gossip)
		}
		one, err := launch(ports[i], filepath.Join(n.dir, id+".log"), nil, s.bin, args...)
		if err != nil {
			return nil, errors.Join(err, n.stop())
		}
		n.all = append(n.all, one)
	}
	return n.up(ctx)
}

// startBare starts three nodes of bare raft: this program again.
func (s *settings) startBare(ctx context.Context) (*nodes, error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n := &nodes{}
	if n.dir, err = os.MkdirTemp(s.dir, "bare-"); err != nil {
		return nil, err
	}
	var peers []string
	for i, port := range ports {
		peers = append(peers, fmt.Sprintf("n%d=%s", i+1, port))
	}
	for i, port := range ports {
		id := fmt.Sprintf("n%d", i+1)
		dir := filepath.Join(n.dir, id)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, errors.Join(err, n.stop())
		}
		what := bareNode + "=" + strings.Join(append([]string{id, dir, s.logStore}, peers...), "\n")
		one, err := launch(port, filepath.Join(n.dir, id+".log"), []string{what}, self)
		if err != nil {
			return nil, errors.Join(err, n.stop())
		}
		n.all = append(n.all, one)
	}
	return n.up(ctx)
}
