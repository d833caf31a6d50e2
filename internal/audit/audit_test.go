package audit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRowsAreAppendedAndAPieceIsCutAway(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "n1.audit")
	write(t, name, Entry(1, 1, 7, []byte("one"), nil))
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(text, `{"index":2,"ha`...), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, name, Entry(2, 1, 8, nil, nil), Restore(9))
	text, err = os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != 3 || !strings.Contains(lines[1], `"index":2,"term":1,"digest":"0000000000000008"}`) || !strings.Contains(lines[2], `"restored":true`) {
		t.Fatalf("the file holds\n%s", text)
	}
	// The SHA-256 of "one".
	if !strings.Contains(lines[0], "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed") {
		t.Errorf("the first row is %s", lines[0])
	}
}

func write(t *testing.T, name string, rows ...Row) {
	t.Helper()
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Append(rows...); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
