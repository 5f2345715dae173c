package flatmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/flatmanager"
	"freshet/internal/memnet"
	"freshet/internal/peertest"
	"freshet/internal/role"
	"freshet/internal/sqldb/sqldbtest"
)

// schema is what flat-manager 0.5.3 has in its database.
const schema = `
CREATE TABLE jobs (id SERIAL PRIMARY KEY, kind SMALLINT NOT NULL CHECK (kind BETWEEN 0 AND 5), status SMALLINT NOT NULL DEFAULT 0,
	contents TEXT NOT NULL, results TEXT, log TEXT NOT NULL DEFAULT '', start_after TIMESTAMP, repo TEXT);
CREATE TABLE job_dependencies (job_id INTEGER REFERENCES jobs, depends_on INTEGER REFERENCES jobs, PRIMARY KEY (job_id, depends_on));
CREATE TABLE builds (id SERIAL PRIMARY KEY, created_at TIMESTAMP NOT NULL DEFAULT now(), repo_state SMALLINT NOT NULL DEFAULT 0,
	repo_state_reason TEXT, published_state SMALLINT NOT NULL DEFAULT 0, published_state_reason TEXT,
	commit_job_id INTEGER REFERENCES jobs, publish_job_id INTEGER REFERENCES jobs, repo TEXT NOT NULL, extra_ids TEXT[] NOT NULL DEFAULT '{}',
	app_id TEXT, public_download BOOLEAN NOT NULL DEFAULT TRUE, build_log_url TEXT, token_name TEXT, token_type TEXT);
CREATE TABLE build_refs (id SERIAL PRIMARY KEY, build_id INTEGER NOT NULL REFERENCES builds, ref_name TEXT NOT NULL, commit TEXT NOT NULL,
	build_log_url TEXT, UNIQUE (ref_name, build_id));
CREATE TABLE published_refs (id SERIAL PRIMARY KEY, build_id INTEGER NOT NULL REFERENCES builds, ref_name TEXT NOT NULL, commit TEXT NOT NULL);
CREATE TABLE checks (check_name TEXT, build_id INTEGER REFERENCES builds, job_id INTEGER UNIQUE REFERENCES jobs, status SMALLINT NOT NULL DEFAULT 0,
	status_reason TEXT, results TEXT, PRIMARY KEY (check_name, build_id));
CREATE TABLE tokens (token_id TEXT PRIMARY KEY, expires TIMESTAMP, last_used TIMESTAMP, revoked_at TIMESTAMP);`

// filled are 1,200 published builds with three jobs each, and the last ones
// in every other state.
const filled = `
INSERT INTO jobs (kind, status, contents, results, log, repo)
	SELECT CASE n % 3 WHEN 0 THEN 2 ELSE n % 3 - 1 END, 2,
		CASE n % 3 WHEN 0 THEN '{"repo":"stable"}' ELSE format('{"build":%s}', (n + 2) / 3) END,
		'{"refs":{}}', format(E'log of job %s\n', n), CASE n % 3 WHEN 1 THEN NULL ELSE 'stable' END
	FROM generate_series(1, 3600) n;
INSERT INTO builds (created_at, repo_state, published_state, commit_job_id, publish_job_id, repo, extra_ids, app_id, build_log_url, token_name, token_type)
	SELECT now() - (1200 - n) * interval '3 hours', 2, 2, 3 * n - 2, 3 * n - 1, 'stable', ARRAY['org.test.Extra' || n], 'org.test.App' || n % 50,
		'https://ci.test/' || n, 'ci', CASE n % 2 WHEN 0 THEN '1' ELSE 'app' END
	FROM generate_series(1, 1200) n;
INSERT INTO build_refs (build_id, ref_name, commit) SELECT n, format('app/org.test.App%s/x86_64/stable', n % 50), md5(n::text) || md5(n::text) FROM generate_series(1, 1200) n;
INSERT INTO jobs (kind, status, contents, log) VALUES (4, 1, '{"build":1203,"name":"lint"}', 'checking'), (0, 0, '{"build":1201}', '');
INSERT INTO builds (repo_state, repo_state_reason, published_state, repo, app_id, commit_job_id) VALUES
	(1, NULL, 0, 'beta', NULL, 3602), (3, 'no refs', 0, 'stable', NULL, NULL), (6, NULL, 0, 'stable', 'org.test.Checked', NULL), (2, NULL, 1, 'stable', NULL, NULL), (5, NULL, 0, 'stable', NULL, NULL);
INSERT INTO checks VALUES ('lint', 1203, 3601, 0, NULL, NULL);
INSERT INTO tokens VALUES ('revoked', now() + interval '1 day', now(), now()), ('used', NULL, now(), NULL);`

