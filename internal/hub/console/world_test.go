package console_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/console"
	"freshet/internal/hub/quarantine"
	"freshet/internal/hub/rights"
	"freshet/internal/ostree"
	"freshet/internal/page/pagetest"
)

// evil is a name that wants out of its place in a page.
const evil = `<script>alert('1')</script>"'&amp; onload=x`

// fakeHub is a hub as the console sees it: repositories are indexes in memory.
type fakeHub struct {
	catalog *catalog.Catalog
	refs    map[string]*flatpak.Index
	waits   string
	apart   []quarantine.Item // in the first repository
	title   string            // of every repository
	// mine are the builds that claims without every id may see.
	mine map[int64]bool
}

func (h *fakeHub) Repos() (repos []console.Repo) {
	for _, name := range slices.Sorted(maps.Keys(h.refs)) {
		repos = append(repos, console.Repo{Name: name, Title: h.title, Remote: name + "-remote", URL: "https://dl.example/repo/" + name + "/"})
	}
	return repos
}

func (h *fakeHub) Refs(repo string) *flatpak.Snapshot {
	if index, ok := h.refs[repo]; ok {
		return index.Snapshot()
	}
	return nil
}

func (h *fakeHub) Quarantined(repo string) ([]quarantine.Item, error) {
	if repo != slices.Min(slices.Collect(maps.Keys(h.refs))) {
		return nil, nil
	}
	return h.apart, nil
}

func (h *fakeHub) Waiting(string) string { return h.waits }
func (h *fakeHub) CommitsWait() string   { return h.waits }

func (h *fakeHub) AllowBuild(_ context.Context, claims *auth.Claims, build hubapi.Build) error {
	if claims.AllowRepo(build.Repo) == nil && (claims.AllowEveryID() == nil || h.mine[build.ID]) {
		return nil
	}
	return &hubapi.Error{Status: http.StatusForbidden, Kind: hubapi.ErrInsufficient, Message: "not yours"}
}

func (h *fakeHub) AllowJob(ctx context.Context, claims *auth.Claims, job *catalog.Job) error {
	if job.Build != 0 {
		return h.AllowBuild(ctx, claims, hubapi.Build{ID: job.Build, Repo: job.Repo})
	}
	if err := rights.Job(claims, job); err != nil {
		return &hubapi.Error{Status: http.StatusForbidden, Kind: hubapi.ErrInsufficient, Message: err.Error()}
	}
	return nil
}

func (h *fakeHub) Job(ctx context.Context, id int64) (hubapi.Job, error) {
	job, err := h.catalog.JobWithLog(ctx, id, 0)
	if job.Status == hubapi.JobNew {
		job.WaitsFor = h.waits
	}
	return job, err
}

func (h *fakeHub) Bearer(claims *auth.Claims) string { return claims.Name }

func (h *fakeHub) Fail(w http.ResponseWriter, _ *http.Request, err error) *hubapi.Error {
	e, ok := err.(*hubapi.Error) //nolint:errorlint // a test
	switch {
	case ok:
	case strings.Contains(err.Error(), "not found"):
		e = &hubapi.Error{Status: http.StatusNotFound, Kind: hubapi.ErrNotFound, Message: err.Error()}
	default:
		e = &hubapi.Error{Status: http.StatusInternalServerError, Kind: hubapi.ErrInternal, Message: err.Error()}
	}
	w.Header().Set("Freshet-Reason", string(e.Kind))
	return e
}

// world is a console on a catalog of its own.
type world struct {
	*fakeHub
	t         testing.TB
	authority *auth.Authority
	server    *httptest.Server
	clock     *clock
}

// clock tells the time, as much later as it was moved.
type clock struct{ ahead atomic.Int64 }

