package snapshot

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sluice/internal/disk"
)

// FuzzExtract reads any bytes as an archive: an error leaves no folder behind, and no error means a folder whose
// archive is those bytes; outside of it nothing is written.
func FuzzExtract(f *testing.F) {
	for _, content := range []map[string]string{{}, {"a": ""}, {"CURRENT": "x", "b.sst": "y"}} {
		dir := f.TempDir()
		for name, text := range content {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				f.Fatal(err)
			}
		}
		files, err := list(disk.System(), dir)
		var b bytes.Buffer
		if err := errors.Join(err, write(&b, disk.System(), dir, files, believed)); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte(magic + "\x00\x05../up\x00\x00\x00\x00\x00\x00\x00\x01x"))
	f.Add([]byte(magic + "\x00\x01a\x7f\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "out")
		err := Extract(disk.System(), bytes.NewReader(data), dir)
		entries, readErr := os.ReadDir(parent)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if err != nil {
			if len(entries) != 0 {
				t.Fatalf("left behind: %v", entries)
			}
			return
		}
		if len(entries) != 1 || entries[0].Name() != "out" {
			t.Fatalf("outside the folder: %v", entries)
		}
		files, err := list(disk.System(), dir)
		if err != nil || archiveSize(files) != int64(len(data)) {
			t.Fatalf("%d bytes made %v (%v)", len(data), files, err)
		}
	})
}

// believed takes every file for what it should be.
var believed = proof{before: func(string) error { return nil }, after: func(string, uint32) error { return nil }}
