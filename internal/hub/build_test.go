package hub_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/hub"
	"freshet/internal/ostree"
)

// A build goes through its whole life, in both multipart dialects, and ends as
// refs that clients can read.
func TestBuildLife(t *testing.T) {
	for _, dialect := range []string{"mixed", "form-data"} {
		t.Run(dialect, func(t *testing.T) { buildLife(t, dialect) })
	}
}

func buildLife(t *testing.T, dialect string) {
	t.Helper()
	h := startHub(t, hub.Config{
		BaseURL: "https://hub.example.org/",
		Repos:   map[string]hub.RepoConfig{"stable": {CollectionID: "org.test.Stable"}, "beta": {}},
	})
	token := h.token(everything())
	c := app(t, "org.test.Hello", "v1")

	a := h.json(http.MethodPost, "/api/v1/build", token, map[string]any{"repo": "stable", "app-id": "org.test.Hello", "unknown": 1})
	build := decode[hubapi.Build](t, a)
	if want := "https://hub.example.org/api/v1/build/1"; a.status != 200 || a.header.Get("Location") != want {
		t.Fatalf("create: %d, Location %q, want %q", a.status, a.header.Get("Location"), want)
	}
	if build.PublicDownload || build.RepoState != hubapi.RepoUploading || build.ExtraIDs == nil || *build.AppID != "org.test.Hello" || *build.TokenName != "tester" {
		t.Errorf("new build %s", a.body)
	}
	path := hubapi.BuildPath(build.ID)

	// What is missing, asked with a GET that has a body.
	a = h.json(http.MethodGet, path+"/missing_objects", token, map[string]any{"wanted": c.names()})
	if missing := decode[hubapi.MissingObjectsResponse](t, a).Missing; !slices.Equal(missing, c.names()) {
		t.Errorf("missing before the upload: %s", a.body)
	}
	a = h.upload(path+"/upload", token, dialect, c.parts...)
	sizes := decode[[]int64](t, a)
	if a.status != 200 || len(sizes) != len(c.parts) {
		t.Fatalf("upload: %d %s", a.status, a.body)
	}
	for i, p := range c.parts {
		if sizes[i] != int64(len(p.content)) {
			t.Errorf("part %s: %d bytes stored of %d", p.name, sizes[i], len(p.content))
		}
	}
	a = h.json(http.MethodGet, path+"/missing_objects", token, map[string]any{"wanted": c.names()})
	if missing := decode[hubapi.MissingObjectsResponse](t, a).Missing; missing == nil || len(missing) > 0 {
		t.Errorf("missing after the upload: %s", a.body)
	}

	ref, commit := c.ref()
	a = h.json(http.MethodPost, path+"/build_ref", token, map[string]any{"ref": ref, "commit": commit, "build-log-url": "https://ci/1"})
	set := decode[hubapi.BuildRef](t, a)
	if want := "https://hub.example.org" + path + "/build_ref/1"; a.header.Get("Location") != want || set.Commit != commit || *set.BuildLogURL != "https://ci/1" {
		t.Errorf("build_ref: Location %q, %s", a.header.Get("Location"), a.body)
	}
	a = h.do(http.MethodGet, path+"/build_ref/1", token, nil)
	if got := decode[hubapi.BuildRef](t, a); got.RefName != ref {
		t.Errorf("read ref: %s", a.body)
	}
	a = h.json(http.MethodPost, path+"/add_extra_ids", token, map[string]any{"ids": []string{"Extra", "Extra", "Another.One"}})
	if got := decode[hubapi.Build](t, a); !slices.Equal(got.ExtraIDs, []string{"Another.One", "Extra"}) {
		t.Errorf("extra ids: %s", a.body)
	}

	// Publish comes after commit.
	a = h.json(http.MethodPost, path+"/publish", token, struct{}{})
	if e := a.problem(t, 400, hubapi.ErrWrongRepoState); e.CurrentState != "uploading" || e.ExpectedState != "ready" {
		t.Errorf("publish before commit: %s", a.body)
	}
	a = h.json(http.MethodPost, path+"/commit", token, map[string]any{})
	if want := "https://hub.example.org" + path + "/commit"; a.status != 200 || a.header.Get("Location") != want {
		t.Fatalf("commit: %d, Location %q", a.status, a.header.Get("Location"))
	}
	job := h.wait(path + "/commit")
	var committed hubapi.CommitResults
	if job.Status != hubapi.JobEnded || json.Unmarshal([]byte(*job.Results), &committed) != nil || len(committed.Refs) != 1 {
		t.Fatalf("commit job: %+v %s", job, *job.Results)
	}
	if job.Log == "" || job.Kind != hubapi.JobCommit || !strings.Contains(job.Contents, `"build":1`) {
		t.Errorf("commit job: %+v", job)
	}
	// The log from an offset on.
	a = h.json(http.MethodGet, path+"/commit", token, map[string]any{"log-offset": len(job.Log) - 5})
	if got := decode[hubapi.Job](t, a); got.Log != job.Log[len(job.Log)-5:] {
		t.Errorf("log from an offset: %q", got.Log)
	}
	a = h.json(http.MethodPost, path+"/commit", token, struct{}{})
	if e := a.problem(t, 400, hubapi.ErrWrongRepoState); e.CurrentState != "ready" {
		t.Errorf("second commit: %s", a.body)
	}

	// The build can be tested by those who may.
	testRef := hubapi.BuildRepoPath(build.ID) + "refs/heads/" + ref
	h.get(testRef).problem(t, 401, hubapi.ErrInvalidToken)
	if a = h.do(http.MethodGet, testRef, token, nil); a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("a private build may be cached: %v", a.header)
	}
	if strings.TrimSpace(string(a.body)) != committed.Refs[ref] {
		t.Errorf("ref of the build: %d %q, want %s", a.status, a.body, committed.Refs[ref])
	}

	a = h.json(http.MethodPost, path+"/publish", token, struct{}{})
	if want := "https://hub.example.org" + path + "/publish"; a.status != 200 || a.header.Get("Location") != want {
		t.Fatalf("publish: %d, Location %q", a.status, a.header.Get("Location"))
	}
	job = h.wait(path + "/publish")
	var published hubapi.PublishResults
	if job.Status != hubapi.JobEnded || json.Unmarshal([]byte(*job.Results), &published) != nil {
		t.Fatalf("publish job: %+v", job)
	}
	if published.UpdateRepoJob != job.ID || published.Serial == 0 || job.Repo == nil || *job.Repo != "stable" {
		t.Errorf("publish job: %+v %s", job, *job.Results)
	}
	a = h.json(http.MethodPost, path+"/publish", token, struct{}{})
	if e := a.problem(t, 400, hubapi.ErrWrongPublishedState); e.CurrentState != "published" || e.ExpectedState != "unpublished" {
		t.Errorf("second publish: %s", a.body)
	}

	head := published.Refs[ref]
	a = h.get("/repo/stable/refs/heads/" + ref)
	if strings.TrimSpace(string(a.body)) != head {
		t.Errorf("published ref: %d %q, want %s", a.status, a.body, head)
	}
	a = h.get("/repo/stable/summary")
	summary, err := ostree.ParseSummary(a.body)
	if err != nil || !slices.ContainsFunc(summary.Refs, func(r ostree.SummaryRef) bool { return r.Ref == ref && r.Commit.String() == head }) {
		t.Errorf("summary lacks %s: %v", ref, err)
	}
	sum, err := ostree.ParseChecksum(head)
	if err != nil {
		t.Fatal(err)
	}
	a = h.get("/repo/stable/" + ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit}.Path())
	if a.status != 200 || ostree.ChecksumOf(a.body) != sum || a.header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
		t.Errorf("commit object: %d %v", a.status, a.header)
	}

	a = h.do(http.MethodGet, path+"/extended", token, nil)
	extended := decode[hubapi.BuildExtended](t, a)
	if extended.Build.PublishedState != hubapi.Published || len(extended.BuildRefs) != 1 || extended.Checks == nil {
		t.Errorf("extended: %s", a.body)
	}
	h.do(http.MethodGet, path+"/check/lint/job", token, nil).problem(t, 404, hubapi.ErrNotFound)

	page := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath+"?after="+strconv.FormatInt(published.Serial-1, 10)))
	if len(page.Events) != 1 || page.Head != published.Serial {
		t.Fatalf("events: %+v", page)
	}
	event := page.Events[0]
	if event.Base != "/repo/stable/" || event.Build != build.ID || event.Refs[ref] != head || !slices.Contains(event.Changed, "summary.idx") {
		t.Errorf("event %+v", event)
	}

	// The files of the build are gone, and the purge of it is welcome.
	h.eventually("the build's files are removed", func() bool {
		_, err := os.Stat(filepath.Join(h.cfg.Dir, "builds", "1"))
		return os.IsNotExist(err)
	})
	a = h.json(http.MethodPost, path+"/purge", token, struct{}{})
	if got := decode[hubapi.Build](t, a); a.status != 200 || got.RepoState != hubapi.RepoPurged {
		t.Errorf("purge: %d %s", a.status, a.body)
	}
	if a = h.do(http.MethodGet, "/api/v1/build?app-id=org.test.Hello", token, nil); len(decode[[]hubapi.Build](t, a)) != 0 {
		t.Errorf("purged builds are listed: %s", a.body)
	}
	if a = h.do(http.MethodGet, "/api/v1/job/2", token, strings.NewReader(`{"log_offset":3}`), "Content-Type", "application/json"); !strings.HasPrefix(decode[hubapi.Job](t, a).Log, job.Log) {
		t.Errorf("an unknown key changed the answer: %s", a.body)
	}
}

