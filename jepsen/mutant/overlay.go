package mutant

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrStale is a mutant whose lines no longer stand in the sources exactly once: the table is to be brought up to date.
var ErrStale = errors.New("mutant: the table is stale")

// Sources are the files that the mutant changes, as they are to be, by their paths within the module, which lies in root.
func (m *Mutant) Sources(root string) (map[string]string, error) {
	changed := map[string]string{}
	for _, e := range m.Edits {
		text, ok := changed[e.File]
		if !ok {
			read, err := os.ReadFile(filepath.Join(root, e.File))
			if err != nil {
				return nil, fmt.Errorf("%w: %s: %w", ErrStale, m.Name, err)
			}
			text = string(read)
		}
		if count := strings.Count(text, e.Old); count != 1 {
			return nil, fmt.Errorf("%w: %s: %q stands in %s %d times, not once", ErrStale, m.Name, e.Old, e.File, count)
		}
		changed[e.File] = strings.Replace(text, e.Old, e.New, 1)
	}
	return changed, nil
}

// Overlay writes the changed files and the overlay for the Go tool (go build -overlay) into a folder, and returns the
// path of the latter. base is another overlay that holds, too; empty: none.
func (m *Mutant) Overlay(root, base, dir string) (path string, err error) {
	changed, err := m.Sources(root)
	if err != nil {
		return "", err
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	if base != "" {
		text, err := os.ReadFile(base)
		if err == nil {
			err = json.Unmarshal(text, &overlay)
		}
		if err != nil {
			return "", fmt.Errorf("mutant: the overlay beneath: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("mutant: %w", err)
	}
	for file, text := range changed {
		// Not named as a Go file, or the folder would be a package of the module that it lies in.
		to := filepath.Join(dir, strings.ReplaceAll(file, "/", "+")+".txt")
		if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
			return "", fmt.Errorf("mutant: %w", err)
		}
		overlay.Replace[filepath.Join(root, file)] = to
	}
	text, err := json.MarshalIndent(overlay, "", "\t")
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, text, 0o644)
}

// Files are those that mutants change.
func Files(mutants []*Mutant) (files []string) {
	for _, m := range mutants {
		for _, e := range m.Edits {
			if !slices.Contains(files, e.File) {
				files = append(files, e.File)
			}
		}
	}
	slices.Sort(files)
	return files
}