// flatManager is a flat-manager's database and repository, and where the hub
// will be.
type flatManager struct{ dsn, repo, hub string }

func newFlatManager(t *testing.T) flatManager {
	t.Helper()
	f := flatManager{dsn: sqldbtest.PostgreSQL(t), repo: filepath.Join(t.TempDir(), "repo"), hub: filepath.Join(t.TempDir(), "hub")}
	conn, err := pgx.Connect(t.Context(), f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{schema, filled} {
		if _, err := conn.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

// export makes the repository as flatpak's tools do.
func (f flatManager) export(t *testing.T) {
	t.Helper()
	peertest.Require(t, "flatpak", "ostree")
	app := filepath.Join(t.TempDir(), "app")
	for name, text := range map[string]string{
		"metadata":        "[Application]\nname=org.test.App1\nruntime=org.test.Platform/x86_64/stable\nsdk=org.test.Sdk/x86_64/stable\ncommand=hello\n",
		"files/bin/hello": "#!/bin/sh\necho hello\n",
		"export/empty":    "",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(app, name)), 0o755), os.WriteFile(filepath.Join(app, name), []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(app, "export/empty")); err != nil {
		t.Fatal(err)
	}
	peertest.Run(t, "", nil, "ostree", "init", "--repo="+f.repo, "--mode=archive-z2", "--collection-id=org.test.Stable")
	peertest.Run(t, "", nil, "flatpak", "build-export", "--disable-sandbox", "--no-update-summary", f.repo, app, "stable")
	peertest.Run(t, "", nil, "flatpak", "build-update-repo", "--title=Made by flatpak", "--generate-static-deltas", f.repo)
	// What flat-manager adds: a checkout of the catalogue, and files for people.
	for name, text := range map[string]string{"appstream/x86_64/appstream.xml": "<components/>", "appstream/org.test.App1.flatpakref": "[Flatpak Ref]\n", "media/org.test.App1/a.png": "PNG"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(f.repo, name)), 0o755), os.WriteFile(filepath.Join(f.repo, name), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func quiet(int64) {}

// takeDatabase imports the database, interrupted after each part, until it is
// through.
func (f flatManager) takeDatabase(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(f.hub, 0o755); err != nil {
		t.Fatal(err)
	}
	interrupted := errors.New("interrupted")
	for most, through := 1, false; !through; most += 7 {
		c, err := catalog.Open(t.Context(), catalog.Config{Path: filepath.Join(f.hub, "hub.db")})
		if err != nil {
			t.Fatal(err)
		}
		d, err := flatmanager.OpenDatabase(t.Context(), f.dsn)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		parts := 0
		counts, err := d.Take(ctx, c, func(int64) {
			if parts++; parts == most {
				cancel(interrupted)
			}
		})
		if through = err == nil; through {
			if want := (flatmanager.Counts{Builds: 1205, Refs: 1200, Jobs: 3602, Checks: 1, Tokens: 2}); counts != want {
				t.Errorf("counts %+v, want %+v", counts, want)
			}
			err = d.Done(t.Context(), c)
		}
		if err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		cancel(nil)
		_ = d.Close(t.Context()) // broken by the interruption
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImport(t *testing.T) {
	f := newFlatManager(t)
	f.export(t)
	f.takeDatabase(t)
	repo := flatmanager.Repository{Name: "stable", Dir: f.repo}
	into := filepath.Join(f.hub, "repos", "stable")
	planned, err := repo.Inspect(t.Context(), f.hub, quiet)
	if err != nil || planned.Copied || planned.Refs < 3 {
		t.Errorf("planned %+v, %v", planned, err)
	}
	// Interrupted, it leaves no ref, and goes on the next time.
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := repo.Take(ctx, into, func(n int64) {
		if n == 5 {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Join(into, "refs", "heads")); len(entries) > 0 {
		t.Errorf("refs after an interruption: %v", entries)
	}
	taken, err := repo.Take(t.Context(), into, quiet)
	if err != nil || taken != planned {
		t.Errorf("taken %+v, planned %+v, %v", taken, planned, err)
	}
	peertest.Run(t, "", nil, "ostree", "fsck", "--repo="+into)
	if _, err := os.Stat(filepath.Join(into, "appstream", "x86_64")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the checkout is there: %v", err)
	}
	linked(t, f.repo, into)

	h := startHub(t, f.hub)
	h.look(t)
	peertest.Run(t, "", nil, "ostree", "fsck", "--repo="+into)
	if summary := h.get(t, "/repo/stable/summary", "", nil); !strings.Contains(summary, "app/org.test.App1/x86_64/stable") {
		t.Errorf("summary %q", summary)
	}
	for _, name := range []string{"media/org.test.App1/a.png", "appstream/org.test.App1.flatpakref"} {
		h.get(t, "/repo/stable/"+name, "", nil)
	}
}

// linked checks that objects are shared, and what is written in place is not.
func linked(t *testing.T, from, to string) {
	t.Helper()
	objects, err := filepath.Glob(filepath.Join(from, "objects/*/*.commit"))
	if err != nil || len(objects) == 0 {
		t.Fatalf("%v %v", objects, err)
	}
	for path, want := range map[string]bool{objects[0]: true, filepath.Join(from, "appstream/org.test.App1.flatpakref"): false} {
		relative, err := filepath.Rel(from, path)
		if err != nil {
			t.Fatal(err)
		}
		a, errA := os.Stat(path)
		b, errB := os.Stat(filepath.Join(to, relative))
		if err := errors.Join(errA, errB); err != nil || os.SameFile(a, b) != want {
			t.Errorf("%s: shared %v, want %v, %v", relative, !want, want, err)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	f := newFlatManager(t)
	open := func(path string) *catalog.Catalog {
		t.Helper()
		c, err := catalog.Open(t.Context(), catalog.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	d, err := flatmanager.OpenDatabase(t.Context(), f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close(t.Context()) }()
	used := open(filepath.Join(t.TempDir(), "hub.db"))
	if _, err := used.CreateBuild(t.Context(), catalog.NewBuild{Repo: "stable"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Take(t.Context(), used, quiet); !errors.Is(err, catalog.ErrNotEmpty) {
		t.Errorf("into a hub in use: %v", err)
	}
	f.takeDatabase(t)
	if _, err := d.Take(t.Context(), open(filepath.Join(f.hub, "hub.db")), quiet); !errors.Is(err, catalog.ErrNotEmpty) {
		t.Errorf("a second time: %v", err)
	}
	if _, err := (flatmanager.Repository{Dir: t.TempDir()}).Take(t.Context(), t.TempDir(), quiet); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no repository: %v", err)
	}
	bare := t.TempDir()
	if err := os.WriteFile(filepath.Join(bare, "config"), []byte("[core]\nmode=bare\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := (flatmanager.Repository{Dir: bare}).Take(t.Context(), t.TempDir(), quiet); err == nil || !strings.Contains(err.Error(), `mode is "bare"`) {
		t.Errorf("a bare repository: %v", err)
	}
	if _, err := flatmanager.OpenDatabase(t.Context(), sqldbtest.PostgreSQL(t)+"x"); err == nil {
		t.Error("opened no database")
	}
}

// hubRun is a hub that runs on what was imported.
type hubRun struct {
	client *http.Client
	secret auth.Secret
}

func startHub(t *testing.T, dir string) hubRun {
	t.Helper()
	var network memnet.Network
	ctx, cancel := context.WithCancel(context.Background())
	ended, ready := make(chan error, 1), make(chan struct{})
	env := role.Env{
		Log:    slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Listen: func(_ context.Context, addr string) (net.Listener, error) { return network.Listen(addr) },
		Ready:  func() { close(ready) },
	}
	go func() { ended <- hub.Run(ctx, hub.Config{Dir: dir, Listen: "mem:hub"}, env) }()
	select {
	case <-ready:
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	secret, err := auth.ReadSecret(filepath.Join(dir, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	return hubRun{&http.Client{Transport: &http.Transport{DialContext: network.DialContext}}, secret}
}

// get reads a path with a token of this id; v takes the JSON unless it is nil.
func (h hubRun) get(t *testing.T, path, jti string, v any) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://hub.mem"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	token, err := (&auth.Authority{Secret: h.secret}).Issue(auth.Claims{
		Sub: "build", ID: jti, Scope: auth.Scopes(), Prefixes: []string{""}, Repos: []string{""}, Expires: time.Now().Add(time.Hour).Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := h.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if jti == "revoked" {
		return fmt.Sprint(response.StatusCode)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", path, response.StatusCode, body)
	}
	if v != nil {
		if err := json.Unmarshal(body, v); err != nil {
			t.Fatal(err)
		}
	}
	return string(body)
}

// look checks what clients see of the imported builds.
func (h hubRun) look(t *testing.T) {
	t.Helper()
	var build hubapi.BuildExtended
	h.get(t, hubapi.BuildPath(1200, "extended"), "", &build)
	if b := build.Build; b.Repo != "stable" || b.PublishedState != hubapi.Published || *b.AppID != "org.test.App0" || *b.TokenType != 1 ||
		*b.BuildLogURL != "https://ci.test/1200" || len(b.ExtraIDs) != 1 || time.Since(b.Created.Time).Abs() > 24*time.Hour || len(build.BuildRefs) != 1 {
		t.Errorf("build %+v", build)
	}
	var job hubapi.Job
	h.get(t, hubapi.BuildPath(1200, "publish"), "used", &job)
	if job.ID != 3599 || job.Kind != hubapi.JobPublish || job.Status != hubapi.JobEnded || job.Log != "log of job 3599\n" {
		t.Errorf("job %+v", job)
	}
	h.get(t, hubapi.BuildPath(2), "", &build.Build)
	h.get(t, hubapi.JobPath(1), "", &job) // 150 days old
	if job.Log != "" {
		t.Errorf("old job %+v", job)
	}
	for id, want := range map[int64]struct {
		state     hubapi.RepoState
		published hubapi.PublishedState
		reason    string
	}{
		1201: {hubapi.RepoPurged, hubapi.Unpublished, "upload it again"},
		1202: {hubapi.RepoPurged, hubapi.Unpublished, "no refs"},
		1203: {hubapi.RepoPurged, hubapi.Unpublished, "upload it again"},
		1204: {hubapi.RepoPurged, hubapi.PublishFailed, "upload it again"},
	} {
		var b hubapi.Build
		h.get(t, hubapi.BuildPath(id), "", &b)
		if b.RepoState != want.state || b.PublishedState != want.published || b.RepoStateReason == nil || !strings.Contains(*b.RepoStateReason, want.reason) {
			t.Errorf("build %+v, want %+v", b, want)
		}
	}
	h.get(t, hubapi.BuildPath(1201, "commit"), "", &job)
	if job.Status != hubapi.JobBroken {
		t.Errorf("job %+v", job)
	}
	if status := h.get(t, hubapi.BuildPath(1), "revoked", nil); status != "401" {
		t.Errorf("a revoked token: %s", status)
	}
	c := &hubapi.Client{Base: "http://hub.mem", HTTP: h.client, RetryFor: -1}
	var err error
	if c.Token, err = (&auth.Authority{Secret: h.secret}).Issue(auth.Claims{
		Sub: "build", Scope: auth.Scopes(), Prefixes: []string{""}, Repos: []string{""}, Expires: time.Now().Add(time.Hour).Unix(),
	}); err != nil {
		t.Fatal(err)
	}
	created, err := c.CreateBuild(t.Context(), hubapi.CreateBuildRequest{Repo: "stable"})
	if err != nil || created.ID != 1206 {
		t.Errorf("the next build is %+v, %v", created, err)
	}
}