// Several builds wait for the same repository: they are published, and each
// build's job tells its own refs.
func TestPublishesMerge(t *testing.T) {
	h := startHub(t, hub.Config{})
	token := h.token(everything())
	var builds []hubapi.Build
	contents := make(map[int64]content)
	for _, id := range []string{"org.test.A", "org.test.B", "org.test.C", "org.test.D"} {
		c := app(t, id, "v1")
		build := h.push("stable", c)
		h.commit(build)
		builds = append(builds, build)
		contents[build.ID] = c
	}
	before := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath)).Head
	for _, build := range builds {
		if a := h.json(http.MethodPost, hubapi.BuildPath(build.ID, "publish"), token, struct{}{}); a.status != 200 {
			t.Fatalf("publish: %d %s", a.status, a.body)
		}
	}
	serials := make(map[int64]bool)
	for _, build := range builds {
		job := h.wait(hubapi.BuildPath(build.ID, "publish"))
		var results hubapi.PublishResults
		if job.Status != hubapi.JobEnded || json.Unmarshal([]byte(*job.Results), &results) != nil {
			t.Fatalf("publish job %+v", job)
		}
		if !slices.Equal(slices.Collect(maps.Keys(results.Refs)), slices.Collect(maps.Keys(contents[build.ID].refs))) {
			t.Errorf("build %d published %v", build.ID, results.Refs)
		}
		serials[results.Serial] = true
	}
	page := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath+"?after="+strconv.FormatInt(before, 10)))
	if len(page.Events) != len(serials) {
		t.Errorf("%d events for publishes with serials %v", len(page.Events), serials)
	}
}

