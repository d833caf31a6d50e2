package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"sluice/queue"
	"sluice/server"
)

// devSettings are what "dev" is told.
type devSettings struct {
	listen, dataDir, level string
	nodes                  int
	startHeld              bool
}

func newDev(sh *shell) *cobra.Command {
	var d devSettings
	c := &cobra.Command{
		Use: "dev", Short: "Run one or more nodes in this process, to try things on", Args: noArgs,
		Long: `Runs nodes in this process until it is interrupted, and says where they are and what to try next. Without --data-dir
everything lies in a temporary folder that is removed at the end.`,
		Example: "  sluice dev\n  sluice dev --nodes 3 --data-dir ./data",
	}
	f := c.Flags()
	f.StringVar(&d.listen, "listen", defaultAddress, "where the first node listens, HOST:PORT; further ones take the next ports; port 0 is any free one")
	f.StringVar(&d.dataDir, "data-dir", "", "folder for the data, which is kept (default: a temporary one, removed at the end)")
	f.IntVar(&d.nodes, "nodes", 1, "how many nodes, 1 to 7")
	f.BoolVar(&d.startHeld, "start-held", false, "put every application into recovery before anything is delivered")
	f.StringVar(&d.level, "log-level", "warn", "what is logged: debug, info, warn or error")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if d.nodes < 1 || d.nodes > devNodesMost {
			return usagef("--nodes %d: there can be 1 to %d", d.nodes, devNodesMost)
		}
		return sh.dev(cmd.Context(), d)
	}
	return c
}

func (sh *shell) dev(ctx context.Context, d devSettings) error {
	dir, remove, err := dataFolder(d.dataDir)
	if err != nil {
		return err
	}
	defer remove()
	if err := sameNodes(dir, d.nodes); err != nil {
		return err
	}
	configs, err := devConfigs(sh, d, dir)
	if err != nil {
		return err
	}
	begun := sh.now()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	blocks := queue.NewBlockCache(len(configs))
	defer blocks.Close()
	tendMemory(ctx, blocks)
	var (
		nodes   []*server.Server
		running sync.WaitGroup
		ended   = make(chan error, len(configs))
	)
	for i, cfg := range configs {
		cfg.BlockCache = blocks
		node, err := server.New(cfg)
		if err != nil {
			stop()
			running.Wait()
			return startTrouble(cfg, err)
		}
		nodes = append(nodes, node)
		for later := i + 1; later < len(configs); later++ {
			configs[later].Join = append(configs[later].Join, node.Node().GossipAddress())
		}
		running.Go(func() {
			defer stop()
			ended <- node.Run(ctx)
		})
	}
	err = waitReady(ctx, nodes)
	switch {
	case err == nil:
		sh.banner(nodes, dir, d.dataDir != "", sh.now().Sub(begun))
	case ctx.Err() != nil:
		err = nil // it was interrupted, or a node ended, which says why
	default:
		stop()
	}
	running.Wait()
	close(ended)
	return joined(err, ended)
}

// joined is what went wrong at the start, and all that nodes had to say at their end.
func joined(first error, ended <-chan error) error {
	all := []error{first}
	for err := range ended {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// dataFolder makes the folder for the data; remove takes a temporary one away.
func dataFolder(named string) (dir string, remove func(), err error) {
	if named != "" {
		return named, func() {}, nil
	}
	if dir, err = os.MkdirTemp("", "sluice-dev-"); err != nil {
		return "", nil, fmt.Errorf("make a temporary folder: %w", err)
	}
	return dir, func() { os.RemoveAll(dir) }, nil // what cannot be removed lies in the system's temporary folder
}

// sameNodes refuses a folder in which another number of nodes founded a cluster: too few would wait for the others for ever.
func sameNodes(dir string, nodes int) error {
	found := 0
	for ; found < devNodesMost; found++ {
		if _, err := os.Stat(filepath.Join(dir, devNode(found))); err != nil {
			break
		}
	}
	if found > 0 && found != nodes {
		return usagef("--nodes %d: in %s are %d nodes; say --nodes %d, or name another folder", nodes, dir, found, found)
	}
	return nil
}

// devNodesMost is how many nodes dev runs at the most.
const devNodesMost = 7

// devNode is the id of a node.
func devNode(n int) string { return fmt.Sprintf("dev%d", n+1) }

func waitReady(ctx context.Context, nodes []*server.Server) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, node := range nodes {
		if err := node.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// devConfigs are the configurations of the nodes. A single one needs no gossip; of several each gossips on a port of the
// kernel's choice, and is yet to be told where those before it do.
func devConfigs(sh *shell, d devSettings, dir string) ([]server.Config, error) {
	logger, err := nodeLogger(sh, "text", d.level)
	if err != nil {
		return nil, usagef("--log-level: %s", err)
	}
	host, portText, err := net.SplitHostPort(d.listen)
	if err != nil {
		return nil, usagef("--listen %q is not HOST:PORT", d.listen)
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535-d.nodes {
		return nil, usagef("--listen %q: the port is a number from 0 to %d", d.listen, 65535-d.nodes)
	}
	configs := make([]server.Config, d.nodes)
	for i := range configs {
		id := devNode(i)
		configs[i] = server.Config{
			NodeID: id, Cluster: "dev", DataDir: filepath.Join(dir, id), Version: branded(version), Logger: logger, Insecure: sh.insecure,
			CertFile: sh.tls.cert, KeyFile: sh.tls.key, CAFile: sh.tls.ca, BootstrapExpect: d.nodes, StartHeld: d.startHeld,
			Listen: net.JoinHostPort(host, strconv.Itoa(port+min(port, 1)*i)),
		}
		if d.nodes > 1 {
			configs[i].Gossip = "127.0.0.1:0"
		}
	}
	return configs, nil
}

// banner says where everything is, and what to try next.
func (sh *shell) banner(nodes []*server.Server, dir string, kept bool, took time.Duration) {
	var addresses []string
	for _, n := range nodes {
		addresses = append(addresses, n.Addr().String())
	}
	keeps := "temporary: removed at the end"
	if kept {
		keeps = "kept"
	}
	addr := ""
	if addresses[0] != defaultAddress {
		addr = " --addr " + addresses[0]
	}
	fmt.Fprintf(sh.out, `sluice %s: ready in %v
  nodes    %s
  data     %s (%s)
  pages    http://%s/     metrics http://%s/metrics
  next     echo 'name: orders' | sluice app apply%s -f -
           sluice send%s orders/4711 --type order.placed --data '{"total": 12}'
  stop     Ctrl-C
`, branded(version), took.Round(time.Millisecond), strings.Join(addresses, ", "), dir, keeps, addresses[0], addresses[0], addr, addr)
}
