package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sluice/bench/bare"
	"sluice/bench/process"
)

// bareNode is set, to "ID DIR LOGSTORE ID=ADDRESS…", in the processes that are nodes of bare raft.
const bareNode = "SLUICE_BENCH_BARE_NODE"

func bareMain(ctx context.Context) error {
	fields := strings.Split(os.Getenv(bareNode), "\n")
	cfg := bare.Config{ID: fields[0], Dir: fields[1], LogStore: fields[2], Peers: map[string]string{}}
	for _, peer := range fields[3:] {
		id, address, _ := strings.Cut(peer, "=")
		cfg.Peers[id] = address
	}
	return bare.Run(ctx, cfg)
}

// startBare starts three nodes of bare raft: this program again.
func (s *settings) startBare(ctx context.Context) (*process.Cluster, error) {
	ports, err := process.FreePorts(3)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &process.Cluster{}
	if c.Dir, err = os.MkdirTemp(s.dir, "bare-"); err != nil {
		return nil, err
	}
	var peers []string
	for i, port := range ports {
		peers = append(peers, fmt.Sprintf("n%d=%s", i+1, port))
	}
	for i, port := range ports {
		id := fmt.Sprintf("n%d", i+1)
		dir := filepath.Join(c.Dir, id)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, errors.Join(err, c.Stop())
		}
		what := bareNode + "=" + strings.Join(append([]string{id, dir, s.logStore}, peers...), "\n")
		one, err := process.Launch(process.Program{Name: id, Address: port, Log: filepath.Join(c.Dir, id+".log"), Env: []string{what}, Path: self})
		if err != nil {
			return nil, errors.Join(err, c.Stop())
		}
		c.All = append(c.All, one)
	}
	return c, c.Up(ctx, ready)
}

// ready is the probe of nodes that show /readyz.
func ready(n *process.Node) func(context.Context) error {
	return process.Answers("http://" + n.Address + "/readyz")
}
