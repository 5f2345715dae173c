package hub_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub"
)

// Each bad upload gets its error, the good parts of the same request stay, and
// the same build can be completed, committed and published afterwards.
func TestBadUploads(t *testing.T) {
	h := startHub(t, hub.Config{Limits: hub.Limits{UploadBody: 1 << 20, Object: 64 << 10, JSONBody: 1 << 20}})
	token := h.token(everything())
	c := app(t, "org.test.Hello", "v1")
	build := decode[hubapi.Build](t, h.json(http.MethodPost, "/api/v1/build", token, map[string]any{"repo": "stable"}))
	path := hubapi.BuildPath(build.ID)
	upload := path + "/upload"
	missing := func() []string {
		a := h.json(http.MethodGet, path+"/missing_objects", token, map[string]any{"wanted": c.names()})
		return decode[hubapi.MissingObjectsResponse](t, a).Missing
	}

	good, victim := c.parts[0], c.parts[1]
	half := victim.content[:len(victim.content)/2]
	for _, bad := range []part{
		{victim.name, append(slices.Clone(victim.content), 'x')},
		{victim.name, half},
		{victim.name, nil},
		{"../../../etc/passwd", victim.content},
		{"/etc/passwd", victim.content},
		{"objects/" + victim.name, victim.content},
		{"dir/" + victim.name, victim.content},
		{strings.ToUpper(victim.name), victim.content},
		{"a.filez", victim.content},
		{victim.name + ".exe", victim.content},
		{strings.Repeat("a", 64) + ".commitmeta", victim.content},
		{strings.Repeat("a", 64) + ".filez", bytes.Repeat([]byte{0}, 65<<10)},
		{"x.superblock.delta", victim.content},
		{strings.Repeat("A", 43) + ".-1.delta", victim.content},
		{strings.Repeat("n", 5000), victim.content},
	} {
		shown := bad.name[:min(len(bad.name), 128)]
		t.Run(shown[:min(len(shown), 40)], func(t *testing.T) {
			e := h.upload(upload, token, "mixed", good, bad).problem(t, 400, hubapi.ErrGeneric)
			if e.Refused[shown] == "" || len(e.Refused) != 1 {
				t.Errorf("refused are %v, want only %q", e.Refused, shown)
			}
			if left := missing(); slices.Contains(left, good.name) || !slices.Contains(left, victim.name) {
				t.Errorf("the good part did not stay or the bad one did: missing %v", left)
			}
		})
	}
	t.Run("no name", func(t *testing.T) {
		body := "--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\nhello\r\n--b--\r\n"
		a := h.do(http.MethodPost, upload, token, strings.NewReader(body), "Content-Type", "multipart/form-data; boundary=b")
		if e := a.problem(t, 400, hubapi.ErrGeneric); e.Refused["part 1"] == "" {
			t.Errorf("refused are %v", e.Refused)
		}
	})

	body, contentType := multipartOf("mixed", c.parts...)
	t.Run("not multipart", func(t *testing.T) {
		h.do(http.MethodPost, upload, token, bytes.NewReader(body), "Content-Type", "text/plain").problem(t, 400, hubapi.ErrGeneric)
		h.do(http.MethodPost, upload, token, bytes.NewReader(body), "Content-Type", "multipart/mixed").problem(t, 400, hubapi.ErrGeneric)
		h.do(http.MethodPost, upload, token, bytes.NewReader(body), "Content-Type", contentType, "Content-Encoding", "zstd")
	})
	t.Run("truncated", func(t *testing.T) {
		h.do(http.MethodPost, upload, token, bytes.NewReader(body[:len(body)/2]), "Content-Type", contentType).problem(t, 400, hubapi.ErrGeneric)
		var zipped bytes.Buffer
		zw := gzip.NewWriter(&zipped)
		_, _ = zw.Write(body)
		_ = zw.Close()
		h.do(http.MethodPost, upload, token, bytes.NewReader(zipped.Bytes()[:zipped.Len()-10]), "Content-Type", contentType, "Content-Encoding", "gzip").
			problem(t, 400, hubapi.ErrGeneric)
		h.do(http.MethodPost, upload, token, strings.NewReader("no gzip"), "Content-Type", contentType, "Content-Encoding", "gzip").
			problem(t, 400, hubapi.ErrGeneric)
	})
	t.Run("too large", func(t *testing.T) {
		large := make([]part, 20)
		for i := range large {
			large[i] = part{fmt.Sprintf("%064x.filez", i), make([]byte, 60<<10)}
		}
		body, contentType := multipartOf("mixed", large...)
		h.do(http.MethodPost, upload, token, bytes.NewReader(body), "Content-Type", contentType).problem(t, 413, hubapi.ErrTooLarge)
		// Without a length, and small only on the wire.
		h.do(http.MethodPost, upload, token, io.MultiReader(bytes.NewReader(body)), "Content-Type", contentType).problem(t, 413, hubapi.ErrTooLarge)
		var zipped bytes.Buffer
		zw := gzip.NewWriter(&zipped)
		_, _ = zw.Write(body)
		_ = zw.Close()
		h.do(http.MethodPost, upload, token, &zipped, "Content-Type", contentType, "Content-Encoding", "gzip").problem(t, 413, hubapi.ErrTooLarge)

		wanted := slices.Repeat([]string{victim.name}, 20_000)
		h.json(http.MethodGet, path+"/missing_objects", token, map[string]any{"wanted": wanted}).problem(t, 413, hubapi.ErrTooLarge)
		h.json(http.MethodPost, path+"/build_ref", token, map[string]any{"ref": strings.Repeat("x", 3<<20)}).problem(t, 413, hubapi.ErrTooLarge)
	})
	t.Run("bad json", func(t *testing.T) {
		h.do(http.MethodPost, path+"/build_ref", token, strings.NewReader("{"), "Content-Type", "application/json").problem(t, 400, hubapi.ErrGeneric)
		for _, name := range []string{"", "a", "aa.filez", "../x.filez", victim.name + "x"} {
			h.json(http.MethodGet, path+"/missing_objects", token, map[string]any{"wanted": []string{name}}).problem(t, 400, hubapi.ErrGeneric)
		}
	})

	// Nothing half stored, nothing outside.
	err := filepath.WalkDir(filepath.Join(h.cfg.Dir, "builds"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(entry.Name(), "upload-") {
			t.Errorf("temporary file left: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if a := h.upload(upload, token, "form-data", c.parts...); a.status != 200 {
		t.Fatalf("good upload: %d %s", a.status, a.body)
	}
	if left := missing(); len(left) != 0 {
		t.Errorf("still missing %v", left)
	}
	ref, commit := c.ref()
	h.json(http.MethodPost, path+"/build_ref", token, map[string]any{"ref": ref, "commit": commit})
	h.commit(build)
	h.publish(build)
}

// Refs of other forms are refused, and so are commits that are no checksum.
func TestBadRefs(t *testing.T) {
	h := startHub(t, hub.Config{})
	token := h.token(everything())
	build := h.push("stable", app(t, "org.test.Hello", "v1"))
	path := hubapi.BuildPath(build.ID, "build_ref")
	commit := strings.Repeat("a", 64)
	for _, ref := range []string{
		"", "app", "app/org.test.Hello/x86_64", "app/org.test.Hello/x86_64/stable/more", "appstream/x86_64", "other/org.test.Hello/x86_64/stable",
		"app/../x86_64/stable", "app/org.test.Hello/x86_64/..", "app/org.test.Hello//stable", "/app/org.test.Hello/x86_64/stable",
		"screenshots/", "screenshots/x86_64/more", "screenshots/..", "ostree-metadata", "app/org.test.Hello/x86_64/a b",
	} {
		h.json(http.MethodPost, path, token, map[string]any{"ref": ref, "commit": commit}).problem(t, 400, hubapi.ErrGeneric)
	}
	for _, commit := range []string{"", "abc", strings.Repeat("g", 64), strings.Repeat("A", 64)} {
		h.json(http.MethodPost, path, token, map[string]any{"ref": "app/org.test.Hello/x86_64/stable", "commit": commit}).problem(t, 400, hubapi.ErrGeneric)
	}
	// A ref whose commit was never uploaded: the commit job says so.
	h.json(http.MethodPost, path, token, map[string]any{"ref": "app/org.test.Gone/x86_64/stable", "commit": commit})
	h.json(http.MethodPost, hubapi.BuildPath(build.ID, "commit"), token, struct{}{})
	job := h.wait(hubapi.BuildPath(build.ID, "commit"))
	if job.Status != hubapi.JobBroken || !strings.Contains(*job.Results, `"error-message"`) || !strings.Contains(*job.Results, commit[:10]) {
		t.Errorf("job %+v, results %s", job, *job.Results)
	}
	failed := decode[hubapi.Build](t, h.do(http.MethodGet, hubapi.BuildPath(build.ID), token, nil))
	if failed.RepoState != hubapi.RepoFailed || failed.RepoStateReason == nil {
		t.Errorf("build %+v", failed)
	}
	e := h.json(http.MethodPost, hubapi.BuildPath(build.ID, "publish"), token, struct{}{}).problem(t, 400, hubapi.ErrWrongRepoState)
	if e.CurrentState != "failed" {
		t.Errorf("publish of a failed build: %+v", e)
	}
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
}

// Tokens are checked for what they are and for what they grant, before the
// body is looked at.
func TestTokens(t *testing.T) {
	h := startHub(t, hub.Config{Repos: map[string]hub.RepoConfig{"stable": {}, "beta": {}}})
	c := app(t, "org.test.Hello", "v1")
	build := decode[hubapi.Build](t, h.json(http.MethodPost, "/api/v1/build", h.token(everything()),
		map[string]any{"repo": "stable", "app-id": "org.test.Hello"}))
	path := hubapi.BuildPath(build.ID)
	claims := func(change func(*auth.Claims)) string {
		claims := everything()
		change(&claims)
		return h.token(claims)
	}
	expired := claims(func(c *auth.Claims) { c.Expires = time.Now().Add(-time.Minute).Unix() })
	forged, err := (&auth.Authority{Secret: auth.Secret(strings.Repeat("x", 32))}).Issue(everything())
	if err != nil {
		t.Fatal(err)
	}
	routes := map[string]string{
		"/api/v1/build": http.MethodPost, path: http.MethodGet, path + "/extended": http.MethodGet, path + "/build_ref": http.MethodPost,
		path + "/missing_objects": http.MethodGet, path + "/add_extra_ids": http.MethodPost, path + "/upload": http.MethodPost,
		path + "/commit": http.MethodPost, path + "/publish": http.MethodPost, path + "/purge": http.MethodPost,
		"/api/v1/job/1": http.MethodGet, "/api/v1/token_subset": http.MethodPost, "/api/v1/tokens/get_list": http.MethodPost,
		"/api/v1/tree/files/push": http.MethodPost, "/api/v1/tree/files": http.MethodGet,
	}
	for _, route := range slices.Sorted(maps.Keys(routes)) {
		for _, token := range []string{"", "nonsense", expired, forged} {
			a := h.do(routes[route], route, token, strings.NewReader("not even JSON"), "Content-Type", "application/json")
			a.problem(t, 401, hubapi.ErrInvalidToken)
			if a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s: no WWW-Authenticate", route)
			}
		}
		if strings.HasSuffix(route, "token_subset") {
			continue
		}
		none := claims(func(c *auth.Claims) { c.Scope = []auth.Scope{"unknown"} })
		h.do(routes[route], route, none, strings.NewReader("not even JSON")).problem(t, 403, hubapi.ErrInsufficient)
		other := claims(func(c *auth.Claims) {
			c.Sub = "build/999"
			// Who may prune looks for jobs with any subject.
			c.Scope = slices.DeleteFunc(c.Scope, func(s auth.Scope) bool { return s == auth.ScopeTokenManagement })
		})
		h.do(routes[route], route, other, strings.NewReader("not even JSON")).problem(t, 403, hubapi.ErrInsufficient)
	}

	// Prefixes and repositories.
	foreign := claims(func(c *auth.Claims) { c.Prefixes = []string{"org.tes", "org.test.Hell"} })
	beta := claims(func(c *auth.Claims) { c.Repos = []string{"beta"} })
	nowhere := claims(func(c *auth.Claims) { c.Repos = nil })
	for _, token := range []string{foreign, beta, nowhere} {
		h.json(http.MethodPost, "/api/v1/build", token, map[string]any{"repo": "stable", "app-id": "org.test.Hello"}).problem(t, 403, hubapi.ErrInsufficient)
		h.json(http.MethodPost, path+"/publish", token, struct{}{}).problem(t, 403, hubapi.ErrInsufficient)
		h.json(http.MethodPost, path+"/purge", token, struct{}{}).problem(t, 403, hubapi.ErrInsufficient)
		h.upload(path+"/upload", token, "mixed", c.parts...).problem(t, 403, hubapi.ErrInsufficient)
	}
	mine := claims(func(c *auth.Claims) { c.Prefixes = []string{"org.test.Hello"} })
	ref, commit := c.ref()
	h.json(http.MethodPost, path+"/build_ref", mine, map[string]any{"ref": "app/org.other.App/x86_64/stable", "commit": commit}).problem(t, 403, hubapi.ErrInsufficient)
	h.json(http.MethodPost, "/api/v1/build", h.token(everything()), map[string]any{"repo": "nope"}).problem(t, 404, hubapi.ErrNotFound)
	h.do(http.MethodGet, "/api/v1/build/77", h.token(everything()), nil).problem(t, 404, hubapi.ErrNotFound)
	h.do(http.MethodGet, "/api/v1/build/x", h.token(everything()), nil).problem(t, 404, hubapi.ErrNotFound)

	// The narrow token is enough for its own application.
	if a := h.upload(path+"/upload", mine, "mixed", c.parts...); a.status != 200 {
		t.Errorf("upload: %d %s", a.status, a.body)
	}
	if a := h.json(http.MethodPost, path+"/build_ref", mine, map[string]any{"ref": ref, "commit": commit}); a.status != 200 {
		t.Errorf("build_ref: %d %s", a.status, a.body)
	}
	// Screenshots belong to the build's application.
	if a := h.json(http.MethodPost, path+"/build_ref", mine, map[string]any{"ref": "screenshots/x86_64", "commit": commit}); a.status != 200 {
		t.Errorf("screenshots: %d %s", a.status, a.body)
	}
}

// A token's part can be handed on, and a revoked token is worth nothing.
func TestTokenSubsetAndRevocation(t *testing.T) {
	h := startHub(t, hub.Config{TokenPrefix: "frt_"})
	claims := everything()
	claims.ID = "token-1"
	token := h.token(claims)
	build := decode[hubapi.Build](t, h.json(http.MethodPost, "/api/v1/build", token, map[string]any{"repo": "stable"}))

	request := map[string]any{"name": "minimal-upload", "sub": "build/1", "scope": []string{"upload"}, "duration": 60, "prefix": []string{"org.test"}}
	a := h.json(http.MethodPost, "/api/v1/token_subset", token, request)
	small := decode[hubapi.TokenSubsetResponse](t, a).Token
	if a.status != 200 || !strings.HasPrefix(small, "frt_") {
		t.Fatalf("token_subset: %d %s", a.status, a.body)
	}
	if a := h.upload(hubapi.BuildPath(build.ID, "upload"), small, "mixed", app(t, "org.test.Hello", "v1").parts...); a.status != 200 {
		t.Errorf("upload with the part: %d %s", a.status, a.body)
	}
	h.json(http.MethodPost, hubapi.BuildPath(build.ID, "commit"), small, struct{}{}).problem(t, 403, hubapi.ErrInsufficient)
	h.json(http.MethodPost, "/api/v1/token_subset", small, map[string]any{"name": "x", "sub": "build", "scope": []string{"upload"}, "duration": 10}).
		problem(t, 403, hubapi.ErrInsufficient)
	h.json(http.MethodPost, "/api/v1/token_subset", token, map[string]any{"name": "x", "sub": "build", "scope": []string{"upload"}, "duration": -1}).
		problem(t, 400, hubapi.ErrGeneric)

	admin := everything()
	admin.Sub = ""
	ids := map[string]any{"token_ids": []string{"token-1", "unknown"}}
	a = h.json(http.MethodPost, "/api/v1/tokens/get_list", h.token(admin), ids)
	list := decode[[]map[string]any](t, a)
	if len(list) != 1 || list[0]["token_id"] != "token-1" || list[0]["last_used"] == nil || list[0]["revoked_at"] != nil {
		t.Errorf("tokens: %s", a.body)
	}
	if a = h.json(http.MethodPost, "/api/v1/tokens/revoke", h.token(admin), ids); a.status != 204 {
		t.Errorf("revoke: %d %s", a.status, a.body)
	}
	for _, revoked := range []string{token, small} {
		h.do(http.MethodGet, hubapi.BuildPath(build.ID), revoked, nil).problem(t, 401, hubapi.ErrInvalidToken)
	}
}

// Paths that lead elsewhere lead nowhere.
func TestPathsStayInside(t *testing.T) {
	h := startHub(t, hub.Config{})
	h.publishAll("stable", app(t, "org.test.Hello", "v1"))
	for _, path := range []string{
		"/repo/stable/../../secret", "/repo/stable/..%2f..%2fsecret", "/repo/stable/%2e%2e/%2e%2e/secret", "/repo/../secret",
		"/repo/stable/refs/heads/%00", "/repo/stable/..%5c..%5csecret", "/repo/stable//..//..//secret", "/repo/..%2fx/summary",
		"/build-repo/1/../../secret", "/tree/../secret", "/tree/x/..%2f..%2fsecret", "/repo/stable/", "/repo/stable/objects", "/repo/stable/refs/heads/",
		"/repo/stable/.lock", "/repo/stable/tmp/x", "/repo/nope/summary", "/tree/nope/x", "/build-repo/99/summary", "/" + strings.Repeat("x/", 1000),
		"/repo/stable/" + strings.Repeat("x", 5000),
	} {
		a := h.get(path)
		if a.status != 404 || a.header.Get("Freshet-Reason") != "not-found" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		if strings.Contains(a.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: a miss is cached: %v", path, a.header)
		}
	}
	for _, path := range []string{"/repo/stable/summary", "/repo/stable/./summary", "/repo//stable///summary", "/repo/stable/refs/../summary"} {
		if a, want := h.get(path), map[bool]int{true: 404, false: 200}[strings.Contains(path, "..")]; a.status != want {
			t.Errorf("%s: %d, want %d", path, a.status, want)
		}
	}
}
