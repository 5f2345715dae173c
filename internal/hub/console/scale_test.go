package console_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub/catalog"
	"freshet/internal/sqldb"
)

const (
	// buildsEnv says of how many builds the hub has that is measured.
	buildsEnv = "FRESHET_BUILDS"
	// buildsFileEnv names a database to keep them in, so that the next run has them.
	buildsFileEnv = "FRESHET_BUILDS_FILE"
	defaultBuilds = 20_000
	scaleApps     = 3000
)

// fillSQL makes ? builds of 3,000 applications as a hub has them after years: nine
// in ten of them published and purged, the others tests that were purged, with
// their refs, jobs, checks, audit entries and history.
var fillSQL = []string{
	`INSERT INTO builds (id, created, repo, app_id, extra_ids, public_download, token_name, token_id, repo_state, published_state, commit_job_id, publish_job_id)
		WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		SELECT i, 1600000000000000 + i * 180000000, CASE i % 5 WHEN 0 THEN 'beta' ELSE 'stable' END, 'org.vendor' || (i * 7919 % 300) || '.App' || (i * 7919 % 3000),
			'[]', 0, 'ci-' || (i % 100), 'token-' || (i % 1000), CASE WHEN i % 997 = 0 THEN 3 ELSE 5 END, CASE WHEN i % 997 = 0 OR i % 10 = 3 THEN 0 ELSE 2 END, 2 * i, 2 * i + 1 FROM n`,
	`INSERT INTO build_refs (id, build_id, ref_name, checksum)
		SELECT 2 * id + k, id, CASE k WHEN 0 THEN 'app/' || app_id ELSE 'runtime/' || app_id || '.Locale' END || '/x86_64/stable', printf('%064x', 2 * id + k)
		FROM builds, (SELECT 0 AS k UNION SELECT 1)`,
	`INSERT INTO jobs (id, kind, status, repo, build_id, contents, results, created, started, ended, actor)
		SELECT 2 * id + k, k, CASE WHEN repo_state = 3 THEN 3 ELSE 2 END, repo, id, '{"build":' || id || '}', '{}', created + 1000000, created + 2000000, created + 3000000, token_name
		FROM builds, (SELECT 0 AS k UNION SELECT 1)`,
	`INSERT INTO checks (build_id, check_name, job_id, status) SELECT id, 'appstream', 2 * id, 1 FROM builds`,
	`INSERT INTO publishes (repo, number, event, created, jobs, everywhere, nodes)
		SELECT repo, id, id, created + 3000000, '[{"id":' || (2 * id + 1) || ',"kind":"publish","build":' || id || ',"actor":"' || token_name || '"}]', created + 4000000, 5
		FROM builds WHERE published_state = 2`,
	`INSERT INTO publish_refs (repo, ref_name, number, from_commit, to_commit)
		SELECT b.repo, r.ref_name, b.id, printf('%064x', r.id - 2), r.checksum FROM builds b JOIN build_refs r ON r.build_id = b.id WHERE b.published_state = 2`,
	`INSERT INTO audit (id, created, actor, action, object, detail)
		SELECT 2 * id + k, created + k, token_name, CASE k WHEN 0 THEN 'build.create' ELSE 'build.publish' END, 'build/' || id, repo FROM builds, (SELECT 0 AS k UNION SELECT 1)`,
	`INSERT INTO tokens (id, expires, last_used)
		WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
		SELECT 'token-' || i, 2000000000000000, 1700000000000000 + i * 7919 % 100000 FROM n`,
	`UPDATE counters SET value = (SELECT 2 * MAX(id) + 2 FROM builds)`,
	`INSERT INTO repositories (name, number) SELECT repo, MAX(number) FROM publishes GROUP BY repo`,
}

// fillMillions makes a database with so many builds, and returns its file.
func fillMillions(tb testing.TB, builds int) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "hub.db")
	if kept := os.Getenv(buildsFileEnv); kept != "" {
		if _, err := os.Stat(kept); err == nil {
			return kept
		}
		file = kept
	}
	c, err := catalog.Open(tb.Context(), catalog.Config{Path: file, Instance: "fill"})
	must(tb, err)
	must(tb, c.Close())
	db, err := sqldb.Open(tb.Context(), sqldb.Config{Default: file})
	must(tb, err)
	defer func() { must(tb, db.Close()) }()
	for i, statement := range fillSQL {
		begin := time.Now()
		must(tb, db.Write(tb.Context(), func(tx *sqldb.Tx) error {
			var args []any
			if i == 0 {
				args = append(args, builds)
			}
			_, err := tx.Exec(tb.Context(), statement, args...)
			return err
		}))
		tb.Logf("statement %d: %v", i, time.Since(begin).Round(time.Millisecond))
	}
	return file
}

func scaleOf(tb testing.TB) int {
	tb.Helper()
	text := os.Getenv(buildsEnv)
	if text == "" {
		return defaultBuilds
	}
	n, err := strconv.Atoi(text)
	must(tb, err)
	return n
}

