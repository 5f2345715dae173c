package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/sqldb/sqldbtest"
)

// The hub keeps its state in PostgreSQL, survives kill -9 there, and goes on
// with the same events.
func TestHubOnPostgreSQL(t *testing.T) {
	parallel(t)
	work := t.TempDir()
	dsn := sqldbtest.PostgreSQL(t)
	hub := startHub(t, filepath.Join(work, "hub"), "", "", "--database", dsn)
	tokenFile := filepath.Join(work, "token")
	if err := os.WriteFile(tokenFile, []byte(hub.token), 0o600); err != nil {
		t.Fatal(err)
	}
	app := filepath.Join(work, "app")
	push := func(version int) string {
		writeApp(t, app, version)
		return run(t, "push", "--hub", hub.url, "--token-file", tokenFile, "--repo", "stable", app)
	}
	push(1)
	hub.kill()
	hub = startHub(t, filepath.Join(work, "hub"), strings.TrimPrefix(hub.url, "http://"), "", "--database", dsn)
	push(2)
	if got, err := readVersion(t.Context(), hub.url); err != nil || got != 2 {
		t.Errorf("version %d, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(work, "hub", "hub.db")); err == nil {
		t.Error("the hub made a SQLite file besides")
	}
	events := string(get(t, hub.url+"/api/v1/events?after=0", 200))
	if n := strings.Count(events, `"kind":"publish"`); n < 2 {
		t.Errorf("the log holds %d publishes: %s", n, events)
	}
}