// An update keeps its history: the new commit's parent is the old one, and
// what did not change need not be uploaded again.
func TestUpdate(t *testing.T) {
	h := startHub(t, hub.Config{})
	v1, v2 := app(t, "org.test.Hello", "v1"), app(t, "org.test.Hello", "v2")
	h.publishAll("stable", v1)
	ref, _ := v1.ref()
	first := strings.TrimSpace(string(h.get("/repo/stable/refs/heads/" + ref).body))

	token := h.token(everything())
	build := decode[hubapi.Build](t, h.json(http.MethodPost, "/api/v1/build", token, map[string]any{"repo": "stable"}))
	a := h.json(http.MethodGet, hubapi.BuildPath(build.ID, "missing_objects"), token, map[string]any{"wanted": v2.names()})
	if missing := decode[hubapi.MissingObjectsResponse](t, a).Missing; len(missing) == 0 || len(missing) >= len(v2.parts) {
		t.Errorf("%d of %d objects are missing", len(missing), len(v2.parts))
	}
	h.publishAll("stable", v2)
	second := strings.TrimSpace(string(h.get("/repo/stable/refs/heads/" + ref).body))
	sum, err := ostree.ParseChecksum(second)
	if err != nil {
		t.Fatal(err)
	}
	commit, err := ostree.ParseCommit(h.get("/repo/stable/" + ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit}.Path()).body)
	if err != nil || commit.Parent.String() != first {
		t.Errorf("parent is %s, want %s (%v)", commit.Parent, first, err)
	}
}
