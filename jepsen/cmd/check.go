//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sluice/jepsen/check"
	"sluice/jepsen/history"
)

// errViolated: the history speaks against an invariant.
var errViolated = errors.New("there are violations")

// errCutOff: of what is missing nothing can be said.
var errCutOff = errors.New("the history does not come to its end: it was cut off, or its run was killed or goes on")

// judge reads the history of a run, prints the verdict, and leaves beside it what is for looking: verdict.txt,
// history.edn and timeline.html, of the instance whose mode changed most. The sum is of what could be judged.
func judge(dir string) (sum check.Sum, err error) {
	file, err := os.Open(filepath.Join(dir, "history.jsonl"))
	if err != nil {
		return sum, fmt.Errorf("%s is not the folder of a run: %w", dir, err)
	}
	h, err := history.Read(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return sum, fmt.Errorf("%s: %w", dir, err)
	}
	if !h.Whole {
		return sum, fmt.Errorf("%s: %w", dir, errCutOff)
	}
	c, err := check.New(h)
	if err != nil {
		return sum, err
	}
	v := check.Judge(c)
	err = errors.Join(
		v.Print(os.Stdout),
		leave(dir, "verdict.txt", v.Print),
		leave(dir, "history.edn", h.WriteEDN),
	)
	if i := c.Busiest(); i != nil {
		err = errors.Join(err, leave(dir, "timeline.html", func(out io.Writer) error { return c.Timeline(out, i) }))
	}
	if n := v.Count(); n > 0 {
		err = errors.Join(fmt.Errorf("%w: %d in %s", errViolated, n, dir), err)
	}
	return v.Sum(), err
}

// judgeAll judges runs again, and prints their sum if there are many.
func judgeAll(dirs []string) error {
	var sum check.Sum
	var bad []error
	for _, dir := range dirs {
		if len(dirs) > 1 {
			fmt.Printf("\n%s:\n", dir)
		}
		one, err := judge(dir)
		sum = sum.Plus(one)
		if err != nil {
			bad = append(bad, err)
		}
	}
	if len(dirs) > 1 {
		bad = append(bad, sum.Print(os.Stdout))
	}
	return errors.Join(bad...)
}

func leave(dir, name string, write func(io.Writer) error) error {
	file, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}
