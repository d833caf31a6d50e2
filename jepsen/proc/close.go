//go:build linux

package proc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"sluice/internal/audit"
	"sluice/jepsen/history"
)

// Close ends everything, brings the notes of nodes and workers into the history, and removes what was made on the
// machine. Logs, audits and the history stay in the folder of the run.
func (w *World) Close() error {
	ctx := context.Background()
	w.close()
	errs := []error{w.StopWorkers(ctx)}
	var ending sync.WaitGroup
	for _, n := range w.nodes {
		ending.Go(func() { n.end(ctx) })
	}
	ending.Wait()
	for _, n := range w.nodes {
		if n.disk != nil {
			errs = append(errs, n.disk.remove(ctx))
		}
	}
	if w.network != nil {
		errs = append(errs, w.network.undo.run(ctx)...)
	}
	errs = append(errs, os.RemoveAll(filepath.Join(w.cfg.Dir, "nodes")))
	if w.log != nil {
		err := w.collect()
		if err == nil {
			w.log.End()
		}
		errs = append(errs, err, w.log.Err())
	}
	for _, f := range []*os.File{w.file, w.clients} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// end ends a node, whatever a fault may have done to it.
func (n *node) end(ctx context.Context) {
	if n.disk != nil && n.disk.mounted {
		_ = n.disk.thaw(ctx) // which fails if it is not frozen
	}
	if p := n.hold(); p != nil {
		_ = p.signal(syscall.SIGCONT) // it may have ended
		p.stop()
	}
}

// collect brings the notes of nodes and workers into the history.
func (w *World) collect() error {
	take := func(r history.Row) error { w.log.Append(r); return nil }
	if err := w.audits(take); err != nil {
		return err
	}
	workers, err := filepath.Glob(filepath.Join(w.cfg.Dir, "workers", "*.jsonl"))
	if err != nil {
		return err
	}
	for _, name := range workers {
		if err := rows(name, take); err != nil {
			return err
		}
	}
	return nil
}

// SoFar is the history of a run that goes on, without what workers noted.
func (w *World) SoFar() (*history.History, error) {
	return history.Gather(func(take func(history.Row) error) error {
		return errors.Join(rows(w.file.Name(), take), w.audits(take))
	})
}

// rows hands over the rows of a file.
func rows(name string, take func(history.Row) error) error {
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	defer file.Close()
	return history.Rows(file, take)
}

// audits hands over what nodes have noted.
func (w *World) audits(take func(history.Row) error) error {
	names, err := filepath.Glob(filepath.Join(w.cfg.Dir, "audit", "*.jsonl"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := w.audit(name, take); err != nil {
			return err
		}
	}
	return nil
}

func (w *World) audit(name string, take func(history.Row) error) error {
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	defer file.Close()
	node := strings.TrimSuffix(filepath.Base(name), ".jsonl")
	lines := json.NewDecoder(bufio.NewReaderSize(file, 1<<20))
	for {
		var row audit.Row
		err := lines.Decode(&row)
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) { // a node that was killed, or writes, leaves a piece
			return nil
		}
		if err != nil {
			return fmt.Errorf("proc: the audit of %s: %w", node, err)
		}
		note := history.FromAudit(node, row)
		if err := take(history.Row{At: time.Unix(0, row.Time).Sub(w.start), Audit: &note}); err != nil {
			return err
		}
	}
}

// made are names of what a maker has left on the machine: the maker's process id is in them.
var made = regexp.MustCompile(`^` + prefix + `(\d+)([nv]\d+)?$`)

// sweep removes what makers left that are no more.
func sweep(ctx context.Context, tell func(string, ...any)) {
	if os.Geteuid() != 0 {
		return
	}
	for list, remove := range map[string][]string{"/run/netns": {"netns", "del"}, "/sys/class/net": {"link", "del"}} {
		entries, err := os.ReadDir(list)
		if err != nil {
			continue // the machine has none
		}
		for _, entry := range entries {
			match := made.FindStringSubmatch(entry.Name())
			if match == nil || exists(match[1]) {
				continue
			}
			tell("left behind by a run that was killed, and removed: %s", entry.Name())
			if _, err := command(ctx, "", "ip", append(append([]string{}, remove...), entry.Name())...); err != nil {
				tell("%v", err)
			}
		}
	}
	sweepMounts(ctx, tell)
}

// sweepMounts unmounts disks whose image is gone, or whose maker is: their folders say who made them.
func sweepMounts(ctx context.Context, tell func(string, ...any)) {
	text, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[2] != "ext4" || !strings.HasPrefix(fields[0], "/dev/loop") {
			continue
		}
		maker, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(fields[1])), makerFile))
		if err != nil || exists(strings.TrimSpace(string(maker))) {
			continue
		}
		tell("left behind by a run that was killed, and unmounted: %s", fields[1])
		if _, err := command(ctx, "", "umount", "-l", fields[1]); err != nil {
			tell("%v", err)
		}
	}
}

// makerFile lies in the folder of a run, and holds its maker's process id.
const makerFile = "maker"

func exists(pid string) bool {
	number, err := strconv.Atoi(pid)
	return err == nil && syscall.Kill(number, 0) == nil
}
