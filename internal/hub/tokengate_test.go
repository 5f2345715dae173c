package hub_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub"
	"freshet/internal/peertest"
)

// publishTyped publishes an application whose commit names a token type.
func (h *runningHub) publishTyped(id string, tokenType int) (commit string) {
	h.t.Helper()
	build := h.push("stable", app(h.t, id, "v1"))
	path := hubapi.BuildPath(build.ID, "commit")
	h.ask(path, map[string]any{"token_type": tokenType})
	h.wait(path)
	h.publish(build)
	return strings.TrimSpace(string(h.get("/repo/stable/refs/heads/app/" + id + "/x86_64/stable").body))
}

func TestTokenGate(t *testing.T) {
	secret := bytes.Repeat([]byte{7}, 32)
	file := filepath.Join(t.TempDir(), "repo-secret")
	if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(secret)), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, hub.Config{RepoSecretFile: file, Repos: map[string]hub.RepoConfig{
		"stable": {RequireAuthForTokenTypes: []int32{1, 5}, DefaultTokenType: 5, AuthenticatorName: "org.test.Auth", AuthenticatorOptions: map[string]string{"url": "https://auth.test"}},
	}})
	token := func(secret []byte, change func(*auth.Claims)) []string {
		claims := auth.Claims{Sub: "user", Prefixes: []string{"org.test.Paid"}, Expires: time.Now().Add(time.Hour).Unix()}
		change(&claims)
		text, err := (&auth.Authority{Secret: secret}).Issue(claims)
		if err != nil {
			t.Fatal(err)
		}
		return []string{"Authorization", "Bearer " + text}
	}
	good := token(secret, func(*auth.Claims) {})
	paid, free := h.publishTyped("org.test.Paid", 1), h.publishTyped("org.test.Free", 0)
	h.publishAll("stable", app(t, "org.test.Default", "v1"))
	unnamed := strings.TrimSpace(string(h.get("/repo/stable/refs/heads/app/org.test.Default/x86_64/stable").body))
	head := func(ref string) string {
		return strings.TrimSpace(string(h.get("/repo/stable/refs/heads/" + ref).body))
	}
	object := func(commit string) string { return "/repo/stable/objects/" + commit[:2] + "/" + commit[2:] + ".commit" }
	// A superblock whose parts nobody needs here.
	delta := func(commit string) string {
		raw, err := hex.DecodeString(commit)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.ReplaceAll(base64.RawStdEncoding.EncodeToString(raw), "/", "_")
		path := "deltas/" + name[:2] + "/" + name[2:] + "/superblock"
		full := filepath.Join(h.cfg.Dir, "repos/stable", path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte("block"), 0o644); err != nil {
			t.Fatal(err)
		}
		return "/repo/stable/" + path
	}
	for name, test := range map[string]struct {
		path   string
		header []string
		status int
		kind   hubapi.ErrorKind
	}{
		"free":                 {object(free), nil, 200, ""},
		"free, bad token":      {object(free), []string{"Authorization", "Bearer x"}, 200, ""},
		"paid, no token":       {object(paid), nil, 401, hubapi.ErrInvalidToken},
		"paid":                 {object(paid), good, 200, ""},
		"superblock, no token": {delta(paid), nil, 401, hubapi.ErrInvalidToken},
		"superblock":           {delta(paid), good, 200, ""},
		"free superblock":      {delta(free), nil, 200, ""},
		"default":              {object(unnamed), good, 403, hubapi.ErrInsufficient},
		"another app":          {object(paid), token(secret, func(c *auth.Claims) { c.Prefixes = []string{"org.test.Other"} }), 403, hubapi.ErrInsufficient},
		"expired":              {object(paid), token(secret, func(c *auth.Claims) { c.Expires = 1 }), 401, hubapi.ErrInvalidToken},
		"the hub's own":        {object(paid), []string{"Authorization", "Bearer " + h.token(everything())}, 401, hubapi.ErrInvalidToken},
		"catalogue":            {object(head("appstream/x86_64")), nil, 200, ""},
		"new catalogue":        {object(head("appstream2/x86_64")), nil, 200, ""},
		"its superblock":       {delta(head("appstream2/x86_64")), nil, 200, ""},
		"absent":               {object(strings.Repeat("ab", 32)), nil, 404, hubapi.ErrNotFound},
		"other files":          {"/repo/stable/summary.idx", nil, 200, ""},
	} {
		for range 2 { // known the second time
			a := h.do(http.MethodGet, test.path, "", nil, test.header...)
			if test.kind != "" {
				a.problem(t, test.status, test.kind)
			} else if a.status != test.status {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
			needs := strings.Contains(name, "paid") || name == "superblock" || test.status == 401 || test.status == 403
			if control := a.header.Get("Cache-Control"); needs != (control == "no-store") {
				t.Errorf("%s: Cache-Control %q", name, control)
			}
		}
	}
	for _, want := range []string{"xa.authenticator-name", "org.test.Auth", "xa.authenticator-options.url", "https://auth.test"} {
		if summary := h.get("/repo/stable/summary.idx").body; !bytes.Contains(summary, []byte(want)) {
			t.Errorf("the summary has no %s", want)
		}
	}
	h.pullTyped(good[1], paid)
}

// pullTyped pulls a commit with the real ostree, with and without its token.
func (h *runningHub) pullTyped(header, commit string) {
	h.t.Helper()
	peertest.Require(h.t, "ostree")
	target, err := url.Parse(h.base)
	if err != nil {
		h.t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = h.client.Transport
	server := httptest.NewServer(proxy)
	defer server.Close()
	dir := h.t.TempDir()
	ostree := func(args ...string) ([]byte, error) {
		return peertest.Command(h.t, "ostree", append([]string{"--repo=" + dir}, args...)...).CombinedOutput()
	}
	for _, args := range [][]string{{"init", "--mode=bare-user-only"}, {"remote", "add", "--no-gpg-verify", "hub", server.URL + "/repo/stable"}} {
		if out, err := ostree(args...); err != nil {
			h.t.Fatalf("%v: %s", err, out)
		}
	}
	if out, err := ostree("pull", "--disable-static-deltas", "hub", commit); err == nil || !bytes.Contains(out, []byte("401")) {
		h.t.Errorf("without a token: %v: %s", err, out)
	}
	if out, err := ostree("pull", "--disable-static-deltas", "--http-header=Authorization="+header, "hub", commit); err != nil {
		h.t.Errorf("with a token: %v: %s", err, out)
	}
}
