package snapshot

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"sluice/internal/disk"
)

// Sink takes one snapshot: either Adopt a folder, or Write an archive; then Close. It is used by one goroutine.
type Sink struct {
	store *Store
	meta  meta
	// tmp is the snapshot's folder until Close gives it its name.
	tmp     string
	adopted bool
	ended   bool
	// in feeds what is written to the extraction, which answers once; nil before the first Write.
	in        *io.PipeWriter
	extracted chan error
	written   int64
}

// ID names the snapshot.
func (s *Sink) ID() string { return s.meta.ID }

// Adopt moves dir into the snapshot, by rename: not a byte is copied. dir must be on the same file system.
func (s *Sink) Adopt(dir string) error {
	if s.adopted || s.in != nil || s.ended {
		return errors.New("snapshot: the sink has something in it already")
	}
	if err := s.store.cfg.Files.Rename(dir, filepath.Join(s.tmp, filesDir)); err != nil {
		return fmt.Errorf("snapshot: adopt: %w", err)
	}
	s.adopted = true
	return nil
}

// Write takes a part of an archive, which is verified and laid out as it comes.
func (s *Sink) Write(p []byte) (int, error) {
	if s.adopted || s.ended {
		return 0, errors.New("snapshot: the sink takes no more")
	}
	if s.written += int64(len(p)); s.written > s.store.cfg.MaxBytes {
		return 0, fmt.Errorf("snapshot: it has more than %d bytes, which is the limit", s.store.cfg.MaxBytes)
	}
	if s.in == nil {
		out, in := io.Pipe()
		s.in, s.extracted = in, make(chan error, 1)
		go func() {
			err := Extract(s.store.cfg.Files, out, filepath.Join(s.tmp, filesDir))
			_ = out.CloseWithError(errOr(err, "snapshot: the archive has ended")) // a pipe's close never fails
			s.extracted <- err
		}()
	}
	return s.in.Write(p)
}

// Close completes the snapshot: from its return on it is listed, whatever happens.
func (s *Sink) Close() error {
	if s.ended {
		return nil
	}
	s.ended = true
	if err := s.complete(); err != nil {
		return errors.Join(fmt.Errorf("snapshot: %w", err), s.store.cfg.Files.RemoveAll(s.tmp))
	}
	return s.store.reap(s.meta.ID)
}

func (s *Sink) complete() error {
	if s.in != nil {
		_ = s.in.Close() // a pipe's close never fails
		if err := <-s.extracted; err != nil {
			return err
		}
	} else if !s.adopted {
		return errors.New("nothing was put into it")
	}
	fsys, dir := s.store.cfg.Files, filepath.Join(s.tmp, filesDir)
	files, err := list(fsys, dir)
	if err != nil {
		return err
	}
	s.meta.Size = archiveSize(files)
	if s.meta.Sums, err = s.sums(dir, files); err != nil {
		return err
	}
	if err := errors.Join(disk.SyncFolder(fsys, dir), s.meta.write(fsys, s.tmp), disk.SyncFolder(fsys, s.tmp)); err != nil {
		return err
	}
	if err := fsys.Rename(s.tmp, filepath.Join(s.store.dir, s.meta.ID)); err != nil {
		return err
	}
	return disk.SyncFolder(fsys, s.store.dir)
}

// sums are the checksums of the files that do not prove themselves. Those that do are not read for it: they are nearly all
// of a snapshot.
func (s *Sink) sums(dir string, files []file) (map[string]uint32, error) {
	sums := map[string]uint32{}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if s.store.proves(f.name) {
			continue
		}
		in, err := s.store.cfg.Files.Open(path)
		if err != nil {
			return nil, err
		}
		sum, err := checksum(io.Discard, in, f, path)
		if err := errors.Join(err, in.Close()); err != nil {
			return nil, err
		}
		sums[f.name] = sum
	}
	return sums, nil
}

// Cancel gives the snapshot up.
func (s *Sink) Cancel() error {
	if s.ended {
		return nil
	}
	s.ended = true
	if s.in != nil {
		_ = s.in.CloseWithError(errors.New("snapshot: cancelled"))
		<-s.extracted
	}
	return s.store.cfg.Files.RemoveAll(s.tmp)
}
