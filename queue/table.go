package queue

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// IsTable tells by its name whether a file of a store's folder is a table, of which CheckTable can tell whether it is as it
// was written.
func IsTable(path string) bool { return filepath.Ext(path) == ".sst" }

// CheckTable reads a table and compares every block with its checksum: ErrCorrupt if one differs.
func CheckTable(fs vfs.FS, path string) (err error) {
	file, err := fs.Open(path)
	if err != nil {
		return fmt.Errorf("queue: check %s: %w", path, err)
	}
	readable, err := sstable.NewSimpleReadable(file)
	if err != nil {
		return fmt.Errorf("queue: check %s: %w", path, errors.Join(corruption(err), file.Close()))
	}
	r, err := sstable.NewReader(context.Background(), readable, sstable.ReaderOptions{})
	if err != nil {
		return fmt.Errorf("queue: check %s: %w", path, errors.Join(corruption(err), readable.Close()))
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.ValidateBlockChecksums(); err != nil {
		return fmt.Errorf("queue: check %s: %w", path, corruption(err))
	}
	return nil
}
