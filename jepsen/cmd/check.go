//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sluice/jepsen/check"
	"sluice/jepsen/history"
)

// errViolated: the history speaks against an invariant.
var errViolated = errors.New("there are violations")

// judge reads the history of a run, and prints the verdict.
func judge(dir string) error {
	file, err := os.Open(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		return err
	}
	h, err := history.Read(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	c, err := check.New(h)
	if err != nil {
		return err
	}
	v := check.Judge(c)
	if err := v.Print(os.Stdout); err != nil {
		return err
	}
	if n := v.Count(); n > 0 {
		return fmt.Errorf("%w: %d in %s", errViolated, n, dir)
	}
	return nil
}
