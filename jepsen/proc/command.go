//go:build linux

package proc

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// commandTime bounds one command of the operating system.
const commandTime = 30 * time.Second

// command runs a program to its end. Its error carries what the program wrote.
func command(ctx context.Context, stdin string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if stdin != "" {
		c.Stdin = strings.NewReader(stdin)
	}
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// undo is a list of what is to be undone, last first.
type undo []func(context.Context) error

func (u *undo) add(f func(context.Context) error) { *u = append(*u, f) }

// addCommand adds a command that undoes something.
func (u *undo) addCommand(name string, args ...string) {
	u.add(func(ctx context.Context) error {
		_, err := command(ctx, "", name, args...)
		return err
	})
}

// run undoes everything, whatever fails on the way, and tells what did.
func (u *undo) run(ctx context.Context) (errs []error) {
	for n := len(*u) - 1; n >= 0; n-- {
		if err := (*u)[n](ctx); err != nil {
			errs = append(errs, err)
		}
	}
	*u = nil
	return errs
}
