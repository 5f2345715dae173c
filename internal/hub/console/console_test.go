package console_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/console"
	"freshet/internal/hub/quarantine"
	"freshet/internal/ostree"
	"freshet/internal/page/pagetest"
)

// Every page that a link leads to is there and well formed, and nothing that came
// from outside gets out of its place.
func TestPages(t *testing.T) {
	w := newWorld(t, "")
	w.fill()
	v := w.signIn(everything(), management())
	pages := map[string]bool{}
	pagetest.Crawl(t, v.client, w.server.URL, console.Path, func(p pagetest.Page) {
		pages[p.Path] = true
		if strings.Contains(p.Body, "<script") || strings.Contains(p.Body, `href="javascript:`) {
			t.Errorf("%s: something got out of its place", p.Path)
		}
	})
	for _, want := range []string{
		"/", "/builds", "/builds/1", "/refs", "/refs/stable/app/org.example.App/x86_64/stable", "/publishes", "/publishes/stable/1", "/publishes?before=20",
		"/deltas", "/queue", "/jobs", "/jobs/1", "/holds", "/tokens", "/audit", "/account", "/builds?stage=failed", "/jobs/64?follow=1",
	} {
		if !pages[console.Base+want] {
			t.Errorf("no link leads to %s", want)
		}
	}
	if len(pages) < 100 {
		t.Errorf("only %d pages were found", len(pages))
	}
	t.Logf("%d pages", len(pages))
}

// What is in quarantine is on the first page, with the refs that need it for those who
// may see all.
func TestDamagedObjects(t *testing.T) {
	w := newWorld(t, "")
	w.fill()
	const hurt = "app/org.example.App/x86_64/stable"
	for i := range 8 {
		item := quarantine.Item{Name: ostree.ObjectName{Checksum: ostree.ChecksumOf([]byte{byte(i)}), Type: ostree.TypeFile}, Note: quarantine.Note{Error: evil, Since: time.Now()}}
		if i < 7 {
			item.Needed([]string{hurt}, time.Now())
		}
		w.apart = append(w.apart, item)
	}
	body := w.signIn(everything()).get("/").Body
	for _, want := range []string{w.apart[0].Name.Path(), w.apart[5].Name.Path(), "1 ref", ">" + hurt + "</a>", "And 2 more"} {
		if !strings.Contains(body, want) {
			t.Errorf("the overview lacks %q", want)
		}
	}
	if strings.Contains(body, "<script") || strings.Contains(body, w.apart[6].Name.Path()) {
		t.Error("too much")
	}
	limited := everything()
	limited.ID, limited.Prefixes = "", []string{"com.example"}
	if body := w.signIn(limited).get("/").Body; !strings.Contains(body, "1 ref") || strings.Contains(body, hurt) {
		t.Error("who may not see all sees which refs need it")
	}
	w.apart = nil
	if strings.Contains(w.signIn(everything()).get("/").Body, "Damaged objects") {
		t.Error("nothing is damaged")
	}
}

// A hub on which nothing has happened has pages too.
func TestEmptyPages(t *testing.T) {
	w := newWorld(t, "")
	v := w.signIn(everything(), management())
	pagetest.Crawl(t, v.client, w.server.URL, console.Path, func(p pagetest.Page) {
		if p.Path == console.Base+"/builds" && !strings.Contains(p.Body, "No builds yet") {
			t.Errorf("%s", p.Body)
		}
	})
}

// What is asked for and is not there gets a page that says so, with the same
// reason as everywhere.
func TestErrors(t *testing.T) {
	w := newWorld(t, "")
	w.fill()
	v := w.signIn(everything())
	for path, want := range map[string]int{
		"/builds/999": 404, "/builds/x": 404, "/builds/01": 404, "/jobs/999": 404, "/refs/none/app/x": 404, "/refs/stable/app/none": 404,
		"/refs?repo=none": 404, "/publishes/stable/9": 404, "/publishes/none/1": 404, "/publishes?before=x": 400, "/builds?before=-1": 400,
		"/builds?stage=strange": 400, "/nothing": 404, "/tokens": 403, "/audit": 403, "/assets/style.css": 404,
	} {
		p := v.get(path)
		if p.Status != want || p.Header.Get("Freshet-Reason") == "" {
			t.Errorf("%s: %d %q, want %d", path, p.Status, p.Header.Get("Freshet-Reason"), want)
		}
		for _, problem := range pagetest.Problems(p.Body) {
			t.Errorf("%s: %s", path, problem)
		}
		pagetest.Policy(t, p)
	}
}

