package workload

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// outside is the world outside Sluice: a folder with a file for each instance, where handlers leave their effects. It
// does what docs/guarantees.md asks of such a system: it refuses an epoch older than the newest it has seen, and it
// knows effects by (lane, seq). Processes share it by locks on its files, which are only appended to, a line at a time.
type outside struct{ dir string }

// errFenced: the epoch is older than one that was seen.
var errFenced = errors.New("workload: fenced off by a later epoch")

// fenceOnly is the key of a line that only raises the epoch.
const fenceOnly = "fence"

func effectKey(lane string, seq uint64) string { return fmt.Sprintf("%s-%d", lane, seq) }

// fence tells the outside of an epoch, and asks how often each of some effects was left.
func (o outside) fence(instance string, epoch uint64, keys ...string) (counts []int, err error) {
	before, err := o.leave(instance, epoch, fenceOnly)
	for _, key := range keys {
		counts = append(counts, before[key])
	}
	return counts, err
}

// effect leaves an effect, and tells how often the same had been left before.
func (o outside) effect(instance string, epoch uint64, key string) (before int, err error) {
	counts, err := o.leave(instance, epoch, key)
	return counts[key], err
}

// leave appends a line to an instance's file unless the epoch is old, and counts what stood there before.
func (o outside) leave(instance string, epoch uint64, key string) (counts map[string]int, err error) {
	f, err := os.OpenFile(filepath.Join(o.dir, url.PathEscape(instance)), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("workload: outside: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }() // which lets the lock go
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("workload: outside: lock: %w", err)
	}
	newest, counts, err := readLedger(f)
	if err != nil {
		return nil, fmt.Errorf("workload: outside: %w", err)
	}
	if epoch < newest {
		return nil, fmt.Errorf("%w: %s is at epoch %d, not %d", errFenced, instance, newest, epoch)
	}
	if _, err := fmt.Fprintf(f, "%d %s\n", epoch, key); err != nil {
		return nil, fmt.Errorf("workload: outside: %w", err)
	}
	return counts, nil
}

func readLedger(r io.Reader) (newest uint64, counts map[string]int, err error) {
	counts = map[string]int{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var epoch uint64
		var key string
		if _, err := fmt.Sscan(lines.Text(), &epoch, &key); err != nil {
			return 0, nil, fmt.Errorf("a line that cannot be read: %q", lines.Text())
		}
		newest = max(newest, epoch)
		counts[key]++
	}
	return newest, counts, lines.Err()
}

// Effects reads a folder of effects back: how often each was left, by "application/instance lane-seq".
func Effects(dir string) (map[string]int, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("workload: outside: %w", err)
	}
	all := map[string]int{}
	for _, file := range files {
		instance, err := url.PathUnescape(file.Name())
		if err != nil {
			return nil, fmt.Errorf("workload: outside: %w", err)
		}
		text, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			return nil, fmt.Errorf("workload: outside: %w", err)
		}
		_, counts, err := readLedger(strings.NewReader(string(text)))
		if err != nil {
			return nil, fmt.Errorf("workload: outside: %s: %w", instance, err)
		}
		for key, count := range counts {
			if key != fenceOnly {
				all[instance+" "+key] = count
			}
		}
	}
	return all, nil
}