// scalePages are pages of every list: their first, one deep inside, and the
// costliest filters.
func scalePages(builds int) map[string]string {
	middle, app := builds/2, "org.vendor7.App1507"
	return map[string]string{
		"overview": "/", "builds": "/builds", "builds, deep": fmt.Sprint("/builds?before=", middle), "builds, end": "/builds?before=40",
		"builds of a repository, deep": fmt.Sprint("/builds?repo=beta&before=", middle), "builds that failed": "/builds?stage=failed", "builds that failed, deep": fmt.Sprint("/builds?stage=failed&repo=beta&before=", middle),
		"builds on their way": "/builds?stage=open", "builds that are public, deep": fmt.Sprint("/builds?stage=published&before=", middle),
		"builds of an application": "/builds?app=" + app, "builds of a vendor": "/builds?app=org.vendor7.", "builds of many": "/builds?app=org.", "builds of nobody": "/builds?app=com.nobody&stage=failed",
		"build": fmt.Sprint("/builds/", middle), "jobs": "/jobs", "jobs, deep": fmt.Sprint("/jobs?before=", middle), "jobs that failed": "/jobs?status=broken&kind=publish&repo=beta",
		"jobs of a repository": "/jobs?repo=beta", "jobs of no kind": "/jobs?kind=prune", "job": fmt.Sprint("/jobs/", middle), "queue": "/queue",
		"refs": "/refs?repo=stable", "refs, search": "/refs?repo=stable&q=org.vendor7.", "ref": "/refs/stable/app/" + app + "/x86_64/stable",
		"publishes": "/publishes?repo=stable", "publishes, deep": fmt.Sprint("/publishes?repo=stable&before=", middle), "publish": fmt.Sprint("/publishes/stable/", 10*(middle/10)+1),
		"deltas": "/deltas?repo=stable", "holds": "/holds", "tokens": "/tokens", "tokens, deep": "/tokens?before=1700000000050000+token-1", "audit": "/audit", "audit, deep": fmt.Sprint("/audit?before=", middle),
	}
}

// scaleWorld is a console on so many builds, as an operator sees it and as the
// developers of one vendor do.
func scaleWorld(tb testing.TB) (operator, vendor *visitor, builds int) {
	tb.Helper()
	builds = scaleOf(tb)
	w := newWorld(tb, fillMillions(tb, builds))
	w.refs["beta"] = &flatpak.Index{}
	infos := make([]flatpak.CommitInfo, scaleApps)
	for i := range infos {
		infos[i] = flatpak.CommitInfo{Ref: fmt.Sprintf("app/org.vendor%d.App%d/x86_64/stable", i%300, i), Checksum: checksum(i), DownloadSize: 1e6}
	}
	w.refs["stable"].Update(infos, nil)
	made := make([]hubapi.MadeDelta, 2*scaleApps)
	for i, info := range infos {
		w.refs["stable"].SetDeltas(info.Checksum, []flatpak.Delta{{}, {From: checksum(i + scaleApps)}})
		made[2*i] = hubapi.MadeDelta{Ref: info.Ref, To: info.Checksum.String(), Size: 1, Instead: 2}
		made[2*i+1] = hubapi.MadeDelta{Ref: info.Ref, To: info.Checksum.String(), From: checksum(i + scaleApps).String(), Size: 1, Instead: 2}
	}
	_, err := w.catalog.EnqueueJob(tb.Context(), catalog.NewJob{Kind: hubapi.JobDeltas, Repo: "stable", Contents: struct{}{}})
	must(tb, err)
	must(tb, w.catalog.FinishJob(tb.Context(), w.next().Claim(), hubapi.DeltaResults{Deltas: made}))
	limited := auth.Claims{
		Sub: "build", Name: "vendor", Scope: auth.Scopes(), Prefixes: []string{"org.vendor7"}, Repos: []string{"stable"}, Expires: time.Now().Add(time.Hour).Unix(),
	}
	for id := range int64(builds) {
		w.mine[id] = true
	}
	return w.signIn(everything(), management()), w.signIn(limited), builds
}

// BenchmarkPages measures each page; the slowest of its requests is reported too.
func BenchmarkPages(b *testing.B) {
	operator, vendor, builds := scaleWorld(b)
	pages := scalePages(builds)
	bench := func(name string, v *visitor, path string) {
		b.Run(name, func(b *testing.B) {
			var slowest time.Duration
			for b.Loop() {
				begin := time.Now()
				v.mustGet(b, path)
				slowest = max(slowest, time.Since(begin))
			}
			b.ReportMetric(float64(slowest.Microseconds())/1000, "ms-slowest")
		})
	}
	for _, name := range sortedKeys(pages) {
		bench(name, operator, pages[name])
	}
	bench("vendor's builds", vendor, "/builds")
	bench("vendor's builds that failed", vendor, "/builds?stage=failed")
}

func (v *visitor) mustGet(tb testing.TB, path string) {
	tb.Helper()
	if p := v.get(path); p.Status != 200 {
		tb.Fatalf("%s: %d %s", path, p.Status, p.Body)
	}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// Every page of a large hub can be made; how long each takes is logged.
func TestPagesAtScale(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a database")
	}
	operator, vendor, builds := scaleWorld(t)
	pages := scalePages(builds)
	for _, name := range sortedKeys(pages) {
		begin := time.Now()
		operator.mustGet(t, pages[name])
		t.Logf("%s: %v", name, time.Since(begin).Round(100*time.Microsecond))
	}
	vendor.mustGet(t, "/builds")
}