func TestSignIn(t *testing.T) {
	w := newWorld(t, "")
	v := w.browser()
	if p := v.get("/builds?stage=failed"); p.Status != http.StatusSeeOther || p.Header.Get("Location") != "/console/signin?next=%2Fconsole%2Fbuilds%3Fstage%3Dfailed" {
		t.Errorf("without a session: %d %s", p.Status, p.Header.Get("Location"))
	}
	expired, unsigned := everything(), everything()
	expired.Expires = time.Now().Add(-time.Minute).Unix()
	for token, want := range map[string]string{
		"": "Paste a token", "rubbish": "no token of this hub", w.token(expired): "has expired", w.token(unsigned) + "x": "no token of this hub",
	} {
		p := v.post("/signin", "token", token)
		if p.Status != http.StatusUnauthorized || !strings.Contains(p.Body, want) || len(p.Header.Values("Set-Cookie")) > 0 {
			t.Errorf("token %.20q: %d, cookies %v, want %q", token, p.Status, p.Header.Values("Set-Cookie"), want)
		}
		if problems := pagetest.Problems(p.Body); problems != nil {
			t.Errorf("%v", problems)
		}
	}
	for next, want := range map[string]string{
		"/console/builds": "/console/builds", "": console.Path, "https://elsewhere/console/": console.Path, "//elsewhere/console/": console.Path,
		"/console/../admin": console.Path, "/elsewhere": console.Path, `/console/\elsewhere`: console.Path,
	} {
		p := v.post("/signin", "token", w.token(everything()), "next", next)
		if p.Status != http.StatusSeeOther || p.Header.Get("Location") != want {
			t.Errorf("next %q leads to %d %q", next, p.Status, p.Header.Get("Location"))
		}
		cookie := p.Header.Get("Set-Cookie")
		for _, attribute := range []string{"HttpOnly", "SameSite=Strict", "Path=/console", "Expires="} {
			if !strings.Contains(cookie, attribute) {
				t.Errorf("cookie %q has no %s", cookie, attribute)
			}
		}
	}
	if p := v.get("/builds"); p.Status != http.StatusOK {
		t.Fatalf("signed in: %d", p.Status)
	}
	// The old cookie is worth nothing after signing out.
	other := w.browser()
	other.client.Jar.SetCookies(mustURL(t, w.server.URL+console.Path), v.client.Jar.Cookies(mustURL(t, w.server.URL+console.Path)))
	if p := other.get("/builds"); p.Status != http.StatusOK {
		t.Fatalf("a copy of the cookie: %d", p.Status)
	}
	if p := v.post("/signout"); p.Status != http.StatusSeeOther {
		t.Errorf("sign out: %d", p.Status)
	}
	for _, who := range []*visitor{v, other} {
		if p := who.get("/builds"); p.Status != http.StatusSeeOther {
			t.Errorf("after signing out: %d", p.Status)
		}
	}
}

// A session ends with its token, whatever its cookie says.
func TestRevokedSession(t *testing.T) {
	w := newWorld(t, "")
	v := w.signIn(everything())
	must(t, w.catalog.RevokeTokens(t.Context(), []string{"t1"}))
	if p := v.get("/builds"); p.Status != http.StatusSeeOther {
		t.Errorf("with a revoked token: %d", p.Status)
	}
	claims := everything()
	claims.ID, claims.Expires = "", time.Now().Add(time.Second).Unix()
	v = w.signIn(claims)
	for deadline := time.Now().Add(10 * time.Second); v.get("/builds").Status == http.StatusOK; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the session outlives its token")
		}
	}
}

// What changes something is taken from pages of the same session only.
func TestForgery(t *testing.T) {
	w := newWorld(t, "")
	w.fill()
	v := w.signIn(everything(), management())
	other := w.signIn(everything(), management())
	for path, form := range map[string][]string{
		"/tokens/revoke": {"id", "t9", "sure", "yes"}, "/holds": {"repo", "stable", "kind", "hold", "reason", "x"}, "/holds/release": {"repo", "stable", "id", "1"},
		"/signout": nil, "/account": {"token", w.token(management())},
	} {
		for _, csrf := range []string{"", "x", other.csrf()} {
			if p := v.postWith(path, csrf, form...); p.Status != http.StatusForbidden {
				t.Errorf("%s with csrf %q: %d", path, csrf, p.Status)
			}
		}
		if p := v.get(path); path != "/holds" && path != "/account" && p.Status == http.StatusOK {
			t.Errorf("GET %s: %d", path, p.Status)
		}
	}
	for _, header := range [][2]string{{"Origin", "https://elsewhere.example"}, {"Sec-Fetch-Site", "cross-site"}} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server.URL+"/console/signin", strings.NewReader("token="+w.token(everything())))
		must(t, err)
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set(header[0], header[1])
		if p := pagetest.Do(t, w.browser().client, request); p.Status != http.StatusForbidden {
			t.Errorf("signing in from another site, %v: %d", header, p.Status)
		}
	}
	if holds, err := w.catalog.Holds(t.Context(), "stable"); err != nil || len(holds) != 2 {
		t.Errorf("holds: %v %v", holds, err)
	}
}

