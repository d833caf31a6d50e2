package queue_test

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sluice/queue"
)

// No byte of a table may differ without being noticed; what is beside the blocks is the footer, which has a checksum, too.
func TestDamageOfATableIsFound(t *testing.T) {
	t.Parallel()
	disk := flushedStore(t)
	names, err := disk.List("/store")
	mustNot(t, err)
	for _, name := range names {
		if !queue.IsTable(name) {
			continue
		}
		path := "/store/" + name
		mustNot(t, queue.CheckTable(disk, path))
		whole := readFile(t, disk, path)
		for at := 0; at < len(whole); at += 1 + len(whole)/200 {
			damaged := append([]byte(nil), whole...)
			damaged[at] ^= 0x10
			other := vfs.NewMem()
			mustNot(t, other.MkdirAll("/store", 0o700))
			writeFile(t, other, path, damaged)
			if err := queue.CheckTable(other, path); !errors.Is(err, queue.ErrCorrupt) {
				t.Fatalf("byte %d of %d of %s is damaged: %v", at, len(whole), name, err)
			}
		}
		return
	}
	t.Fatal("there is no table")
}
