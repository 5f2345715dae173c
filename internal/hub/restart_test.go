package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/repository"
	"freshet/internal/sign"
)

// withCatalog uses the control state of a stopped hub, as a process would
// that is then killed.
func (h *runningHub) withCatalog(use func(*catalog.Catalog)) {
	h.t.Helper()
	c, err := catalog.Open(h.t.Context(), catalog.Config{Path: filepath.Join(h.cfg.Dir, "hub.db")})
	if err != nil {
		h.t.Fatal(err)
	}
	use(c)
	if err := c.Close(); err != nil {
		h.t.Error(err)
	}
}

// A commit job that was under way when the hub died is done by the next one.
func TestRestartDuringCommit(t *testing.T) {
	h := startHub(t, hub.Config{})
	build := h.push("stable", app(t, "org.test.Hello", "v1"))
	h.stop()
	h.withCatalog(func(c *catalog.Catalog) {
		job, err := c.StartCommit(t.Context(), build.ID, map[string]any{"build": build.ID})
		if err != nil {
			t.Fatal(err)
		}
		if claimed, err := c.NextJob(t.Context(), catalog.JobFilter{}); err != nil || claimed == nil || claimed.ID != job.ID {
			t.Fatalf("claimed %+v, %v", claimed, err)
		}
	})
	h.start()
	job := h.wait(hubapi.BuildPath(build.ID, "commit"))
	if job.Status != hubapi.JobEnded || !strings.HasPrefix(job.Log, "Attempt 2\n") {
		t.Errorf("job %+v", job)
	}
	h.publish(build)
}

// The hub died between the change of the files and that of the database: the
// next one tells what readers already see, and ends the job with those very
// commits.
func TestRestartDuringPublish(t *testing.T) {
	h := startHub(t, hub.Config{})
	c := app(t, "org.test.Hello", "v1")
	build := h.push("stable", c)
	h.commit(build)
	before := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath)).Head
	h.stop()

	var published string
	ref, _ := c.ref()
	h.withCatalog(func(c *catalog.Catalog) {
		if _, err := c.StartPublish(t.Context(), build.ID, map[string]any{"build": build.ID}); err != nil {
			t.Fatal(err)
		}
		job, err := c.NextJob(t.Context(), catalog.JobFilter{})
		if err != nil || job == nil {
			t.Fatal(job, err)
		}
		read, err := c.Build(t.Context(), build.ID)
		if err != nil {
			t.Fatal(err)
		}
		commit, err := c.Job(t.Context(), *read.CommitJobID)
		if err != nil {
			t.Fatal(err)
		}
		var results hubapi.CommitResults
		if err := json.Unmarshal([]byte(commit.Results), &results); err != nil {
			t.Fatal(err)
		}
		published = publishAndDie(t, h.cfg.Dir, build.ID, "job-2", results.Refs)[ref]
	})

	h.start()
	job := h.wait(hubapi.BuildPath(build.ID, "publish"))
	var results hubapi.PublishResults
	if job.Status != hubapi.JobEnded || json.Unmarshal([]byte(*job.Results), &results) != nil {
		t.Fatalf("job %+v %s", job, *job.Results)
	}
	if results.Refs[ref] != published || results.Serial <= before {
		t.Errorf("results %+v, want commit %s", results, published)
	}
	if a := h.get("/repo/stable/refs/heads/" + ref); strings.TrimSpace(string(a.body)) != published {
		t.Errorf("the ref is %q, want %s", a.body, published)
	}
	page := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath))
	told := 0
	for _, event := range page.Events {
		if event.Refs[ref] == published && event.Build == build.ID {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times: %+v", told, page.Events)
	}
	h.restart()
	if again := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath)); again.Head != page.Head || again.Log != page.Log {
		t.Errorf("a further start changed the log: %d, was %d", again.Head, page.Head)
	}
}

