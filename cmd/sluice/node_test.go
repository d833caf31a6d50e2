package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// testShell is a shell whose streams are kept.
func testShell() (sh *shell, out, err *bytes.Buffer) {
	out, err = &bytes.Buffer{}, &bytes.Buffer{}
	none := func(string) string { return "" }
	return &shell{in: strings.NewReader(""), out: out, err: err, getenv: none, environ: os.Environ, now: time.Now}, out, err
}

// refused runs a command line that must end by itself, with an exit code and words on standard error.
func refused(t *testing.T, want int, words string, args ...string) {
	t.Helper()
	sh, _, stderr := testShell()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if code := run(ctx, args, sh); code != want || !regexp.MustCompile(words).MatchString(stderr.String()) {
		t.Errorf("sluice %s: exit %d, want %d with %q on standard error, got\n%s", strings.Join(args, " "), code, want, words, stderr.String())
	}
}

// running is a command line at work in this process.
type running struct {
	lines *bufio.Scanner // its standard output
	stop  context.CancelFunc
	code  chan int
	err   *bytes.Buffer // its standard error, to be read when it has ended
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	sh, _, stderr := testShell()
	from, to := io.Pipe()
	sh.out = to
	ctx, stop := context.WithCancel(context.Background())
	r := &running{lines: bufio.NewScanner(from), stop: stop, code: make(chan int, 1), err: stderr}
	go func() {
		code := run(ctx, args, sh)
		to.Close()
		r.code <- code
	}()
	t.Cleanup(func() { stop(); from.Close() })
	return r
}

// line reads standard output up to a line that matches, and gives what the pattern's group holds.
func (r *running) line(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for r.lines.Scan() {
		if m := re.FindStringSubmatch(r.lines.Text()); m != nil {
			return m[len(m)-1]
		}
	}
	t.Fatalf("no line matches %q; exit %d, standard error:\n%s", pattern, <-r.code, r.err.String())
	return ""
}

// end stops the command and waits for its end in good order.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	for r.lines.Scan() { // what it still has to say must not hold it up
	}
	if code := <-r.code; code != 0 {
		t.Errorf("exit %d\n%s", code, r.err.String())
	}
}

func TestDevSaysWhereItIsAndCleansUp(t *testing.T) {
	t.Parallel()
	for _, nodes := range []string{"1", "3"} {
		t.Run(nodes+" nodes", func(t *testing.T) {
			t.Parallel()
			dev := start(t, "dev", "--listen", "127.0.0.1:0", "--nodes", nodes)
			addresses := strings.ReplaceAll(dev.line(t, `^  nodes +(.*)$`), " ", "")
			dir := dev.line(t, `^  data +(\S+) \(temporary`)
			dev.line(t, `sluice send --addr 127`)
			sh, out, stderr := testShell()
			if code := run(context.Background(), []string{"cluster", "members", "--addr", addresses}, sh); code != 0 || strings.Count(out.String(), "voter") != len(strings.Split(addresses, ",")) {
				t.Errorf("exit %d\n%s%s", code, out.String(), stderr.String())
			}
			if _, err := os.Stat(dir); err != nil {
				t.Error(err)
			}
			dev.end(t)
			if noise := regexp.MustCompile(`failed to decode|use of closed|transport shutdown|does not serve this raft group|aborting election|starting election`).FindString(dev.err.String()); noise != "" {
				t.Errorf("a start and a stop in good order are told as trouble (%s):\n%s", noise, dev.err.String())
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("the temporary folder is still there: %v", err)
			}
		})
	}
}

func TestDevKeepsANamedFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	for _, command := range []string{"apply", "get"} {
		dev := start(t, "dev", "--listen", "127.0.0.1:0", "--data-dir", dir)
		address := dev.line(t, `^  nodes +(\S+)$`)
		sh, out, stderr := testShell()
		sh.in = strings.NewReader("name: kept")
		args := map[string][]string{"apply": {"app", "apply", "-f", "-"}, "get": {"app", "get", "kept"}}[command]
		if code := run(context.Background(), append(args, "--addr", address), sh); code != 0 {
			t.Errorf("app %s: exit %d\n%s%s", command, code, out.String(), stderr.String())
		}
		dev.end(t)
	}
}

func TestAPortInUseIsSaid(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	busy := l.Addr().String()
	words := `cannot listen on ` + busy + `: another process uses that port(?s:.*)next: stop it, or choose another`
	refused(t, exitError, words, "server", "--node-id", "n1", "--data-dir", t.TempDir(), "--listen", busy, "--bootstrap-expect", "1")
	refused(t, exitError, words, "dev", "--listen", busy)
	refused(t, exitError, words, "server", "--node-id", "n1", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--gossip", busy, "--bootstrap-expect", "1")
}

func TestADataFolderIsForOneNodeOfOneCluster(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "n1")
	node := func(id, cluster string) []string {
		return []string{"server", "--node-id", id, "--cluster-name", cluster, "--data-dir", dir, "--listen", "127.0.0.1:0", "--bootstrap-expect", "1", "--log-level", "error"}
	}
	stop := serveUntil(t, node("n1", "sluice"))
	refused(t, exitError, `(?i)(use|lock)`, node("n1", "sluice")...)
	stop()
	refused(t, exitError, `n1`, node("n2", "sluice")...)
	refused(t, exitError, `sluice`, node("n1", "other")...)
	serveUntil(t, node("n1", "sluice"))() // and the right one still starts
}

