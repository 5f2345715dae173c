package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"freshet/internal/sqldb/sqldbtest"
)

// A database is looked at, taken over, and not taken over twice.
func TestHubImportDatabase(t *testing.T) {
	dsn := sqldbtest.PostgreSQL(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(t.Context(), `
		CREATE TABLE jobs (id SERIAL PRIMARY KEY, kind SMALLINT, status SMALLINT, contents TEXT, results TEXT, log TEXT, repo TEXT);
		CREATE TABLE builds (id SERIAL PRIMARY KEY, created_at TIMESTAMP DEFAULT now(), repo_state SMALLINT, repo_state_reason TEXT, published_state SMALLINT,
			published_state_reason TEXT, commit_job_id INTEGER, publish_job_id INTEGER, repo TEXT, extra_ids TEXT[] DEFAULT '{}', app_id TEXT,
			public_download BOOLEAN DEFAULT TRUE, build_log_url TEXT, token_name TEXT, token_type INTEGER);
		CREATE TABLE build_refs (id SERIAL PRIMARY KEY, build_id INTEGER, ref_name TEXT, commit TEXT, build_log_url TEXT);
		CREATE TABLE checks (check_name TEXT, build_id INTEGER, job_id INTEGER, status SMALLINT, status_reason TEXT, results TEXT);
		CREATE TABLE tokens (token_id TEXT, expires TIMESTAMP, last_used TIMESTAMP, revoked_at TIMESTAMP);
		INSERT INTO builds (repo_state, published_state, repo) VALUES (2, 2, 'stable'), (0, 0, 'beta');
		INSERT INTO jobs (kind, status, contents, log) VALUES (0, 2, '{"build":1}', 'log');`)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "hub")
	imported := func(args ...string) (string, error) {
		var out bytes.Buffer
		cmd := newRoot(streams{in: strings.NewReader(""), out: &out, err: &out})
		cmd.SetArgs(append([]string{"hub", "import-flat-manager", "--db", dsn, "--dir", dir}, args...))
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	out, err := imported("--dry-run")
	for _, want := range []string{"database: 2 builds (1 not published), 0 refs of builds, 1 job, 0 checks, 0 tokens\n", "repository beta, which no --repo names", "nothing was changed"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("dry run: %v: %s", err, out)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a dry run has made the folder")
	}
	if out, err := imported(); err != nil || !strings.Contains(out, "database: 2 builds, 0 refs of builds, 1 job, 0 checks, 0 tokens\n") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := imported(); err == nil || !strings.Contains(err.Error(), "give the import a new --dir") {
		t.Errorf("a second time: %v: %s", err, out)
	}
}