// A link on another site leads to the page: its first request comes without the
// cookie, and the answer asks again.
func TestLinkFromElsewhere(t *testing.T) {
	w := newWorld(t, "")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL+"/console/builds?stage=failed", nil)
	must(t, err)
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	p := pagetest.Do(t, w.browser().client, request)
	if p.Status != http.StatusOK || !strings.Contains(p.Body, `<meta http-equiv="refresh" content="0;url=/console/builds?stage=failed">`) {
		t.Errorf("%d %s", p.Status, p.Body)
	}
	if problems := pagetest.Problems(p.Body); problems != nil {
		t.Errorf("%v", problems)
	}
}

// Everybody sees what their token grants, and nothing else.
func TestRights(t *testing.T) {
	w := newWorld(t, "")
	w.fill()
	w.mine[1] = true
	limited := func(change func(c *auth.Claims)) auth.Claims {
		c := everything()
		c.ID, c.Name = "", "limited"
		change(&c)
		return c
	}
	for name, test := range map[string]struct {
		claims     auth.Claims
		sees, none []string // paths
		has, lacks map[string]string
	}{
		"no scope": {limited(func(c *auth.Claims) { c.Scope = nil }), []string{"/", "/account"}, []string{"/builds", "/builds/1", "/refs", "/queue", "/jobs/1", "/publishes", "/deltas", "/holds", "/tokens", "/audit"}, nil, nil},
		"manager":  {management(), []string{"/", "/tokens", "/audit"}, []string{"/builds", "/queue", "/refs", "/holds"}, nil, nil},
		"builds only": {
			limited(func(c *auth.Claims) { c.Scope = []auth.Scope{auth.ScopeBuild} }),
			[]string{"/builds", "/builds/1"},
			[]string{"/queue", "/jobs/1", "/refs", "/publishes"},
			nil,
			map[string]string{"/builds/1": "<h2>Jobs</h2>"},
		},
		"one build": {limited(func(c *auth.Claims) { c.Sub = "build/1" }), []string{"/builds/1"}, []string{"/builds", "/builds/2", "/jobs/1"}, nil, nil},
		"other repository": {
			limited(func(c *auth.Claims) { c.Repos = []string{"beta"} }),
			[]string{"/builds", "/queue"},
			[]string{"/refs", "/refs?repo=stable", "/builds?repo=stable", "/builds/1", "/publishes/stable/1", "/jobs/1", "/deltas?repo=stable"},
			nil,
			map[string]string{"/builds": "Build 1", "/queue": "Job 64"},
		},
		"one application": {
			limited(func(c *auth.Claims) { c.Prefixes = []string{"org.example.App01"} }),
			[]string{"/builds", "/refs", "/refs/stable/app/org.example.App01/x86_64/stable", "/deltas", "/queue"},
			[]string{"/publishes", "/publishes/stable/10", "/refs/stable/app/org.example.App02/x86_64/stable", "/builds/2", "/jobs/4"},
			map[string]string{"/refs": "app/org.example.App01/", "/deltas": "app/org.example.App01/"},
			map[string]string{"/builds": "/console/builds/2", "/refs": "org.example.App02", "/deltas": "org.example.App02", "/holds": "Hold something"},
		},
		"everything": {everything(), []string{"/builds", "/jobs/64", "/holds"}, []string{"/tokens", "/audit"}, map[string]string{"/holds": "Hold something", "/builds/1": "<h2>Jobs</h2>"}, map[string]string{"/builds/1": "Who did what"}},
	} {
		t.Run(name, func(t *testing.T) {
			v := w.signIn(test.claims)
			for _, path := range test.sees {
				if p := v.get(path); p.Status != http.StatusOK {
					t.Errorf("%s: %d, want a page", path, p.Status)
				}
			}
			for _, path := range test.none {
				if p := v.get(path); p.Status != http.StatusForbidden && p.Status != http.StatusNotFound {
					t.Errorf("%s: %d, want a refusal", path, p.Status)
				}
			}
			for path, text := range test.has {
				if !strings.Contains(v.get(path).Body, text) {
					t.Errorf("%s lacks %q", path, text)
				}
			}
			for path, text := range test.lacks {
				if strings.Contains(v.get(path).Body, text) {
					t.Errorf("%s has %q", path, text)
				}
			}
		})
	}
	for _, test := range []struct {
		path string
		form []string
	}{{"/holds", []string{"repo", "stable", "kind", "hold", "reason", "x"}}, {"/holds/release", []string{"repo", "stable", "id", "1"}}, {"/tokens/revoke", []string{"id", "x", "sure", "yes"}}} {
		for what, limit := range map[string]func(c *auth.Claims){
			"ids":      func(c *auth.Claims) { c.Prefixes = []string{"org.example"} },
			"branches": func(c *auth.Claims) { c.PushBranches = []string{"beta"} },
		} {
			if p := w.signIn(limited(limit)).post(test.path, test.form...); p.Status != http.StatusForbidden {
				t.Errorf("%s for a token of some %s: %d", test.path, what, p.Status)
			}
		}
	}
}

