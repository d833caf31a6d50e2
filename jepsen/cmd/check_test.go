//go:build linux

package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// left is the folder of a run that was recorded, with something in its history replaced.
func left(t *testing.T, old, replaced string) string {
	t.Helper()
	file, err := os.Open("../check/testdata/good.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	text = fmt.Appendf(text, "{\"at\":99,\"end\":{\"rows\":%d}}\n", bytes.Count(text, []byte("\n"))) // it is older than the row
	return write(t, bytes.Replace(text, []byte(old), []byte(replaced), 1))
}

// write makes a folder with a history.
func write(t *testing.T, text []byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "history.jsonl"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A history that was cut off, wherever that is, must not pass for one in which little happened.
func TestAHistoryThatWasCutOffIsNotJudged(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(left(t, "", ""), "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	for name, cut := range map[string][]byte{
		"amid a line": text[:len(text)/2], "between lines": bytes.Join(lines[:len(lines)/2], nil), "its end alone": text[:len(text)-2],
		"a line amid it": bytes.Join(append(lines[:100:100], lines[101:]...), nil),
	} {
		if _, err := judge(write(t, cut)); err == nil || errors.Is(err, errViolated) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := judge(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not the folder of a run") {
		t.Errorf("an empty folder: %v", err)
	}
}

// TestRunsAreJudgedTogether: one bad run makes the whole bad, so that make fails.
func TestRunsAreJudgedTogether(t *testing.T) {
	t.Parallel()
	good, bad := left(t, "", ""), left(t, `"name":"quiet-over"`, `"name":"quiet-over","text":"something is unsettled"`)
	if err := judgeAll([]string{good}); err != nil {
		t.Errorf("a good run: %v", err)
	}
	if err := judgeAll([]string{good, bad}); !errors.Is(err, errViolated) || !strings.Contains(err.Error(), bad) || strings.Contains(err.Error(), good) {
		t.Errorf("a good and a bad run: %v", err)
	}
	for _, name := range []string{"verdict.txt", "history.edn", "timeline.html"} {
		if info, err := os.Stat(filepath.Join(bad, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFlagsThatDoNotGoTogetherAreToldOf(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"-bin says which":      {"-seed", "7"},
		`no ["smoke"]`:         {"-bin", "sluice", "smoke"},
		"none may be below 0":  {"-bin", "sluice", "-time", "-1s"},
		"goes with -hours":     {"-bin", "sluice", "-only", "calm"},
		"not go with -hours":   {"-bin", "sluice", "-hours", "1", "-faults", "kill"},
		"goes with it":         {"-bin", "sluice", "-shape", "all"},
		"leader, one, quorum,": {"-bin", "sluice", "-faults", "kill", "-shape", "everybody"},
	} {
		if _, err := readSettings(args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestACampaignKnowsItsScenarios(t *testing.T) {
	t.Parallel()
	if all, err := (&settings{only: "calm, blackouts"}).turns(); err != nil || len(all) != 2 || all[1].Name != "blackouts" {
		t.Errorf("%v (%v)", all, err)
	}
	if _, err := (&settings{only: "calm,nonsense"}).turns(); err == nil {
		t.Error("nonsense is a scenario")
	}
}
