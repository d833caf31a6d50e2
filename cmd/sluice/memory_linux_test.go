package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var pagesAt = regexp.MustCompile(`pages +(http://\S+)/ |msg=serving .*address=(\S+)`)

// Every process that runs nodes sees to its memory, which its collector's pace shows: Go's own is 100.
func TestWhoeverRunsNodesSeesToTheirMemory(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"dev", "--listen", anyPort},
		{"server", "--node-id", "n1", "--data-dir", filepath.Join(t.TempDir(), "n1"), "--listen", anyPort, "--bootstrap-expect", "1"},
	} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			said := &lockedBuffer{}
			cmd := exec.CommandContext(ctx, binary(t), args...)
			cmd.Env = slices.DeleteFunc(os.Environ(), func(set string) bool { return strings.HasPrefix(set, "GOGC=") })
			cmd.Stdout, cmd.Stderr = said, said
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				cancel()
				_ = cmd.Wait() // it was ended
			}()
			var at []string
			until(ctx, t, func() bool { at = pagesAt.FindStringSubmatch(said.text()); return at != nil }, said)
			address := "http://" + strings.TrimPrefix(at[1]+at[2], "http://")
			until(ctx, t, func() bool {
				percent := regexp.MustCompile(`(?m)^go_gc_gogc_percent (\d+)$`).FindStringSubmatch(page(t, address+"/metrics"))
				return percent != nil && percent[1] != "100"
			}, said)
		})
	}
}

// page is what is at an address, or nothing if nobody answers yet.
func page(t *testing.T, address string) string {
	t.Helper()
	res, err := http.Get(address)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}