// publishAndDie publishes a build as the hub does, up to the point where the
// database would be written.
func publishAndDie(t *testing.T, dir string, build int64, key string, refs map[string]string) map[string]string {
	t.Helper()
	keys, err := sign.Open(sign.KeyFile{Path: filepath.Join(dir, "signing-key.asc")})
	if err != nil {
		t.Fatal(err)
	}
	repo, _, err := repository.Open(t.Context(), repository.Options{
		Name: "stable", Title: "stable", Dir: filepath.Join(dir, "repos", "stable"), BuildsDir: filepath.Join(dir, "builds"),
		BaseURL: "http://hub.mem/repo/stable/", Signer: keys,
	}, emptyCache{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := repo.Build(build)
	if err != nil {
		t.Fatal(err)
	}
	var commits map[string]string
	died := errors.New("died")
	_, err = repo.Publish(t.Context(), []repository.PublishRequest{{Key: key, Build: files, Refs: refs}}, io.Discard, func(r repository.Result) error {
		commits = r.Refs[key]
		return died
	})
	if !errors.Is(err, died) || len(commits) == 0 {
		t.Fatalf("publish: %v, %v", commits, err)
	}
	if err := repo.Close(); err != nil {
		t.Fatal(err)
	}
	return commits
}

type emptyCache struct{}

func (emptyCache) Load(context.Context, string) ([]repository.RefInfo, error) { return nil, nil }

// A purge that was under way is finished.
func TestRestartDuringPurge(t *testing.T) {
	h := startHub(t, hub.Config{})
	build := h.push("stable", app(t, "org.test.Hello", "v1"))
	h.stop()
	h.withCatalog(func(c *catalog.Catalog) {
		if _, err := c.StartPurge(t.Context(), build.ID); err != nil {
			t.Fatal(err)
		}
	})
	h.start()
	a := h.do(http.MethodGet, hubapi.BuildPath(build.ID), h.token(everything()), nil)
	if got := decode[hubapi.Build](t, a); got.RepoState != hubapi.RepoPurged {
		t.Errorf("build %s", a.body)
	}
	if _, err := os.Stat(filepath.Join(h.cfg.Dir, "builds", "1")); !os.IsNotExist(err) {
		t.Errorf("files remain: %v", err)
	}
	// What is gone cannot be used, and can be purged again.
	path := hubapi.BuildPath(build.ID)
	h.upload(path+"/upload", h.token(everything()), "mixed", part{"x", nil}).problem(t, 400, hubapi.ErrWrongRepoState)
	if a := h.json(http.MethodPost, path+"/purge", h.token(everything()), struct{}{}); a.status != 200 {
		t.Errorf("second purge: %d %s", a.status, a.body)
	}
	if a := h.get(hubapi.BuildRepoPath(build.ID) + "summary"); a.status != 404 {
		t.Errorf("file of a purged build: %d", a.status)
	}
}

// What a removal that was cut short left of a published build is removed.
func TestRestartDuringRemoval(t *testing.T) {
	h := startHub(t, hub.Config{})
	build := h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	dir := filepath.Join(h.cfg.Dir, "builds", strconv.FormatInt(build.ID, 10))
	h.eventually("the build's files are removed", func() bool { return !exists(dir) })
	h.stop()
	if err := os.MkdirAll(filepath.Join(dir, "refs", "heads"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".boot"), []byte("an earlier boot"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.eventually("the rest is removed", func() bool { return !exists(dir) })
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// A build that a job works on is not purged; the text is the one clients know.
func TestPurgeInUse(t *testing.T) {
	h := startHub(t, hub.Config{})
	build := h.push("stable", app(t, "org.test.Hello", "v1"))
	h.stop()
	h.withCatalog(func(c *catalog.Catalog) {
		// A job for later keeps the build Committing.
		if _, err := c.StartCommit(t.Context(), build.ID, map[string]any{"build": build.ID}); err != nil {
			t.Fatal(err)
		}
		job, err := c.NextJob(t.Context(), catalog.JobFilter{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.ReleaseJob(t.Context(), job.Claim(), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	})
	h.start()
	e := h.json(http.MethodPost, hubapi.BuildPath(build.ID, "purge"), h.token(everything()), struct{}{}).problem(t, 400, hubapi.ErrGeneric)
	if e.Message != "Can't prune build while in use" {
		t.Errorf("message %q", e.Message)
	}
}

// A publish that failed tells why, and may be asked for again.
func TestFailedPublishIsRetried(t *testing.T) {
	h := startHub(t, hub.Config{})
	c := app(t, "org.test.Hello", "v1")
	build := h.push("stable", c)
	job := h.commit(build)
	var committed hubapi.CommitResults
	if err := json.Unmarshal([]byte(*job.Results), &committed); err != nil {
		t.Fatal(err)
	}
	ref, _ := c.ref()
	object := filepath.Join(h.cfg.Dir, "builds", "1", "objects", committed.Refs[ref][:2], committed.Refs[ref][2:]+".commit")
	if err := os.Rename(object, object+".away"); err != nil {
		t.Fatal(err)
	}
	path, token := hubapi.BuildPath(build.ID, "publish"), h.token(everything())
	h.json(http.MethodPost, path, token, struct{}{})
	job = h.wait(path)
	var failure hubapi.FailureResults
	if job.Status != hubapi.JobBroken || json.Unmarshal([]byte(*job.Results), &failure) != nil || !strings.Contains(failure.ErrorMessage, committed.Refs[ref][:10]) {
		t.Fatalf("job %+v %s", job, *job.Results)
	}
	if !strings.Contains(job.Log, failure.ErrorMessage) {
		t.Errorf("the log does not say why: %q", job.Log)
	}
	failed := decode[hubapi.Build](t, h.do(http.MethodGet, hubapi.BuildPath(build.ID), token, nil))
	if failed.PublishedState != hubapi.PublishFailed || failed.PublishedStateReason == nil || failed.RepoState != hubapi.RepoReady {
		t.Errorf("build %+v", failed)
	}
	if err := os.Rename(object+".away", object); err != nil {
		t.Fatal(err)
	}
	if again := h.publish(build); again.ID == job.ID {
		t.Error("the second publish is the first job")
	}
	if a := h.get("/repo/stable/refs/heads/" + ref); a.status != 200 {
		t.Errorf("ref: %d", a.status)
	}
}

// Publishes of a repository that is no longer configured end, and their builds
// can be purged.
func TestPublishOfAForgottenRepository(t *testing.T) {
	h := startHub(t, hub.Config{Repos: map[string]hub.RepoConfig{"stable": {}, "beta": {}}})
	build, other := h.push("beta", app(t, "org.test.Hello", "v1")), h.push("beta", app(t, "org.test.Other", "v1"))
	h.commit(build)
	h.commit(other)
	h.stop()
	h.withCatalog(func(c *catalog.Catalog) {
		if _, err := c.StartPublish(t.Context(), build.ID, map[string]any{"build": build.ID}); err != nil {
			t.Fatal(err)
		}
		if job, err := c.NextJob(t.Context(), catalog.JobFilter{}); err != nil || job == nil {
			t.Fatal(job, err)
		}
	})
	delete(h.cfg.Repos, "beta")
	h.start()
	path, token := hubapi.BuildPath(build.ID), h.token(everything())
	job := h.wait(path + "/publish")
	if job.Status != hubapi.JobBroken || !strings.Contains(job.Log, `there is no repository "beta" any more`) {
		t.Errorf("job %+v results %s", job, *job.Results)
	}
	if a := h.json(http.MethodPost, path+"/purge", token, struct{}{}); a.status != 200 {
		t.Errorf("purge: %d %s", a.status, a.body)
	}
	h.json(http.MethodPost, hubapi.BuildPath(other.ID, "publish"), token, struct{}{}).problem(t, 404, hubapi.ErrNotFound)
}

// A commit that failed may be asked for again too.
func TestFailedCommitIsRetried(t *testing.T) {
	h := startHub(t, hub.Config{})
	c := app(t, "org.test.Hello", "v1")
	build := h.push("stable", c)
	_, commit := c.ref()
	object := filepath.Join(h.cfg.Dir, "builds", "1", "objects", commit[:2], commit[2:]+".commit")
	if err := os.Rename(object, object+".away"); err != nil {
		t.Fatal(err)
	}
	path, token := hubapi.BuildPath(build.ID, "commit"), h.token(everything())
	h.json(http.MethodPost, path, token, struct{}{})
	failed := h.wait(path)
	if failed.Status != hubapi.JobBroken {
		t.Fatalf("job %+v", failed)
	}
	if err := os.Rename(object+".away", object); err != nil {
		t.Fatal(err)
	}
	if again := h.commit(build); again.ID == failed.ID {
		t.Error("the second commit is the first job")
	}
	h.json(http.MethodPost, path, token, struct{}{}).problem(t, 400, hubapi.ErrWrongRepoState)
	h.publish(build)
}

// Builds that nobody came back for are purged when their time is over.
func TestStaleBuildsArePurged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, hub.Config{BuildRetention: time.Hour})
		build := h.push("stable", app(t, "org.test.Hello", "v1"))
		state := func() hubapi.RepoState {
			claims := everything()
			return decode[hubapi.Build](t, h.do(http.MethodGet, hubapi.BuildPath(build.ID), h.token(claims), nil)).RepoState
		}
		time.Sleep(50 * time.Minute)
		if got := state(); got != hubapi.RepoUploading {
			t.Errorf("after 50 minutes: %s", got)
		}
		time.Sleep(100 * time.Minute)
		if got := state(); got != hubapi.RepoPurged {
			t.Errorf("after 2.5 hours: %s", got)
		}
		if _, err := os.Stat(filepath.Join(h.cfg.Dir, "builds", "1")); !os.IsNotExist(err) {
			t.Errorf("files remain: %v", err)
		}
		h.stop()
	})
}