// TestADamagedFolderIsSaidOnceWithWhatToDo spoils one file of a folder after the other.
func TestADamagedFolderIsSaidOnceWithWhatToDo(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"groups/0001/state/*.sst", "groups/0001/raft/stable.db", "groups/0001/raft/wal/wal-meta.db"} {
		dir := t.TempDir()
		dev := start(t, "dev", "--listen", "127.0.0.1:0", "--data-dir", dir)
		dev.line(t, `^  stop`)
		dev.end(t)
		dir = filepath.Join(dir, "dev1")
		args := []string{"server", "--node-id", "dev1", "--cluster-name", "dev", "--data-dir", dir, "--listen", "127.0.0.1:0"}
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no file, %v", pattern, err)
		}
		for _, name := range files {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, int(info.Size()/2)), 0); err != nil || f.Close() != nil {
				t.Fatal(err)
			}
		}
		sh, _, stderr := testShell()
		if code := run(t.Context(), args, sh); code != exitError {
			t.Errorf("%s: exit %d", pattern, code)
		}
		for line := range strings.Lines(stderr.String()) {
			if strings.HasPrefix(line, "sluice: ") && (strings.Count(line, "corrupt data") > 1 || !strings.Contains(line, filepath.Base(filepath.Dir(files[0])))) {
				t.Errorf("%s: %s", pattern, line)
			}
		}
		if !strings.Contains(stderr.String(), "next: keep "+dir+" aside") || !strings.Contains(stderr.String(), "under a new id") {
			t.Errorf("%s: no next step:\n%s", pattern, stderr.String())
		}
	}
}

// serveUntil runs a server in this process until stop, which fails the test if it did not end in good order.
func serveUntil(t *testing.T, args []string) (stop func()) {
	t.Helper()
	sh, _, _ := testShell()
	from, to := io.Pipe()
	sh.err = to
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	code := make(chan int, 1)
	serving := make(chan struct{})
	go func() {
		code <- run(ctx, append(args, "--log-level", "info"), sh)
		to.Close()
	}()
	go func() {
		said := false
		for lines := bufio.NewScanner(from); lines.Scan(); {
			if !said && strings.Contains(lines.Text(), "serving") {
				said = true
				close(serving)
			}
		}
	}()
	select {
	case <-serving:
	case got := <-code:
		t.Fatalf("the server ended with exit %d", got)
	}
	return func() {
		t.Helper()
		cancel()
		if got := <-code; got != 0 {
			t.Errorf("the server ended with exit %d", got)
		}
	}
}

func TestPlainTextIsForLoopback(t *testing.T) {
	t.Parallel()
	refused(t, exitError, `next: give --tls-cert FILE(?s:.*)--insecure`, "server", "--node-id", "n1", "--data-dir", t.TempDir(), "--listen", "0.0.0.0:0", "--bootstrap-expect", "1")
	refused(t, exitError, `next: (?s:.*)--advertise HOST:PORT`, "server", "--node-id", "n1", "--data-dir", t.TempDir(), "--listen", "0.0.0.0:0", "--bootstrap-expect", "1", "--insecure")
}

func TestGossipAddressesThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	server := func(more ...string) []string {
		return append([]string{"server", "--node-id", "n1", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:7699"}, more...)
	}
	refused(t, exitUsage, `listen and gossip are both 127.0.0.1:7699(?s:.*)another port`, server("--gossip", "127.0.0.1:7699")...)
	for _, address := range []string{"127.0.0.1:abc", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1"} {
		refused(t, exitUsage, `join: "`+address+`" is not host:port(?s:.*)--join HOST:PORT`, server("--gossip", "127.0.0.1:0", "--join", address)...)
	}
}

func TestStartHeldHoldsEveryApplication(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ask := func(address string, args ...string) string {
		t.Helper()
		sh, out, stderr := testShell()
		sh.in = strings.NewReader("name: kept")
		if code := run(context.Background(), append(args, "--addr", address), sh); code != 0 {
			t.Fatalf("%v: exit %d\n%s%s", args, code, out.String(), stderr.String())
		}
		return out.String()
	}
	dev := start(t, "dev", "--listen", "127.0.0.1:0", "--data-dir", dir)
	address := dev.line(t, `^  nodes +(\S+)$`)
	ask(address, "app", "apply", "-f", "-")
	ask(address, "send", "kept/i", "--type", "t")
	dev.end(t)
	dev = start(t, "dev", "--listen", "127.0.0.1:0", "--data-dir", dir, "--start-held")
	address = dev.line(t, `^  nodes +(\S+)$`)
	if got := ask(address, "instance", "get", "kept/i"); !strings.Contains(got, "recovery") || !strings.Contains(got, "started held") {
		t.Errorf("after a start held:\n%s", got)
	}
	dev.end(t)
	stop := serveUntil(t, []string{"server", "--node-id", "n1", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--bootstrap-expect", "1", "--start-held"})
	stop()
}
