package gate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"freshet/internal/role"
)

func newGate(t *testing.T, cfg Config) *Gate {
	t.Helper()
	if problems := cfg.Validate(); len(problems) > 0 {
		t.Fatal(problems)
	}
	g, err := New(cfg, Around{Serving: func() bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// ask asks the gate the way an edge does; status 0 is that the request goes on.
func ask(g *Gate, method, target, client string, fields ...string) (*httptest.ResponseRecorder, *http.Request) {
	r := httptest.NewRequest(method, target, nil)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	w.Code = 0
	addr, _ := netip.ParseAddr(client)
	g.Stop(w, r, Request{Client: addr, Path: r.URL.Path, Clear: r.TLS == nil})
	return w, r
}

func TestFirstRuleDecides(t *testing.T) {
	g := newGate(t, Config{Rules: []Rule{
		{Action: "allow", From: []string{"10.0.0.0/8", "2001:db8::/32"}},
		{Action: "deny", Paths: []string{"/private/", "/*.secret"}},
		{Action: "deny", Methods: []string{"POST", "PUT"}},
		{Action: "deny", From: []string{"192.0.2.7"}, Methods: []string{"GET"}, Paths: []string{"/big/**.iso"}},
	}})
	for _, c := range []struct {
		method, path, client string
		status               int
	}{
		{"GET", "/a", "192.0.2.1", 0},
		{"GET", "/private/x", "192.0.2.1", 403},
		{"GET", "/private/x", "10.1.2.3", 0},
		{"GET", "/private/x", "::ffff:10.1.2.3", 0},
		{"GET", "/private/x", "2001:db8::1", 0},
		{"GET", "/private/x", "", 403}, // who is not known is in no network
		{"HEAD", "/private/", "192.0.2.1", 403},
		{"GET", "/private", "192.0.2.1", 0},
		{"GET", "/x.secret", "192.0.2.1", 403},
		{"GET", "/y/x.secret", "192.0.2.1", 0},
		{"POST", "/a", "192.0.2.1", 403},
		{"GET", "/big/a/b.iso", "192.0.2.7", 403},
		{"HEAD", "/big/a/b.iso", "192.0.2.7", 403},
		{"GET", "/big/a/b.iso", "192.0.2.8", 0},
	} {
		w, _ := ask(g, c.method, c.path, c.client)
		if w.Code != c.status {
			t.Errorf("%s %s of %s: %d, want %d", c.method, c.path, c.client, w.Code, c.status)
		}
		if c.status == 403 && w.Header().Get(role.ReasonHeader) != ReasonDenied {
			t.Errorf("%s: reason %q", c.path, w.Header().Get(role.ReasonHeader))
		}
		addr, _ := netip.ParseAddr(c.client)
		if c.method != "POST" && g.Open(Request{Client: addr, Path: c.path, Clear: true}) != (c.status == 0) {
			t.Errorf("%s %s of %s: the fast way decides otherwise", c.method, c.path, c.client)
		}
	}
}

func TestLogin(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("opensesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte("# users\nali:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("tok"))
	g := newGate(t, Config{
		Passwords: file, Tokens: []string{"sha256:" + hex.EncodeToString(sum[:])},
		Rules: []Rule{{Action: "login", Paths: []string{"/in/"}}},
	})
	basic := func(name, password string) string {
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth(name, password)
		return "Authorization: " + r.Header.Get("Authorization")
	}
	for _, c := range []struct {
		fields []string
		status int
	}{
		{nil, 401},
		{[]string{basic("ali", "opensesame")}, 0},
		{[]string{basic("ali", "opensesame")}, 0}, // remembered
		{[]string{basic("ali", "wrong")}, 401},
		{[]string{basic("ali", "")}, 401},
		{[]string{basic("", "opensesame")}, 401},
		{[]string{basic("ali", strings.Repeat("x", 100))}, 401},
		{[]string{basic("anybody", "tok")}, 0},
		{[]string{"Authorization: Bearer tok"}, 0},
		{[]string{"Authorization: Bearer toc"}, 401},
		{[]string{"Authorization: Bearer"}, 401},
		{[]string{"Authorization: Bearer tok", "Authorization: Bearer tok"}, 401},
	} {
		w, r := ask(g, "GET", "/in/x", "192.0.2.1", c.fields...)
		if w.Code != c.status {
			t.Errorf("%q: %d, want %d", c.fields, w.Code, c.status)
		}
		if c.status == 0 && r.Header.Get("Authorization") != "" {
			t.Error("what a client logged in with goes on")
		}
		if c.status == 401 && len(w.Header()["Www-Authenticate"]) != 2 {
			t.Errorf("%v", w.Header())
		}
	}
	// Outside of it, Authorization is the origin's.
	if _, r := ask(g, "GET", "/out", "192.0.2.1", "Authorization: Bearer x"); r.Header.Get("Authorization") == "" {
		t.Error("Authorization is gone where no login is asked for")
	}
	if g.Open(Request{Path: "/in/x"}) {
		t.Error("the fast way lets in who did not log in")
	}
	if err := os.WriteFile(file, []byte("ali:plain\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Passwords: file}, Around{}); err == nil || !strings.Contains(err.Error(), "htpasswd:1") {
		t.Errorf("a password that is no hash: %v", err)
	}
}

func TestBuiltIns(t *testing.T) {
	g := newGate(t, Config{Robots: "disallow", Health: "/-/health"})
	w, _ := ask(g, "GET", "/robots.txt", "")
	if w.Code != 200 || w.Body.String() != "User-agent: *\nDisallow: /\n" {
		t.Errorf("robots.txt: %d %q", w.Code, w.Body)
	}
	if w, _ = ask(g, "GET", "/-/health", ""); w.Code != 200 || w.Body.String() != "{\"status\":\"ok\"}\n" {
		t.Errorf("health: %d %q", w.Code, w.Body)
	}
	if w, _ = ask(g, "GET", "/-/health", "", "Accept: text/html,*/*"); !strings.Contains(w.Body.String(), "This server is well") {
		t.Errorf("health page: %q", w.Body)
	}
	if w, _ = ask(g, "HEAD", "/-/health", ""); w.Body.Len() > 0 || w.Header().Get("Content-Length") == "" {
		t.Errorf("HEAD: %q %v", w.Body, w.Header())
	}
	g.around.Serving = func() bool { return false }
	if w, _ = ask(g, "GET", "/-/health", ""); w.Code != 200 || !strings.Contains(w.Body.String(), "degraded") {
		t.Errorf("degraded: %d %q", w.Code, w.Body)
	}
	for _, path := range []string{"/", "/robots.txt.sig", "/-/healthy"} {
		if w, _ = ask(g, "GET", path, ""); w.Code != 0 || !g.Open(Request{Path: path}) {
			t.Errorf("%s is hidden", path)
		}
	}
	if w, _ = ask(g, "POST", "/robots.txt", ""); w.Code != 0 {
		t.Error("POST is answered here")
	}
}

func TestToHTTPS(t *testing.T) {
	g := newGate(t, Config{RedirectHTTPS: true, HSTS: 24 * time.Hour})
	for _, c := range []struct {
		method, target, host string
		status               int
		location             string
	}{
		{"GET", "/a%20b?c=d", "dl.example:8080", 301, "https://dl.example/a%20b?c=d"},
		{"GET", "/", "[2001:db8::1]:80", 301, "https://[2001:db8::1]/"},
		{"POST", "/", "dl.example", 308, "https://dl.example/"},
		{"GET", "//evil.example/x", "dl.example", 301, "https://dl.example//evil.example/x"},
		{"GET", "/", "a@b", 400, ""},
	} {
		r := httptest.NewRequest(c.method, "http://x"+c.target, nil)
		r.Host = c.host
		r.RequestURI = c.target
		w := httptest.NewRecorder()
		if !g.Stop(w, r, Request{Path: r.URL.Path, Clear: true}) || w.Code != c.status || w.Header().Get("Location") != c.location {
			t.Errorf("%s %s: %d %q", c.host, c.target, w.Code, w.Header().Get("Location"))
		}
	}
	for _, c := range []struct{ listen, configured, want int }{{8443, 0, 8443}, {443, 0, 443}, {0, 0, 443}, {8443, 443, 443}, {443, 9443, 9443}, {0, 9443, 9443}} {
		g, err := New(Config{RedirectHTTPS: true, RedirectPort: c.configured}, Around{PortTLS: func() int { return c.listen }})
		if err != nil {
			t.Fatal(err)
		}
		for host, want := range map[string]string{"dl.example:8080": "dl.example", "[2001:db8::1]": "[2001:db8::1]"} {
			if c.want != 443 {
				want += fmt.Sprintf(":%d", c.want)
			}
			r := httptest.NewRequest("GET", "http://x/a", nil)
			r.Host, r.RequestURI = host, "/a"
			w := httptest.NewRecorder()
			g.Stop(w, r, Request{Path: "/a", Clear: true})
			if got := w.Header().Get("Location"); got != "https://"+want+"/a" {
				t.Errorf("%+v: %q", c, got)
			}
		}
	}
	if g.Open(Request{Path: "/", Clear: true}) || !g.Open(Request{Path: "/"}) || g.HSTS() != "max-age=86400" {
		t.Error("the fast way redirects otherwise")
	}
	var none *Gate
	if !none.Open(Request{Clear: true}) || none.HSTS() != "" {
		t.Error("no gate is not open")
	}
}

// Whatever the pattern, comparing ends soon.
func FuzzGlob(f *testing.F) {
	f.Add("/a/**/b*c", "/a/x/y/bzc")
	f.Add("/", "/x")
	f.Add("***", "")
	f.Add("*a*a*a*a*a*b", strings.Repeat("a", 100))
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if len(pattern)+len(path) > 1000 {
			return
		}
		got := glob(pattern, path)
		if !strings.Contains(pattern, "*") && got != (pattern == path) {
			t.Errorf("glob(%q, %q) = %v", pattern, path, got)
		}
		if got && !glob(pattern+"**", path+"/more") {
			t.Errorf("%q fits %q, and with more on both it does not", pattern, path)
		}
	})
}

func TestValidate(t *testing.T) {
	bad := Config{
		HSTS: -1, RedirectPort: 70000, Robots: "nothing", Health: "health", Tokens: []string{"abc"},
		Rules: []Rule{{Action: "forbid"}, {Action: "deny", From: []string{"10.0.0.0/99"}, Methods: []string{"get"}, Paths: []string{"x"}}, {Action: "login"}},
	}
	if problems := bad.Validate(); len(problems) != 9 {
		t.Errorf("%d problems: %v", len(problems), problems)
	}
}
