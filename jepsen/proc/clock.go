//go:build linux

package proc

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sluice/jepsen/world"
)

// clockVariable tells a node built with the tag skewed which file says by how much its clock is ahead.
const (
	clockVariable = "SLUICE_TEST_CLOCK"
	clockTag      = "skewed"
)

// canSkew says why a program's clock cannot be set.
func canSkew(bin string) error {
	info, err := buildinfo.ReadFile(bin)
	if err != nil {
		return fmt.Errorf("it cannot be told how %s was built: %w", bin, err)
	}
	for _, s := range info.Settings {
		if s.Key == "-tags" && slices.Contains(strings.Split(s.Value, ","), clockTag) {
			return nil
		}
	}
	return fmt.Errorf("%s was built without the tag %s, and has the machine's clock", bin, clockTag)
}

// clock is the file that says by how much the clock of a place is ahead.
func (n *node) clock() string { return filepath.Join(n.w.cfg.Dir, "clock", n.place) }

// setClock writes the file in one step.
func (n *node) setClock(ahead time.Duration) error {
	next := n.clock() + ".next"
	if err := os.WriteFile(next, []byte(ahead.String()), 0o600); err != nil {
		return fmt.Errorf("proc: clock: %w", err)
	}
	return os.Rename(next, n.clock())
}

// skew has the clocks of nodes jump, and Heal has them jump back.
func (w *World) skew(_ context.Context, f world.Fault, nodes []*node) (world.Heal, error) {
	heal := func(context.Context) (err error) {
		for _, n := range nodes {
			err = errors.Join(err, n.setClock(0))
		}
		return err
	}
	for _, n := range nodes {
		if err := n.setClock(f.Span); err != nil {
			return heal, err
		}
	}
	return heal, nil
}