// Tokens are revoked after a question, holds placed and released, and the audit
// log says who did it where.
func TestActions(t *testing.T) {
	w := newWorld(t, "")
	v := w.signIn(everything(), management())
	if p := v.post("/tokens/revoke", "id", "bad one"); p.Status != http.StatusOK || !strings.Contains(p.Body, "Revoke this token?") {
		t.Errorf("%d", p.Status)
	}
	if p := v.post("/tokens/revoke", "id", "bad one", "sure", "yes"); p.Status != http.StatusSeeOther {
		t.Errorf("%d", p.Status)
	}
	if tokens, err := w.catalog.Tokens(t.Context(), []string{"bad one"}); err != nil || len(tokens) != 1 || tokens[0].Revoked.IsZero() {
		t.Errorf("%v %v", tokens, err)
	}
	for reason, want := range map[string]int{"": http.StatusUnprocessableEntity, "a bug": http.StatusSeeOther} {
		if p := v.post("/holds", "repo", "stable", "app", "org.example.App", "kind", "freeze", "reason", reason); p.Status != want {
			t.Errorf("hold for %q: %d", reason, p.Status)
		}
	}
	holds, err := w.catalog.Holds(t.Context(), "stable")
	if err != nil || len(holds) != 1 || holds[0].Actor != "tester (console)" || holds[0].App != "org.example.App" {
		t.Fatalf("%+v %v", holds, err)
	}
	if p := v.post("/holds/release", "repo", "stable", "id", "1"); p.Status != http.StatusSeeOther {
		t.Errorf("%d", p.Status)
	}
	audit := v.get("/audit").Body
	for _, want := range []string{"repo.release", "repo.freeze", "token.revoke", "manager (console)"} {
		if !strings.Contains(audit, want) {
			t.Errorf("the audit log does not say %s", want)
		}
	}
}

// Who is signed in stays so where no page is, and is not asked to sign in.
func TestNoPage(t *testing.T) {
	w := newWorld(t, "")
	const overview, signIn = `<a href="/console/">To the overview</a>`, `<a href="/console/signin">Sign in</a>`
	for name, c := range map[string]struct {
		v             *visitor
		want, without string
	}{
		"signed in": {w.signIn(everything()), overview, signIn},
		"nobody":    {w.browser(), signIn, overview},
	} {
		p := c.v.get("/nothing")
		if p.Status != http.StatusNotFound || !strings.Contains(p.Body, c.want) || strings.Contains(p.Body, c.without) {
			t.Errorf("%s: %d %s", name, p.Status, p.Body)
		}
		if nav := strings.Contains(p.Body, `<nav aria-label="Main">`); nav != (c.want == overview) {
			t.Errorf("%s: navigation: %v", name, nav)
		}
	}
}

