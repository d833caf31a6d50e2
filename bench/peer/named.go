//go:build linux

package peer

import (
	"fmt"
	"os"
	"path/filepath"

	"sluice/bench/load"
)

// Named makes a peer by its name, or says why this machine cannot run it. Tools is the folder with the binaries that are
// built from Go modules.
func Named(name, tools string) (load.Peer, error) {
	built := func(program string) (string, error) {
		file := filepath.Join(tools, program)
		if _, err := os.Stat(file); err != nil {
			return "", fmt.Errorf("it is not built: %w", err)
		}
		return file, nil
	}
	switch name {
	case "nats", "nats-default", "nats-queue":
		binary, err := built("nats-server")
		return NATS{Binary: binary, Always: name != "nats-default", Queue: name == "nats-queue"}, err
	case "etcd":
		binary, err := built("etcd")
		return Etcd{Binary: binary}, err
	}
	return nil, fmt.Errorf("there is no peer %q", name)
}
