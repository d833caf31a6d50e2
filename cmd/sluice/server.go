package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"

	"sluice/api/reason"
	"sluice/cluster"
	"sluice/internal/audit"
	"sluice/internal/obs"
	"sluice/queue"
	"sluice/server"
)

func newServer(sh *shell) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "server", Short: "Run a node of a cluster", Args: noArgs,
		Long: `Runs one node until it is interrupted; then it hands its leadership over and ends in good order. Every flag can also be
said by the environment (SLUICE_NODE_ID for --node-id, and so on) or in a YAML file (--config, the keys are the flags'
names). The flag wins over the environment, the environment over the file.

Plain text is spoken on loopback addresses alone, unless --insecure is given; for all others give --tls-cert, --tls-key
and --tls-ca: nodes then know each other by their certificates.`,
		Example: `  sluice server --node-id n1 --data-dir /var/lib/sluice --listen 127.0.0.1:7631 --bootstrap-expect 1     # a cluster of one
  sluice server --node-id n1 --data-dir n1 --listen 127.0.0.1:7631 --gossip 127.0.0.1:7641 \
      --join 127.0.0.1:7642 --join 127.0.0.1:7643 --bootstrap-expect 3                                   # one of three
  sluice server --config /etc/sluice.yaml`,
	}
	settingFlags(c.Flags())
	c.Flags().StringVar(&file, "config", "", "file of settings, YAML (SLUICE_CONFIG)")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		k, err := loadSettings(cmd.Flags(), firstOf(file, sh.getenv("SLUICE_CONFIG")), sh.getenv)
		if err != nil {
			return misused(err)
		}
		cfg, err := serverConfig(sh, k)
		if err != nil {
			return misused(err)
		}
		cfg = clocked(cfg, sh.getenv)
		if name := k.String("audit-file"); name != "" {
			return audited(cmd.Context(), cfg, name)
		}
		return serve(cmd.Context(), cfg)
	}
	return c
}

// misused makes what is wrong with the settings a wrong usage, which it is, and keeps its hint.
func misused(err error) error {
	var h *hinted
	if errors.As(err, &h) {
		return hint(usagef("%s", err), "%s", h.hint)
	}
	return usagef("%s", err)
}

// serverConfig makes a node's configuration of the settings.
func serverConfig(sh *shell, k *koanf.Koanf) (server.Config, error) {
	for _, name := range []string{"node-id", "data-dir", "listen"} {
		if k.String(name) == "" {
			return server.Config{}, fmt.Errorf("the node needs --%s (or SLUICE_%s, or %s in the --config file)", name, strings.ToUpper(strings.ReplaceAll(name, "-", "_")), name)
		}
	}
	logger, err := nodeLogger(sh, k.String("log-format"), k.String("log-level"))
	if err != nil {
		return server.Config{}, err
	}
	cfg := server.Config{
		NodeID: k.String("node-id"), Cluster: k.String("cluster-name"), DataDir: k.String("data-dir"), Version: branded(version), Logger: logger,
		Listen: k.String("listen"), Advertise: k.String("advertise"), Gossip: k.String("gossip"),
		BootstrapExpect: k.Int("bootstrap-expect"), Join: k.Strings("join"),
		CertFile: k.String("tls-cert"), KeyFile: k.String("tls-key"), CAFile: k.String("tls-ca"), Insecure: k.Bool("insecure"), StartHeld: k.Bool("start-held"),
		LogStore: k.String("log-store"), Profiles: k.Bool("profiles"), DrainBeside: k.Int("drain-beside"),
	}
	if cfg.ElectionTimeout, err = span(k, "election-timeout"); err != nil {
		return server.Config{}, err
	}
	if cfg.SnapshotInterval, err = span(k, "snapshot-interval"); err != nil {
		return server.Config{}, err
	}
	if cfg.SnapshotThreshold, err = count(k, "snapshot-threshold"); err != nil {
		return server.Config{}, err
	}
	if cfg.TrailingLogs, err = count(k, "trailing-logs"); err != nil {
		return server.Config{}, err
	}
	if err := gossipAddresses(cfg); err != nil {
		return server.Config{}, err
	}
	return cfg, cfg.Defaults().Validate()
}

