//go:build mutant

package main

import "log/slog"

// mutant names what is broken in this build; jepsen/mutant sets it by -ldflags "-X main.mutant=…".
var mutant = "without a name"

// branded says in the version what is broken.
func branded(version string) string { return version + " MUTANT " + mutant }

// confess says so in the first line of a node's log.
func confess(l *slog.Logger) {
	l.Error("this build of Sluice is broken on purpose: never use it", "mutant", mutant)
}