// A build that names no application is known by what it brings.
func TestUnnamedBuilds(t *testing.T) {
	w := newWorld(t, "")
	v := w.signIn(everything())
	for _, c := range []struct{ refs, want string }{
		{"", "–"},
		{"app/org.a.B/x86_64/stable runtime/org.a.B.Locale/x86_64/stable runtime/org.a.B.Debug/x86_64/stable", "org.a.B"},
		{"app/org.a.B/x86_64/stable app/org.a.B/aarch64/stable app/org.c.D/x86_64/stable app/org.e.F/x86_64/stable", "org.a.B and 2 more"},
		{"runtime/org.a.Platform/x86_64/1 runtime/org.a.Platform.Locale/x86_64/1", "org.a.Platform"},
		{"screenshots/x86_64", "–"},
		{"app/org.a.B/x86_64/1 app/org.a.B-x/x86_64/1 app/org.a.B.C/x86_64/1 app/org.a.B.D/x86_64/1", "org.a.B and 1 more"},
	} {
		b, err := w.catalog.CreateBuild(t.Context(), catalog.NewBuild{Repo: "stable"})
		must(t, err)
		for ref := range strings.FieldsSeq(c.refs) {
			_, err := w.catalog.AddBuildRef(t.Context(), b.ID, hubapi.CreateBuildRefRequest{Ref: ref, Commit: strings.Repeat("a", 64)})
			must(t, err)
		}
		list := v.get("/builds").Body
		_, row, _ := strings.Cut(list, fmt.Sprintf(">Build %d<", b.ID))
		_, row, _ = strings.Cut(row, `data-label="Application">`)
		cell, _, _ := strings.Cut(row, "</td>")
		if !strings.Contains(cell, c.want) || strings.HasPrefix(c.want, "org") && cell != c.want {
			t.Errorf("%q is listed as %q, want %q", c.refs, cell, c.want)
		}
		if page := v.get(fmt.Sprint("/builds/", b.ID)).Body; c.refs != "" && c.want != "–" && !strings.Contains(page, "<dd>"+c.want+" <") {
			t.Errorf("%q: its page does not say %q", c.refs, c.want)
		}
	}
}

// The overview says of a repository under a hold that it is under one.
func TestHeldRepository(t *testing.T) {
	w := newWorld(t, "")
	v := w.signIn(everything())
	hold := func(app, kind string) {
		_, err := w.catalog.PlaceHold(t.Context(), hubapi.Hold{Repo: "stable", App: app, Kind: kind, Reason: "a reason"})
		must(t, err)
	}
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, `<span class="badge good">publishing is open</span>`},
		{func() { hold("org.a.B", hubapi.HoldFreeze) }, `<span class="badge good">open, with holds</span>`},
		{func() { w.waits = "the disk" }, `<span class="badge busy">waiting</span> the disk`},
		{func() { hold("", hubapi.HoldWait) }, `<span class="badge wait">held</span> the disk`},
		{func() { hold("", hubapi.HoldFreeze) }, `<span class="badge wait">frozen</span>`},
	} {
		step.do()
		if body := v.get("/").Body; !strings.Contains(body, step.want) {
			t.Errorf("the overview does not say %s", step.want)
		}
	}
}

// Tokens have the names that are in them, those that were made from others the name
// of these, and clients are told the name of the remote that they have.
func TestNames(t *testing.T) {
	w := newWorld(t, "")
	v := w.signIn(everything(), management())
	for _, name := range []string{"ci/nightly", "ci", "ci/weekly", ""} {
		_, err := w.catalog.UseToken(t.Context(), "shared", name, time.Now().Add(time.Hour))
		must(t, err)
		w.clock.advance(2 * time.Minute)
	}
	body := v.get("/tokens").Body
	for _, name := range []string{"tester", "manager", "ci"} {
		if !strings.Contains(body, `data-label="Name">`+name+`</td>`) {
			t.Errorf("there is no token of %s", name)
		}
	}
	w.publishRefs(1)
	if body := v.get("/refs/stable/app/org.example.App00/x86_64/stable").Body; !strings.Contains(body, "<code>flatpak install stable-remote org.example.App00</code>") {
		t.Error("the command to install names another remote")
	}
}

// A search that several ways of reading fit lists each ref once.
func TestSearchOnce(t *testing.T) {
	w := newWorld(t, "")
	w.refs["stable"].Update([]flatpak.CommitInfo{{Ref: "app/app.example.One/x86_64/stable", Checksum: checksum(1)}, {Ref: "runtime/app.example.Two/x86_64/stable", Checksum: checksum(2)}}, nil)
	v := w.signIn(everything())
	for _, search := range []string{"a", "app", "app.example", "runtime", ""} {
		body := v.get("/refs?repo=stable&q=" + search).Body
		for _, ref := range []string{">app/app.example.One/x86_64/stable<", ">runtime/app.example.Two/x86_64/stable<"} {
			if n := strings.Count(body, ref); n > 1 || n == 0 && (search == "" || strings.HasPrefix("app.example", search)) {
				t.Errorf("%q lists %s %d times", search, ref, n)
			}
		}
	}
}
