package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The manifest is a row of chunks in blocks of 32 KiB: a checksum of four bytes, a length of two, a kind of one, and so
// many bytes. A chunk does not cross a block's end.
const (
	manifestBlock  = 32 << 10
	manifestHeader = 7
	chunkWhole     = 1 // a record in one chunk
	chunkFirst     = 2 // the first chunk of a record
	chunkLast      = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkFiles checks what Pebble would pass over, or would refuse without a file's name.
func checkFiles(files vfs.FS, dir string, options *pebble.Options) error {
	desc, err := pebble.Peek(dir, files)
	if err != nil {
		return openError(err)
	}
	if !desc.Exists {
		return nil
	}
	if err := checkManifest(files, files.PathJoin(dir, files.PathBase(desc.ManifestFilename))); err != nil {
		return err
	}
	if desc.OptionsFilename == "" {
		return nil
	}
	return checkOptions(files, dir, files.PathJoin(dir, files.PathBase(desc.OptionsFilename)), options)
}

// checkManifest tells a damaged manifest from a torn one. Pebble takes a bad record for the end of the manifest, as it is
// after a crash in the midst of writing it; a damaged one in the middle would so take the store silently back to an old
// state, and the newer tables would be deleted. Each record is on disk before the next one begins, so a bad chunk with a
// later record behind it is damage. Damage to the last record alone cannot be told from a crash: the store is then as it
// was before its last flush.
func checkManifest(files vfs.FS, path string) error {
	content, err := contentOf(files, path)
	if err != nil {
		return err
	}
	if at, damaged := manifestDamage(content); damaged {
		return corruptFile(path, fmt.Errorf("bad checksum at byte %d", at))
	}
	return nil
}

// manifestError adds the manifest's name to the error of a store that is corrupt as a whole: tables that a manifest tells
// of may be missing because the manifest lost its end, and then it is the damaged file.
func manifestError(files vfs.FS, dir string, err error) error {
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	desc, peekErr := pebble.Peek(dir, files)
	if peekErr != nil || !desc.Exists {
		return err
	}
	return fmt.Errorf("by manifest %s: %w", files.PathJoin(dir, files.PathBase(desc.ManifestFilename)), err)
}

// checkOptions refuses a file of options that cannot be those of a store of ours.
func checkOptions(files vfs.FS, dir, path string, options *pebble.Options) error {
	content, err := contentOf(files, path)
	if err != nil {
		return err
	}
	whole := options.Clone()
	whole.EnsureDefaults()
	if err := whole.CheckCompatibility(dir, string(content)); err != nil {
		return corruptFile(path, err)
	}
	return nil
}

// contentOf reads a file that has to be there.
func contentOf(files vfs.FS, path string) ([]byte, error) {
	file, err := files.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, corruptFile(path, err)
	}
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return content, nil
}

// manifestDamage finds the first bad chunk that has a later record behind it.
func manifestDamage(content []byte) (at int, damaged bool) {
	for at < len(content) {
		if room := manifestBlock - at%manifestBlock; room < manifestHeader {
			at += room
			continue
		}
		_, length, ok := manifestChunk(content, at)
		if !ok {
			return at, recordBehind(content, at+1)
		}
		at += manifestHeader + length
	}
	return 0, false
}

// recordBehind tells whether a record begins at any byte from here on.
func recordBehind(content []byte, from int) bool {
	for at := from; at < len(content); at++ {
		if kind, _, ok := manifestChunk(content, at); ok && kind <= chunkFirst {
			return true
		}
	}
	return false
}

// manifestChunk reads the chunk at a byte, if there is a sound one.
func manifestChunk(content []byte, at int) (kind byte, length int, ok bool) {
	room := min(manifestBlock-at%manifestBlock, len(content)-at)
	if room < manifestHeader {
		return 0, 0, false
	}
	chunk := content[at : at+room]
	length = int(binary.LittleEndian.Uint16(chunk[4:]))
	kind = chunk[6]
	if kind < chunkWhole || kind > chunkLast || length > room-manifestHeader {
		return 0, 0, false
	}
	sum := crc32.Checksum(chunk[6:manifestHeader+length], castagnoli)
	return kind, length, binary.LittleEndian.Uint32(chunk) == (sum>>15|sum<<17)+0xa282ead8
}
