package inbox_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// server is the PostgreSQL server of this package's tests: begun by the first that needs it, ended by TestMain.
var server postgresServer

// postgresServer is a server of this test's own: in a temporary folder, on a Unix socket there, with no TCP, run by a
// user without privileges.
type postgresServer struct {
	once sync.Once
	err  error
	bin  string // folder of initdb and pg_ctl; empty: PostgreSQL is not installed
	dir  string

	mu        sync.Mutex
	databases int
}

// postgres is a new database on a real server.
func postgres(t *testing.T) *sql.DB {
	t.Helper()
	server.once.Do(server.start)
	switch {
	case server.err != nil:
		t.Fatal(server.err)
	case server.bin == "" && os.Getenv("CI") == "true":
		t.Fatal("PostgreSQL is not installed (no initdb in PATH or in /usr/lib/postgresql/*/bin), and CI=true: apt-get install postgresql")
	case server.bin == "":
		t.Skip("NOT TESTED ON POSTGRESQL: it is not installed (no initdb in PATH or in /usr/lib/postgresql/*/bin); on Debian: apt-get install postgresql")
	}
	server.mu.Lock()
	server.databases++
	name := fmt.Sprintf("test%d", server.databases)
	server.mu.Unlock()
	main := server.connect(t, "postgres")
	if _, err := main.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return server.connect(t, name)
}

func (s *postgresServer) connect(t *testing.T, name string) *sql.DB {
	t.Helper()
	config, err := pgx.ParseConfig(fmt.Sprintf("host=%s user=sluice dbname=%s sslmode=disable", s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(stdlib.GetConnector(*config))
	t.Cleanup(func() { _ = db.Close() }) // what a test wanted of it, it has
	return db
}

// start makes a cluster of databases and starts its server.
func (s *postgresServer) start() {
	bin := postgresFolder()
	if bin == "" {
		return
	}
	// Not t.TempDir: the path of a Unix socket has at most 107 bytes, and the server outlives the first test.
	if s.dir, s.err = os.MkdirTemp("/tmp", "sluice-pg-"); s.err != nil {
		return
	}
	s.bin = bin
	if id, ok := unprivileged(); ok {
		if s.err = os.Chown(s.dir, int(id.Uid), int(id.Gid)); s.err != nil {
			return
		}
	}
	s.err = s.run("initdb", "-D", s.data(), "-U", "sluice", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	if s.err == nil {
		s.err = s.run("pg_ctl", "-D", s.data(), "-l", filepath.Join(s.dir, "log"), "-w", "-t", "120",
			"-o", fmt.Sprintf("-c listen_addresses='' -c unix_socket_directories='%s' -c fsync=off", s.dir), "start")
	}
}

func (s *postgresServer) data() string { return filepath.Join(s.dir, "data") }

// stop ends the server, if it was started, and removes its data.
func (s *postgresServer) stop() error {
	if s.dir == "" {
		return nil
	}
	err := s.run("pg_ctl", "-D", s.data(), "-m", "immediate", "-w", "stop")
	return errors.Join(err, os.RemoveAll(s.dir))
}

// run runs one of PostgreSQL's programs, which refuse to be run by root.
func (s *postgresServer) run(name string, args ...string) error {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	if id, ok := unprivileged(); ok {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: id}
	}
	// To a file, not a pipe: the server, which goes on, would hold it open.
	out, err := os.CreateTemp(s.dir, name+"-*.out")
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(out.Name()) // as much as there is
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		return fmt.Errorf("%s: %w\n%s%s", name, err, said, log)
	}
	return nil
}

// postgresFolder is where initdb and pg_ctl are; empty: nowhere. Debian keeps them out of the path.
func postgresFolder() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path)
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return ""
	}
	return filepath.Dir(slices.Max(found))
}

// unprivileged is the user that root runs the server as; false: this is not root.
func unprivileged() (*syscall.Credential, bool) {
	if os.Getuid() != 0 {
		return nil, false
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, true
		}
	}
	return nil, false
}
