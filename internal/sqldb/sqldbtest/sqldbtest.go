// Package sqldbtest runs tests against every engine of package sqldb: SQLite,
// and a PostgreSQL server that it starts from the programs installed on the
// machine.
//
// There is one server in a test process, started by the first test that needs
// it, in a folder of its own and reachable by a Unix socket only. It ends with
// the process, even with one that is killed. Without PostgreSQL the tests for
// it are skipped, or fail where package peertest says so.
//
// It is imported by tests only.
package sqldbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"freshet/internal/peertest"
)

// Each runs suite as a subtest for each engine. newDSN returns the DSN of a
// new, empty database each time; opened twice, a DSN is the same database.
// What it made is deleted when the test ends.
func Each(t *testing.T, suite func(t *testing.T, newDSN func() string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { suite(t, func() string { return SQLite(t) }) })
	t.Run("postgresql", func(t *testing.T) { suite(t, func() string { return PostgreSQL(t) }) })
}

// SQLite returns the DSN of a new SQLite database.
func SQLite(tb testing.TB) string {
	tb.Helper()
	return "sqlite:" + filepath.Join(tb.TempDir(), "test.db")
}

// PostgreSQL returns the DSN of a new PostgreSQL database. It ends the test
// early when PostgreSQL is not installed.
func PostgreSQL(tb testing.TB) string {
	tb.Helper()
	s, err := running()
	if errors.Is(err, errNotInstalled) {
		peertest.Missing(tb, "postgresql")
	}
	if err != nil {
		tb.Fatalf("start postgresql: %v", err)
	}
	name := "test" + strconv.FormatInt(s.databases.Add(1), 10)
	if err := s.exec("CREATE DATABASE " + name); err != nil {
		tb.Fatalf("postgresql: create database %s: %v", name, err)
	}
	tb.Cleanup(func() {
		if err := s.exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			tb.Errorf("postgresql: drop database %s: %v", name, err)
		}
	})
	return s.dsn(name)
}

// running returns the server of this process. It is a variable because the
// server belongs to the process and not to one test.
var running = sync.OnceValues(start)

var errNotInstalled = errors.New("postgresql is not installed")

type server struct {
	socket    string // folder of the socket
	admin     *sql.DB
	databases atomic.Int64
	// lifeline is the end of a pipe; the server stops when it closes, as the
	// kernel does when this process ends.
	lifeline io.Closer
}

// script runs the server until its standard input ends, and leaves nothing
// behind. Whatever the server is doing, SIGQUIT ends it at once.
const script = `
bin=$1 dir=$2
trap '' INT TERM HUP
"$bin/postgres" -D "$dir/data" -k "$dir" >"$dir/log" 2>&1 &
cat >/dev/null
kill -QUIT $!
wait
rm -rf "$dir"
`

// start makes a cluster in a new folder and starts its server.
func start() (_ *server, err error) {
	bin, err := findPrograms()
	if err != nil {
		return nil, err
	}
	credential, err := account()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "freshet-postgresql-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if credential != nil {
		if err := os.Chown(dir, int(credential.Uid), int(credential.Gid)); err != nil {
			return nil, err
		}
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...) //nolint:noctx // lives as long as the process
		cmd.Dir = dir
		// Its own session keeps it from the terminal's Ctrl-C.
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential, Setsid: true}
		return cmd
	}
	initdb := command(filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"),
		"--username=test", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	// These tests end processes, not machines, so nothing need reach the disk.
	settings := "listen_addresses = ''\nfsync = off\nfull_page_writes = off\nmax_connections = 200\n" +
		"shared_buffers = 32MB\nautovacuum = off\nmax_wal_senders = 0\nwal_level = minimal\n"
	conf, err := os.OpenFile(filepath.Join(dir, "data", "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = conf.WriteString(settings)
	if err = errors.Join(err, conf.Close()); err != nil {
		return nil, err
	}
	postgres := command("/bin/sh", "-c", script, "sh", bin, dir)
	lifeline, err := postgres.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := postgres.Start(); err != nil {
		return nil, err
	}
	s := &server{socket: dir, lifeline: lifeline}
	if err := s.connect(); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, log), lifeline.Close(), postgres.Wait())
	}
	return s, nil
}

func (s *server) connect() (err error) {
	if s.admin, err = sql.Open("pgx", s.dsn("postgres")); err != nil {
		return err
	}
	deadline := time.After(time.Minute)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if err = s.admin.PingContext(context.Background()); err == nil {
			return nil
		}
		select {
		case <-deadline:
			return err
		case <-ticker.C:
		}
	}
}

func (s *server) exec(statement string) error {
	_, err := s.admin.ExecContext(context.Background(), statement)
	return err
}

func (s *server) dsn(database string) string {
	query := url.Values{"host": {s.socket}, "user": {"test"}, "sslmode": {"disable"}}
	return "postgres:///" + database + "?" + query.Encode()
}

// findPrograms returns the folder of the newest installed server. Debian keeps
// each version in a folder of its own and not in PATH.
func findPrograms() (string, error) {
	candidates, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		return n
	}
	slices.SortFunc(candidates, func(a, b string) int { return version(b) - version(a) })
	if path, err := exec.LookPath("postgres"); err == nil {
		candidates = append(candidates, filepath.Dir(path))
	}
	for _, dir := range candidates {
		if isProgram(filepath.Join(dir, "initdb")) && isProgram(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	return "", errNotInstalled
}

func isProgram(path string) bool {
	_, err := exec.LookPath(path)
	return err == nil
}

// account returns whom to run the server as: PostgreSQL refuses to be root. Nil
// means whoever we are.
func account() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // nil is what SysProcAttr takes for this
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("no account to run postgresql: tried %s", strings.Join([]string{"postgres", "nobody"}, ", "))
}
