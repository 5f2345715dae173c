package auth_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"freshet/api/hubapi"
	"freshet/internal/auth"
)

var now = time.Unix(1_800_000_000, 0)

func authority() *auth.Authority {
	return &auth.Authority{Secret: auth.Secret("0123456789abcdef"), Now: func() time.Time { return now }}
}

func full() auth.Claims {
	return auth.Claims{
		Sub: "build", Expires: now.Unix() + 60, ID: "id", Name: "ci",
		Scope: []auth.Scope{auth.ScopeBuild, auth.ScopeUpload, "future"}, Prefixes: []string{"org.a"}, Apps: []string{"org.b"},
		Repos: []string{"stable"}, Branches: []string{"stable"}, TokenType: "app",
	}
}

func issue(tb testing.TB, a *auth.Authority, claims auth.Claims) string {
	tb.Helper()
	token, err := a.Issue(claims)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// wantTokenError checks the kind and the words of an error.
func wantTokenError(tb testing.TB, err error, insufficient bool, message string) {
	tb.Helper()
	e, ok := errors.AsType[*auth.TokenError](err)
	if !ok || e.Insufficient != insufficient || e.Message != message {
		tb.Errorf("got %v, want %q", err, message)
	}
}

func TestIssueAndParse(t *testing.T) {
	a := authority()
	want := full()
	got, err := a.Parse(issue(t, a, want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
	// Lists are written as lists.
	bare, err := a.Parse(issue(t, a, auth.Claims{Expires: now.Unix()}))
	if err != nil {
		t.Fatal(err)
	}
	if bare.Scope == nil || bare.Prefixes == nil || bare.Repos == nil {
		t.Errorf("%+v", bare)
	}
	for name, fail := range map[string]func() (string, error){
		"no secret": func() (string, error) { return (&auth.Authority{}).Issue(full()) },
		"no end":    func() (string, error) { return a.Issue(auth.Claims{Sub: "build"}) },
		"too long":  func() (string, error) { c := full(); c.Name = strings.Repeat("x", 20_000); return a.Issue(c) },
	} {
		if token, err := fail(); err == nil {
			t.Errorf("%s: issued %s", name, token)
		}
	}
}

// A token made with the secret of a flat-manager, by other software, in the
// form that its gentoken writes.
func TestForeignToken(t *testing.T) {
	// HMAC-SHA256 with the key "secret-secret-secret" over this header and
	// these claims, computed by openssl.
	const token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9." +
		"eyJuYW1lIjoidGVzdCIsInN1YiI6ImJ1aWxkIiwiZXhwIjoyMDAwMDAwMDAwLCJqdGkiOm51bGwsInNjb3BlIjpbImJ1aWxkIiwidXBsb2FkIl0sInByZWZpeGVzIjpbIiJdLCJyZXBvcyI6WyIiXSwiYnJhbmNoZXMiOlsic3RhYmxlIl0sInRva2VuX3R5cGUiOiJhcHAifQ." +
		"io-s3-_9Ta8sNmN3aKkTup4VMap_TC-sSCz7rQRP-zQ"
	a := &auth.Authority{Secret: auth.Secret("secret-secret-secret"), Now: func() time.Time { return now }}
	got, err := a.Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	want := &auth.Claims{
		Name: "test", Sub: "build", Expires: 2_000_000_000, Scope: []auth.Scope{"build", "upload"},
		Prefixes: []string{""}, Repos: []string{""}, Branches: []string{"stable"}, TokenType: "app",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseRefuses(t *testing.T) {
	a := authority()
	good := issue(t, a, full())
	parts := strings.Split(good, ".")
	sign := func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
		token, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	claims := func(more ...any) jwt.MapClaims {
		c := jwt.MapClaims{"sub": "build", "exp": now.Unix() + 60}
		for i := 0; i < len(more); i += 2 {
			c[more[i].(string)] = more[i+1]
		}
		return c
	}
	hs256 := func(c jwt.MapClaims) string { return sign(jwt.SigningMethodHS256, []byte(a.Secret), c) }
	flipped := "A"
	if parts[2][0] == 'A' {
		flipped = "B"
	}
	const bad, expired = "Invalid token claims", "Token is expired"
	for name, test := range map[string]struct{ token, message string }{
		"empty":             {"", bad},
		"words":             {"not a token", bad},
		"no signature":      {parts[0] + "." + parts[1] + ".", bad},
		"two parts":         {parts[0] + "." + parts[1], bad},
		"four parts":        {good + ".x", bad},
		"changed signature": {parts[0] + "." + parts[1] + "." + flipped + parts[2][1:], bad},
		"other claims":      {parts[0] + "." + strings.Split(hs256(claims("name", "x")), ".")[1] + "." + parts[2], bad},
		"other secret":      {sign(jwt.SigningMethodHS256, []byte("0123456789abcdeX"), claims()), bad},
		"no algorithm":      {sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims()), bad},
		"HS512":             {sign(jwt.SigningMethodHS512, []byte(a.Secret), claims()), bad},
		"expired":           {hs256(claims("exp", now.Unix()-1)), expired},
		"no end":            {hs256(jwt.MapClaims{"sub": "build"}), expired},
		"negative end":      {hs256(claims("exp", -1)), expired},
		"end is a fraction": {hs256(claims("exp", float64(now.Unix())+60.5)), bad},
		"end is text":       {hs256(claims("exp", "tomorrow")), bad},
		"scope is text":     {hs256(claims("scope", "build")), bad},
		"too long":          {hs256(claims("name", strings.Repeat("x", 20_000))), "Token is too long"},
		"prefix alone":      {"fm_", bad},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Parse(test.token)
			wantTokenError(t, err, false, test.message)
		})
	}
	for name, token := range map[string]string{
		"in its last second": hs256(claims("exp", now.Unix())),
		"unknown scope":      hs256(claims("scope", []string{"future"})),
		"unknown claim":      hs256(claims("future", map[string]any{"x": 1})),
		"nulls":              hs256(claims("jti", nil, "name", nil, "scope", nil, "apps", nil)),
	} {
		if _, err := a.Parse(token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Without a secret nothing is good, not even what is signed with it.
	empty := sign(jwt.SigningMethodHS256, []byte{}, claims())
	_, err := (&auth.Authority{Now: a.Now}).Parse(empty)
	wantTokenError(t, err, false, bad)
}

// list is a list of revoked tokens that also notes what it was asked.
type list struct {
	revoked string
	err     error
	asked   []string
}

func (l *list) UseToken(_ context.Context, jti, _ string, expires time.Time) (bool, error) {
	l.asked = append(l.asked, fmt.Sprint(jti, " ", expires.Unix()))
	return jti == l.revoked, l.err
}

func TestAuthenticate(t *testing.T) {
	a := authority()
	a.Prefix = "fm_"
	token := issue(t, a, full())
	if !strings.HasPrefix(token, "fm_ey") {
		t.Fatalf("token is %s", token)
	}
	for _, header := range []string{"Bearer " + token, "bearer  " + token, "Bearer " + strings.TrimPrefix(token, "fm_")} {
		claims, err := a.Authenticate(t.Context(), header)
		if err != nil || claims.Name != "ci" {
			t.Errorf("%s: %v", header, err)
		}
	}
	for header, message := range map[string]string{
		"":                      "No Authorization header",
		"Bearer":                "No token value in header",
		"Bearer ":               "No token value in header",
		"Basic dXNlcjpwYXNz":    "Token scheme is not Bearer",
		token:                   "Token scheme is not Bearer",
		"Bearer x":              "Invalid token claims",
		"Bearer fm_" + token:    "Invalid token claims",
		"Bearer " + token + "=": "Invalid token claims",
	} {
		_, err := a.Authenticate(t.Context(), header)
		wantTokenError(t, err, false, message)
	}

	revoked := &list{}
	a.Revoked = revoked
	if _, err := a.Authenticate(t.Context(), "Bearer "+token); err != nil {
		t.Error(err)
	}
	nameless := full()
	nameless.ID = ""
	if _, err := a.Authenticate(t.Context(), "Bearer "+issue(t, a, nameless)); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"id 1800000060"}, revoked.asked); diff != "" {
		t.Errorf("asked for %s", diff)
	}
	revoked.revoked = "id"
	_, err := a.Authenticate(t.Context(), "Bearer "+token)
	wantTokenError(t, err, false, "Token has been revoked")
	revoked.err = errors.New("database is away")
	_, err = a.Authenticate(t.Context(), "Bearer "+token)
	if _, is := errors.AsType[*auth.TokenError](err); is || !errors.Is(err, revoked.err) {
		t.Errorf("with the database away: %v", err)
	}
}

func TestAllow(t *testing.T) {
	for _, test := range []struct {
		claimed, sub string
		want         bool
	}{
		{"build", "build", true},
		{"build", "build/7", true},
		{"build/7", "build/7", true},
		{"build/7", "build/7/x", true},
		{"build/7", "build", false},
		{"build/7", "build/70", false},
		{"build/7", "build/8", false},
		{"build", "builder", false},
		{"build", "", false},
		{"", "", true},
		{"", "build", false},
		{"", "/build", false},
		{"user", "build", false},
	} {
		claims := auth.Claims{Sub: test.claimed, Scope: []auth.Scope{auth.ScopeBuild}}
		err := claims.Allow(test.sub, auth.ScopeBuild)
		if test.want {
			if err != nil {
				t.Errorf("%+v: %v", test, err)
			}
			wantTokenError(t, claims.Allow(test.sub, auth.ScopeUpload), true, "Not enough permissions: Not matching scope 'upload' in token")
		} else {
			wantTokenError(t, err, true, fmt.Sprintf("Not enough permissions: Not matching sub '%s' in token", test.sub))
		}
	}
}

func TestAllowID(t *testing.T) {
	list := func(s ...string) []string { return s }
	for _, test := range []struct {
		prefixes, apps []string
		id             string
		want           bool
	}{
		{list("org.a"), nil, "org.a", true},
		{list("org.a"), nil, "org.a.Locale", true},
		{list("org.a"), nil, "org.ab", false},
		{list("org.a"), nil, "org", false},
		{list("org.b", "org.a"), nil, "org.a.x.y", true},
		{list(""), nil, "anything", true},
		{nil, nil, "anything", true},
		{nil, list("org.a"), "org.a", true},
		{nil, list("org.a"), "org.a.Locale", false},
		{nil, list("org.a"), "org.b", false}, // flat-manager lets this one through
		{list("org.b"), list("org.a"), "org.a", true},
		{list("org.b"), list("org.a"), "org.b.x", true},
		{list("org.b"), list("org.a"), "org.a.x", false},
		{list(), list(), "anything", true},
		{nil, list(""), "anything", false},
	} {
		claims := auth.Claims{Prefixes: test.prefixes, Apps: test.apps}
		err := claims.AllowID(test.id)
		if test.want {
			if err != nil {
				t.Errorf("%+v: %v", test, err)
			}
		} else {
			wantTokenError(t, err, true, fmt.Sprintf("Not enough permissions: Id %s not matching prefix in token", test.id))
		}
		everything := len(test.prefixes) == 0 && len(test.apps) == 0 || len(test.prefixes) == 1 && test.prefixes[0] == ""
		if err := claims.AllowEveryID(); (err == nil) != everything {
			t.Errorf("%+v: every id: %v", test, err)
		}
	}
}

func TestAllowRepo(t *testing.T) {
	for _, test := range []struct {
		repos []string
		repo  string
		want  bool
	}{
		{nil, "stable", false},
		{[]string{""}, "stable", true},
		{[]string{"beta", "stable"}, "stable", true},
		{[]string{"beta"}, "stable", false},
		{[]string{"stab"}, "stable", false},
	} {
		err := (&auth.Claims{Repos: test.repos}).AllowRepo(test.repo)
		if test.want && err != nil {
			t.Errorf("%+v: %v", test, err)
		}
		if !test.want {
			wantTokenError(t, err, true, "Not enough permissions: Not matching repo in token")
		}
	}
}

func TestSubset(t *testing.T) {
	a := authority()
	caller := full()
	request := func(change func(*hubapi.TokenSubsetRequest)) hubapi.TokenSubsetRequest {
		r := hubapi.TokenSubsetRequest{Name: "upload", Sub: "build/7", Scope: []string{"upload"}, Duration: 30}
		change(&r)
		return r
	}
	list := func(s ...string) *[]string { return &s }

	got, err := a.Subset(&caller, request(func(*hubapi.TokenSubsetRequest) {}))
	if err != nil {
		t.Fatal(err)
	}
	want := auth.Claims{
		Sub: "build/7", Expires: now.Unix() + 30, ID: "id", Name: "ci/upload", Scope: []auth.Scope{"upload"},
		Prefixes: []string{"org.a"}, Apps: []string{"org.b"}, Repos: []string{"stable"}, Branches: []string{"stable"}, TokenType: "app",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	for name, change := range map[string]func(*hubapi.TokenSubsetRequest){
		"the same sub":        func(r *hubapi.TokenSubsetRequest) { r.Sub = "build" },
		"to the last second":  func(r *hubapi.TokenSubsetRequest) { r.Duration = 60 },
		"longer prefix":       func(r *hubapi.TokenSubsetRequest) { r.Prefixes = list("org.a.x") },
		"app below a prefix":  func(r *hubapi.TokenSubsetRequest) { r.Prefixes, r.Apps = list(), list("org.a.x") },
		"the same app":        func(r *hubapi.TokenSubsetRequest) { r.Prefixes, r.Apps = list(), list("org.b") },
		"no repository":       func(r *hubapi.TokenSubsetRequest) { r.Repos = list() },
		"no scope":            func(r *hubapi.TokenSubsetRequest) { r.Scope = nil },
		"a scope yet unknown": func(r *hubapi.TokenSubsetRequest) { r.Scope = []string{"future"} },
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := a.Subset(&caller, request(change)); err != nil {
				t.Error(err)
			}
		})
	}
	const no = "Not enough permissions: "
	for name, test := range map[string]struct {
		message string
		change  func(*hubapi.TokenSubsetRequest)
	}{
		"other sub":          {no + "Not matching sub 'delta' in token", func(r *hubapi.TokenSubsetRequest) { r.Sub = "delta" }},
		"management":         {no + "Not matching sub '' in token", func(r *hubapi.TokenSubsetRequest) { r.Sub = "" }},
		"longer life":        {no + "Token would outlive the one it is made from", func(r *hubapi.TokenSubsetRequest) { r.Duration = 61 }},
		"more scope":         {no + "Not matching scope 'publish' in token", func(r *hubapi.TokenSubsetRequest) { r.Scope = []string{"upload", "publish"} }},
		"other prefix":       {no + "Prefix 'org.c' not matching prefix in token", func(r *hubapi.TokenSubsetRequest) { r.Prefixes = list("org.a", "org.c") }},
		"shorter prefix":     {no + "Prefix 'org' not matching prefix in token", func(r *hubapi.TokenSubsetRequest) { r.Prefixes = list("org") }},
		"every prefix":       {no + "Prefix '' not matching prefix in token", func(r *hubapi.TokenSubsetRequest) { r.Prefixes = list("") }},
		"no limits at all":   {no + "Prefix '' not matching prefix in token", func(r *hubapi.TokenSubsetRequest) { r.Prefixes, r.Apps = list(), list() }},
		"an app as a prefix": {no + "Prefix 'org.b' not matching prefix in token", func(r *hubapi.TokenSubsetRequest) { r.Prefixes = list("org.b") }},
		"other app":          {no + "Id org.c not matching prefix in token", func(r *hubapi.TokenSubsetRequest) { r.Apps = list("org.c") }},
		"other repository":   {no + "Not matching repo in token", func(r *hubapi.TokenSubsetRequest) { r.Repos = list("beta") }},
		"every repository":   {no + "Not matching repo in token", func(r *hubapi.TokenSubsetRequest) { r.Repos = list("") }},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Subset(&caller, request(test.change))
			wantTokenError(t, err, true, test.message)
		})
	}
	for name, change := range map[string]func(*hubapi.TokenSubsetRequest){
		"no time":       func(r *hubapi.TokenSubsetRequest) { r.Duration = 0 },
		"negative time": func(r *hubapi.TokenSubsetRequest) { r.Duration = -1 },
		"overflow":      func(r *hubapi.TokenSubsetRequest) { r.Duration = 1<<63 - 1 },
		"no name":       func(r *hubapi.TokenSubsetRequest) { r.Name = " " },
	} {
		_, err := a.Subset(&caller, request(change))
		if _, is := errors.AsType[*auth.TokenError](err); err == nil || is {
			t.Errorf("%s: %v", name, err)
		}
	}

	// What is in a subset of a token that limits nothing limits.
	caller.Prefixes, caller.Apps, caller.Name = nil, nil, ""
	got, err = a.Subset(&caller, request(func(r *hubapi.TokenSubsetRequest) { r.Apps = list("org.z") }))
	if err != nil || got.AllowID("org.y") == nil || got.AllowID("org.z") != nil || got.Name != "upload" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	var mu sync.Mutex
	seen := map[string]bool{}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			secret, err := auth.LoadSecret(path)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			seen[string(secret)] = true
			mu.Unlock()
		})
	}
	group.Wait()
	if len(seen) != 1 {
		t.Errorf("%d different secrets", len(seen))
	}
	for secret := range seen {
		if len(secret) != 32 {
			t.Errorf("%d bytes", len(secret))
		}
		text := fmt.Sprintf("%v %s %+v %#v", auth.Secret(secret), auth.Secret(secret), auth.Authority{Secret: auth.Secret(secret)}, &auth.Authority{Secret: auth.Secret(secret)})
		encoded, err := json.Marshal(auth.Secret(secret))
		if err != nil || strings.Contains(text, secret) || strings.Count(text, "[secret]") != 4 || string(encoded) != `"[secret]"` {
			t.Errorf("%s %s %v", text, encoded, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left over: %v, %v", left, err)
	}

	for name, content := range map[string]string{
		"empty":     "",
		"no base64": "hunter2!hunter2!hunter2!",
		"too short": base64.StdEncoding.EncodeToString([]byte("short")),
		"truncated": base64.StdEncoding.EncodeToString([]byte("0123456789abcdef"))[:21],
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := auth.LoadSecret(path)
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := auth.LoadSecret(filepath.Join(t.TempDir(), "no", "secret")); err == nil {
		t.Error("made a secret in a folder that does not exist")
	}
}

// ReadSecret returns what LoadSecret has made, and makes nothing itself.
func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	if _, err := auth.ReadSecret(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
	made, err := auth.LoadSecret(path)
	if err != nil {
		t.Fatal(err)
	}
	if read, err := auth.ReadSecret(path); err != nil || !bytes.Equal(read, made) {
		t.Errorf("%v", err)
	}
}

func FuzzParse(f *testing.F) {
	a := authority()
	good := issue(f, a, full())
	f.Add(good)
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("eyJhbGciOiJIUzI1NiIsImNyaXQiOlsieCJdfQ.eyJleHAiOjE4MDAwMDAwNjB9.AAAA")
	f.Add("..")
	f.Add(strings.Repeat(".", 1000))
	parts := strings.Split(good, ".")
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := a.Parse(token)
		if err != nil {
			if _, ok := errors.AsType[*auth.TokenError](err); !ok {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		// Nobody forges a token: what is accepted has the content that was
		// signed. (Base64 lets the last character of a signature vary.)
		got := strings.Split(token, ".")
		if len(got) != 3 || got[0] != parts[0] || got[1] != parts[1] {
			t.Fatalf("accepted %q as %+v", token, claims)
		}
	})
}