// gossipAddresses refuses addresses of which gossip would only find out, again and again, that nobody is there.
func gossipAddresses(cfg server.Config) error {
	if cfg.Gossip == "" && (cfg.BootstrapExpect > 1 || len(cfg.Join) > 0) {
		return hint(fmt.Errorf("bootstrap-expect %d and %d times join: more nodes than one find each other by gossip: the node needs a gossip address", cfg.BootstrapExpect, len(cfg.Join)), "--gossip HOST:PORT")
	}
	if cfg.Gossip != "" && cfg.Gossip == cfg.Listen && !strings.HasSuffix(cfg.Gossip, ":0") {
		return hint(fmt.Errorf("listen and gossip are both %s: each needs a port of its own", cfg.Gossip), "--gossip HOST:PORT, with another port than --listen")
	}
	for _, address := range cfg.Join {
		_, text, err := net.SplitHostPort(address)
		if port, wrong := strconv.ParseUint(text, 10, 16); err != nil || wrong != nil || port == 0 {
			return hint(fmt.Errorf("join: %q is not host:port with a port within 1 and 65535", address), "--join HOST:PORT, the gossip address of another node")
		}
	}
	return nil
}

// span reads a setting that is a length of time; zero if it was not given.
func span(k *koanf.Koanf, name string) (time.Duration, error) {
	if k.String(name) == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(k.String(name))
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s: %q is no length of time above zero: give it as in 10s or 2m", name, k.String(name))
	}
	return d, nil
}

// count reads a setting that is a number; zero if it was not given.
func count(k *koanf.Koanf, name string) (uint64, error) {
	if n := k.Int(name); n >= 0 {
		return uint64(n), nil
	}
	return 0, fmt.Errorf("%s: %d is below zero", name, k.Int(name))
}

// nodeLogger is the one log stream of a node: standard error.
func nodeLogger(sh *shell, format, level string) (*slog.Logger, error) {
	l, err := obs.NewLogger(sh.err, format, level)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	confess(l)
	return l, nil
}

// audited serves and appends every applied entry to a file.
func audited(ctx context.Context, cfg server.Config, name string) error {
	file, err := audit.Open(name)
	if err != nil {
		return err
	}
	cfg.Audit = file.Append
	return errors.Join(serve(ctx, cfg), file.Close())
}

func serve(ctx context.Context, cfg server.Config) error {
	cfg.BlockCache = queue.NewBlockCache(1)
	defer cfg.BlockCache.Close()
	node, err := server.New(cfg)
	if err != nil {
		return startTrouble(cfg, err)
	}
	tendMemory(ctx, cfg.BlockCache)
	return folderTrouble(cfg, node.Run(ctx))
}

// folderTrouble says what to do about a data folder that is not as it was written, or is not the one of the member that the
// node claims to be.
func folderTrouble(cfg server.Config, err error) error {
	switch {
	case errors.Is(err, reason.MemberExists):
		return hint(err, "start it with the data folder of that member, or under another --node-id; if that member is gone and its folder lost: sluice cluster remove %s --yes, and start this node again", cfg.NodeID)
	case cluster.Damaged(err):
		return hint(err, "keep %s aside for examination; sluice cluster remove %s --yes; then start the node with an empty folder under a new id (--data-dir, --node-id, --join)", cfg.DataDir, cfg.NodeID)
	}
	return err
}

// startTrouble says what to do when a node cannot start.
func startTrouble(cfg server.Config, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return hint(fmt.Errorf("cannot listen on %s: another process uses that port", busyAddress(cfg, err)), "stop it, or choose another: --listen HOST:PORT, --gossip HOST:PORT")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return hint(err, "the address is none of this machine's; choose another with --listen HOST:PORT")
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EROFS):
		return hint(err, "the data folder must be writable for this user: --data-dir %s", cfg.DataDir)
	case errors.Is(err, syscall.ENOSPC):
		return hint(err, "free space where --data-dir %s lies; a fresh folder needs about 70 MB", cfg.DataDir)
	}
	return folderTrouble(cfg, addressTrouble(cfg, err))
}

// addressTrouble names the flags that an address asks for.
func addressTrouble(cfg server.Config, err error) error {
	if !strings.HasPrefix(err.Error(), "transport: ") {
		return err
	}
	host, _, wrong := net.SplitHostPort(cfg.Listen)
	ip := net.ParseIP(host)
	local := host == "localhost" || ip != nil && ip.IsLoopback()
	switch {
	case wrong != nil:
		return hint(err, "give it as in --listen 127.0.0.1:7631")
	case !local && cfg.CertFile == "" && !cfg.Insecure:
		return hint(err, "give --tls-cert FILE --tls-key FILE --tls-ca FILE, or listen on 127.0.0.1; --insecure lets anybody who reaches the port in")
	case (host == "" || ip != nil && ip.IsUnspecified()) && cfg.Advertise == "":
		return hint(err, "give the address under which others reach this node: --advertise HOST:PORT")
	}
	return err
}

// busyAddress is the address that could not be bound.
func busyAddress(cfg server.Config, err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil {
		return op.Addr.String()
	}
	return cfg.Listen
}
