package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"strings"

	"sluice/internal/disk"
)

// An archive is a folder of files as one stream:
//
//	"SLSNAP1\n", then for each file in the order of their names: length of the name (2 bytes), name, length of the
//	content (8), content, CRC-32C of name and content (4); at the end 0xFFFF, number of files (4), CRC-32C of all
//	the files' checksums (4).
//
// Numbers are big endian. Without its whole end, an archive is not one.
const (
	magic       = "SLSNAP1\n"
	endMark     = 0xFFFF
	nameMax     = 255
	filesMax    = 1 << 20
	trailerSize = 2 + 4 + 4
	frameSize   = 2 + 8 + 4
)

// ErrBroken is an archive or a snapshot that is not whole, or not as it was written.
var ErrBroken = errors.New("snapshot: broken")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// file is one file of a folder.
type file struct {
	name string
	size int64
}

// list gives the files of a folder by name. A snapshot's folder is flat.
func list(fsys disk.FS, dir string) ([]file, error) {
	names, err := disk.List(fsys, dir)
	if err != nil {
		return nil, err
	}
	files := make([]file, 0, len(names))
	for _, name := range names {
		info, err := fsys.Stat(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() || len(name) > nameMax {
			return nil, fmt.Errorf("snapshot: %s is not a plain file with a name of at most %d bytes", filepath.Join(dir, name), nameMax)
		}
		files = append(files, file{name, info.Size()})
	}
	return files, nil
}

// archiveSize is the exact length of the archive of some files: raft announces it before it streams.
func archiveSize(files []file) int64 {
	n := int64(len(magic) + trailerSize)
	for _, f := range files {
		n += frameSize + int64(len(f.name)) + f.size
	}
	return n
}

// proof looks at each file before it is written into an archive, and at its checksum after.
type proof struct {
	before func(path string) error
	after  func(name string, sum uint32) error
}

// write streams a folder's files as an archive. It breaks off before the end if one of them is not as it should be.
func write(w io.Writer, fsys disk.FS, dir string, files []file, p proof) error {
	if _, err := io.WriteString(w, magic); err != nil {
		return err
	}
	all := crc32.New(castagnoli)
	for _, f := range files {
		if err := p.before(filepath.Join(dir, f.name)); err != nil {
			return err
		}
		sum, err := writeFile(w, fsys, dir, f)
		if err != nil {
			return err
		}
		if err := p.after(f.name, sum); err != nil {
			return err
		}
		_, _ = all.Write(binary.BigEndian.AppendUint32(nil, sum)) // a hash takes everything
	}
	end := binary.BigEndian.AppendUint16(nil, endMark)
	end = binary.BigEndian.AppendUint32(end, uint32(len(files)))
	_, err := w.Write(binary.BigEndian.AppendUint32(end, all.Sum32()))
	return err
}

func writeFile(w io.Writer, fsys disk.FS, dir string, f file) (sum uint32, err error) {
	path := filepath.Join(dir, f.name)
	in, err := fsys.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	head := binary.BigEndian.AppendUint16(nil, uint16(len(f.name)))
	head = append(head, f.name...)
	if _, err := w.Write(binary.BigEndian.AppendUint64(head, uint64(f.size))); err != nil {
		return 0, err
	}
	if sum, err = checksum(w, in, f, path); err != nil {
		return 0, err
	}
	_, err = w.Write(binary.BigEndian.AppendUint32(nil, sum))
	return sum, err
}

// checksum copies a file's content and gives the checksum of its name and content.
func checksum(w io.Writer, in io.Reader, f file, path string) (uint32, error) {
	hash := crc32.New(castagnoli)
	_, _ = hash.Write([]byte(f.name))
	if n, err := io.Copy(io.MultiWriter(w, hash), io.LimitReader(in, f.size)); err != nil || n != f.size {
		return 0, errors.Join(err, fmt.Errorf("snapshot: %s has %d bytes, not %d", path, n, f.size))
	}
	return hash.Sum32(), nil
}

// Extract reads an archive into the folder dir, which must not exist, and verifies all of it: an error leaves no
// folder behind, and no error means that every byte is as it was sent and is on the disk.
func Extract(fsys disk.FS, r io.Reader, dir string) error {
	if err := disk.MakeFolder(fsys, dir, 0o700); err != nil {
		return err
	}
	err := extract(fsys, r, dir)
	if err == nil {
		err = disk.SyncFolder(fsys, dir)
	}
	if err != nil {
		return errors.Join(err, fsys.RemoveAll(dir))
	}
	return nil
}

func extract(fsys disk.FS, r io.Reader, dir string) error {
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return fmt.Errorf("%w: it does not begin as an archive does: %w", ErrBroken, errOr(err, "wrong magic"))
	}
	all := crc32.New(castagnoli)
	for count := uint32(0); ; count++ {
		var b [8]byte
		if _, err := io.ReadFull(r, b[:2]); err != nil {
			return cutShort(err)
		}
		n := binary.BigEndian.Uint16(b[:2])
		if n == endMark {
			return readEnd(r, count, all.Sum32())
		}
		if n == 0 || n > nameMax {
			return fmt.Errorf("%w: file %d has a name of %d bytes, 1 to %d are allowed", ErrBroken, count, n, nameMax)
		}
		if count >= filesMax {
			return fmt.Errorf("%w: it has more than %d files, which is the limit", ErrBroken, filesMax)
		}
		sum, err := extractFile(fsys, r, dir, int(n))
		if err != nil {
			return err
		}
		_, _ = all.Write(binary.BigEndian.AppendUint32(nil, sum))
	}
}

func errOr(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

func cutShort(err error) error { return fmt.Errorf("%w: it is cut short: %w", ErrBroken, err) }

func readEnd(r io.Reader, count, sum uint32) error {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return cutShort(err)
	}
	if binary.BigEndian.Uint32(b[:4]) != count || binary.BigEndian.Uint32(b[4:]) != sum {
		return fmt.Errorf("%w: its end does not fit its %d files", ErrBroken, count)
	}
	if n, err := r.Read(b[:1]); n > 0 || err != nil && err != io.EOF {
		return fmt.Errorf("%w: something follows its end: %w", ErrBroken, errOr(err, "more bytes"))
	}
	return nil
}

func extractFile(fsys disk.FS, r io.Reader, dir string, nameSize int) (sum uint32, err error) {
	head := make([]byte, nameSize+8)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, cutShort(err)
	}
	name, size := string(head[:nameSize]), int64(binary.BigEndian.Uint64(head[nameSize:]))
	if name != filepath.Base(name) || name == "." || name == ".." || strings.ContainsRune(name, 0) || size < 0 {
		return 0, fmt.Errorf("%w: file name %q", ErrBroken, name)
	}
	path := filepath.Join(dir, name)
	if _, err := fsys.Stat(path); err == nil {
		return 0, fmt.Errorf("%w: file %q comes twice", ErrBroken, name)
	}
	out, err := disk.Create(fsys, path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	hash := crc32.New(castagnoli)
	_, _ = hash.Write(head[:nameSize])
	if _, err := io.CopyN(io.MultiWriter(hash, out), r, size); err != nil {
		return 0, cutShort(err)
	}
	var b [4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, cutShort(err)
	}
	if binary.BigEndian.Uint32(b[:]) != hash.Sum32() {
		return 0, fmt.Errorf("%w: the checksum of %s does not fit", ErrBroken, name)
	}
	return hash.Sum32(), out.Sync()
}