func (c *clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

func newWorld(tb testing.TB, dsn string) *world {
	tb.Helper()
	return newWorldWith(tb, dsn)
}

// newWorldWith is one where people sign in at providers too.
func newWorldWith(tb testing.TB, dsn string, providers ...console.Provider) *world {
	tb.Helper()
	if dsn == "" {
		dsn = tb.TempDir() + "/hub.db"
	}
	now := &clock{}
	c, err := catalog.Open(tb.Context(), catalog.Config{Path: dsn, Instance: "test", Now: now.Now})
	must(tb, err)
	tb.Cleanup(func() { must(tb, c.Close()) })
	w := &world{
		t: tb, clock: now, fakeHub: &fakeHub{catalog: c, refs: map[string]*flatpak.Index{"stable": {}}, mine: map[int64]bool{}},
		authority: &auth.Authority{Secret: auth.Secret("a secret that nobody knows, long enough"), Revoked: c},
	}
	pages, err := console.New(console.Options{Hub: w.fakeHub, Catalog: c, Authority: w.authority, Key: []byte("key"), Now: now.Now, Providers: providers})
	must(tb, err)
	w.server = httptest.NewServer(pages.Handler())
	tb.Cleanup(w.server.Close)
	return w
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// everything are claims for all builds.
func everything() auth.Claims {
	return auth.Claims{
		Sub: "build", ID: "t1", Name: "tester", Scope: auth.Scopes(), Prefixes: []string{""}, Repos: []string{""},
		Expires: time.Now().Add(time.Hour).Unix(),
	}
}

// management are claims for tokens and the audit log.
func management() auth.Claims {
	c := everything()
	c.Sub, c.ID, c.Name = "", "t2", "manager"
	return c
}

// visitor is a browser.
type visitor struct {
	*world
	client *http.Client
}

// browser is one that is not signed in, and follows no redirects.
func (w *world) browser() *visitor {
	jar, err := cookiejar.New(nil)
	must(w.t, err)
	return &visitor{w, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// signIn returns a browser that is signed in with the claims.
func (w *world) signIn(all ...auth.Claims) *visitor {
	w.t.Helper()
	v := w.browser()
	for i, claims := range all {
		path := "/signin"
		if i > 0 {
			path = "/account"
		}
		if p := v.post(path, "token", w.token(claims)); p.Status != http.StatusSeeOther {
			w.t.Fatalf("sign in: %d %s", p.Status, p.Body)
		}
	}
	return v
}

func (w *world) token(claims auth.Claims) string {
	w.t.Helper()
	token, err := w.authority.Issue(claims)
	must(w.t, err)
	return token
}

func (v *visitor) get(path string) pagetest.Page {
	v.t.Helper()
	return pagetest.Get(v.t, v.client, v.server.URL, console.Base+path)
}

// post sends a form with the session's own CSRF text.
func (v *visitor) post(path string, pairs ...string) pagetest.Page {
	v.t.Helper()
	return v.postWith(path, v.csrf(), pairs...)
}

func (v *visitor) postWith(path, csrf string, pairs ...string) pagetest.Page {
	v.t.Helper()
	form := url.Values{"csrf": {csrf}}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	request, err := http.NewRequestWithContext(v.t.Context(), http.MethodPost, v.server.URL+console.Base+path, strings.NewReader(form.Encode()))
	must(v.t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", v.server.URL)
	return pagetest.Do(v.t, v.client, request)
}

// csrf is what the forms of the session carry.
func (v *visitor) csrf() string {
	_, rest, _ := strings.Cut(v.get("/account").Body, `name="csrf" value="`)
	csrf, _, _ := strings.Cut(rest, `"`)
	return csrf
}

// fill gives the hub some of everything, with evil wherever a text can come from
// outside.
func (w *world) fill() {
	w.t.Helper()
	ctx, c := w.t.Context(), w.catalog
	name, link := evil, "javascript:alert(1)"
	app := "org.example.App"
	as := c.By(evil)
	w.publishRefs(60)
	for i := range 3 {
		b, err := as.CreateBuild(ctx, catalog.NewBuild{Repo: "stable", AppID: &app, TokenName: &name, TokenID: "t" + evil, BuildLogURL: &link})
		must(w.t, err)
		ref := "app/org.example.App/x86_64/stable"
		_, err = as.AddBuildRef(ctx, b.ID, hubapi.CreateBuildRefRequest{Ref: ref, Commit: strings.Repeat("a", 64), BuildLogURL: &link})
		must(w.t, err)
		if i == 2 {
			break // it stays as it is
		}
		_, err = as.StartCommit(ctx, b.ID, struct{}{})
		must(w.t, err)
		commit := w.next()
		must(w.t, c.AppendLog(ctx, commit.ID, evil+"\n"))
		must(w.t, c.FinishCommit(ctx, commit.Claim(), map[string]string{ref: strings.Repeat("b", 64)}, catalog.NewCheck{Name: evil, Contents: struct{}{}}))
		check := w.next()
		results := evil
		must(w.t, c.ReviewCheck(ctx, check.ID, hubapi.CheckVerdict{Status: hubapi.CheckPassedWithWarnings, Reason: evil}, &results))
		must(w.t, c.FinishCheck(ctx, check.Claim(), hubapi.CheckVerdict{Status: hubapi.CheckPassed}))
		_, err = as.StartPublish(ctx, b.ID, struct{}{})
		must(w.t, err)
		job := w.next()
		if i == 1 {
			must(w.t, c.FailJob(ctx, job.Claim(), evil))
			continue
		}
		_, err = c.FinishPublish(ctx, catalog.Publish{
			Key: fmt.Sprint("publish ", i), Repo: "stable", Base: "/repo/stable/", Number: int64(i + 1), Changed: []string{"summary"},
			Jobs:   []catalog.PublishedJob{{Claim: job.Claim(), Refs: map[string]string{ref: strings.Repeat("b", 64), "app/" + evil: ""}}},
			Before: map[string]string{ref: "", "app/" + evil: strings.Repeat("c", 64)},
		})
		must(w.t, err)
	}
	for i := range 60 {
		_, err := c.FinishPublish(ctx, catalog.Publish{
			Key: fmt.Sprint("more ", i), Repo: "stable", Base: "/repo/stable/", Number: int64(i + 10), Changed: []string{"summary"},
			Refs: map[string]string{"app/org.example.App/x86_64/stable": strings.Repeat("b", 64)}, Before: map[string]string{"app/org.example.App/x86_64/stable": strings.Repeat("b", 64)},
		})
		must(w.t, err)
		_, err = c.UseToken(ctx, fmt.Sprint("used ", i, evil), evil, time.Now().Add(time.Hour))
		must(w.t, err)
		_, err = as.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobDeltas, Repo: "stable", Contents: struct{}{}, Detail: evil})
		must(w.t, err)
	}
	deltas := w.next()
	must(w.t, c.FinishJob(ctx, deltas.Claim(), hubapi.DeltaResults{Deltas: []hubapi.MadeDelta{
		{Ref: "app/org.example.App00/x86_64/stable", To: checksum(0).String(), Size: 1_000_000, Instead: 4_000_000, Parts: 2, Seconds: 1},
	}, Failed: map[string]string{"x": evil}}))
	for _, kind := range []string{hubapi.HoldWait, hubapi.HoldFreeze} {
		_, err := as.PlaceHold(ctx, hubapi.Hold{Repo: "stable", App: "org.held", Kind: kind, Reason: evil})
		must(w.t, err)
	}
	must(w.t, as.RevokeTokens(ctx, []string{"revoked " + evil}))
	must(w.t, c.ReportNode(ctx, hubapi.Node{Name: "edges/" + evil, Site: evil, Log: c.Log(), Serial: 5}))
	must(w.t, c.ReportNode(ctx, hubapi.Node{Name: "edges/fra1", Site: "dl", Log: c.Log(), Serial: 61}))
	w.waits, w.title = "key: "+evil, evil
}

func (w *world) next() *catalog.Job {
	w.t.Helper()
	job, err := w.catalog.NextJob(w.t.Context(), catalog.JobFilter{})
	must(w.t, err)
	if job == nil {
		w.t.Fatal("there is no job")
	}
	return job
}

// publishRefs puts refs into the repository, each with a delta from nothing.
func (w *world) publishRefs(n int) {
	infos := []flatpak.CommitInfo{
		{Ref: "app/org.example.App/x86_64/stable", Checksum: checksum(1000), Timestamp: 1e9, DownloadSize: 1e6, EndOfLife: evil, Subsets: []string{evil}, CatalogueProblem: evil, HasTokenType: true},
		{Ref: "app/" + evil, Checksum: checksum(1001), EndOfLifeRebase: evil},
		{Ref: "appstream2/x86_64", Checksum: checksum(1002)},
		{Ref: "runtime/org.example.Platform/x86_64/1", Checksum: checksum(1003)},
	}
	for i := range n {
		infos = append(infos, flatpak.CommitInfo{
			Ref: fmt.Sprintf("app/org.example.App%02d/x86_64/stable", i), Checksum: checksum(i), Timestamp: uint64(time.Now().Unix()), DownloadSize: 2e6, InstalledSize: 7e6,
		})
	}
	w.refs["stable"].Update(infos, nil)
	for _, info := range infos {
		w.refs["stable"].SetDeltas(info.Checksum, []flatpak.Delta{{}})
	}
}

func checksum(i int) (c ostree.Checksum) {
	c[0], c[1], c[2] = byte(i), byte(i>>8), byte(i>>16)
	c[31] = 1
	return c
}

func mustURL(tb testing.TB, s string) *url.URL {
	tb.Helper()
	u, err := url.Parse(s)
	must(tb, err)
	return u
}
