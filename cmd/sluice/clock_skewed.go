//go:build skewed

package main

import (
	"os"
	"strings"
	"sync/atomic"
	"time"

	"sluice/cluster"
	"sluice/server"
)

// clockVariable names the file that holds by how much the node's clock is ahead: 30s, -5s. It may change at any time.
const clockVariable = "SLUICE_TEST_CLOCK"

// clockEvery is how often the file is read.
const clockEvery = 20 * time.Millisecond

// clocked gives a node a clock that is ahead of the machine's by what a file says, from one moment to the next.
func clocked(cfg server.Config, getenv func(string) string) server.Config {
	name := getenv(clockVariable)
	if name == "" {
		return cfg
	}
	var ahead atomic.Int64
	go func() {
		for range time.Tick(clockEvery) {
			text, err := os.ReadFile(name)
			if err != nil {
				continue // it is not there yet, or being replaced
			}
			if d, err := time.ParseDuration(strings.TrimSpace(string(text))); err == nil {
				ahead.Store(int64(d))
			}
		}
	}()
	cfg.Tune = func(c *cluster.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}
	return cfg
}
