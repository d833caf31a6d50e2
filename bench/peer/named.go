//go:build linux

package peer

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
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
	case "etcd", "etcd-each":
		binary, err := built("etcd")
		return Etcd{Binary: binary, Each: name == "etcd-each"}, err
	case "restate":
		binary, err := built("restate-server")
		return Restate{Binary: binary}, err
	case "rabbitmq":
		return RabbitMQ{Scripts: rabbitScripts}, errors.Join(installed(filepath.Join(rabbitScripts, "rabbitmq-server")), installed("epmd"))
	}
	return nil, fmt.Errorf("there is no peer %q", name)
}

// rabbitScripts is where Debian's package has the programs; those on the path want to be another user.
const rabbitScripts = "/usr/lib/rabbitmq/bin"

// installed says so if a program is not there.
func installed(program string) error {
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("it is not installed (apt-get install rabbitmq-server): %w", err)
	}
	return nil
}
