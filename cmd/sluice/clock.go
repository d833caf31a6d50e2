//go:build !skewed

package main

import "sluice/server"

// clocked leaves a node its machine's clock. A build with the tag skewed, for tests of clusters, gives it another.
func clocked(cfg server.Config, _ func(string) string) server.Config { return cfg }
