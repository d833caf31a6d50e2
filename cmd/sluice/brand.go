//go:build !mutant

package main

import "log/slog"

// branded leaves a version as it is. A build with the tag mutant is broken on purpose, to see who notices, and says so.
func branded(version string) string { return version }

// confess has nothing to say.
func confess(*slog.Logger) {}
