package console_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"freshet/internal/auth"
	"freshet/internal/hub/console"
	"freshet/internal/oidc"
	"freshet/internal/oidc/oidctest"
	"freshet/internal/page/pagetest"
)

// provided is a console with a provider, whose next ID token has the claims.
type provided struct {
	*world
	issuer *oidctest.Issuer
	nonce  string
	claims map[string]any
	form   url.Values // of the last exchange
	user   string     // of the last exchange
}

func newProvided(t *testing.T) *provided {
	t.Helper()
	p := &provided{issuer: oidctest.New(t)}
	p.issuer.Exchange = func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		p.form = r.PostForm
		p.user, _, _ = r.BasicAuth()
		claims := map[string]any{"nonce": p.nonce, "sub": "u-17", "preferred_username": "robin"}
		maps.Copy(claims, p.claims)
		_ = json.NewEncoder(w).Encode(map[string]any{"id_token": p.issuer.Token("ec", p.issuer.Claims("hub-console", claims))})
	}
	flow := oidc.NewFlow(oidc.Flow{
		Issuer: p.issuer.URL, ClientID: "hub-console", Redirect: "https://console.example/console/signin/example/back", Scopes: []string{"groups"},
		Secret: func() (string, error) { return "s3cret", nil },
	}, oidc.Options{})
	p.world = newWorldWith(t, "", console.Provider{Name: "example", Title: "Example", Flow: flow, Claims: func(token *oidc.Token) []auth.Claims {
		if token.Subject != "u-17" {
			return nil
		}
		return []auth.Claims{{Sub: "build", Scope: auth.Scopes(), Repos: []string{""}}, {Scope: []auth.Scope{auth.ScopeTokenManagement}}}
	}})
	return p
}

// begin goes to the provider, and returns what the console asks of it.
func (p *provided) begin(v *visitor, next string) url.Values {
	p.t.Helper()
	a := v.get("/signin/example?next=" + url.QueryEscape(next))
	where := mustURL(p.t, a.Header.Get("Location"))
	if a.Status != http.StatusSeeOther || !strings.HasPrefix(a.Header.Get("Location"), p.issuer.URL+"/authorize?") {
		p.t.Fatalf("%d %s", a.Status, a.Header.Get("Location"))
	}
	p.nonce = where.Query().Get("nonce")
	return where.Query()
}

// Who signs in at a provider gets what the rules say, by the flow as the standards
// have it, and is led to where they wanted to go.
func TestProvider(t *testing.T) {
	p := newProvided(t)
	v := p.browser()
	if !strings.Contains(v.get("/signin?next=%2Fconsole%2Fqueue").Body, `href="/console/signin/example?next=%2Fconsole%2Fqueue">Sign in with Example<`) {
		t.Error("the form has no button")
	}
	asked := p.begin(v, "/console/queue")
	for key, want := range map[string]string{
		"tenant": "1", "response_type": "code", "client_id": "hub-console", "scope": "openid groups", "redirect_uri": "https://console.example/console/signin/example/back", "code_challenge_method": "S256",
	} {
		if asked.Get(key) != want {
			t.Errorf("%s is %q, want %q", key, asked.Get(key), want)
		}
	}
	back := v.get("/signin/example/back?code=c1&state=" + asked.Get("state"))
	if back.Status != http.StatusOK || !strings.Contains(back.Body, `content="0;url=/console/queue"`) || !strings.Contains(strings.Join(back.Header.Values("Set-Cookie"), "\n"), "SameSite=Strict") {
		t.Fatalf("%d %v %s", back.Status, back.Header.Values("Set-Cookie"), back.Body)
	}
	for _, problem := range pagetest.Problems(back.Body) {
		t.Error(problem)
	}
	sum := sha256.Sum256([]byte(p.form.Get("code_verifier")))
	if base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") || p.form.Get("code") != "c1" || p.user != "hub-console" || p.form.Get("redirect_uri") != asked.Get("redirect_uri") {
		t.Errorf("the code was exchanged with %v by %q", p.form, p.user)
	}
	for _, path := range []string{"/queue", "/builds", "/tokens", "/audit"} {
		if a := v.get(path); a.Status != http.StatusOK || !strings.Contains(a.Body, ">robin</a>") {
			t.Errorf("%s: %d", path, a.Status)
		}
	}
	if a := v.get("/signin/example/back?code=c1&state=" + asked.Get("state")); a.Status != http.StatusUnauthorized {
		t.Errorf("the same answer again: %d", a.Status)
	}
	// The person can be shut out as a token is revoked.
	must(t, p.catalog.RevokeTokens(t.Context(), []string{"oidc:example:u-17"}))
	if a := v.get("/queue"); a.Status != http.StatusSeeOther {
		t.Errorf("a session of somebody shut out: %d", a.Status)
	}
	asked = p.begin(v, "")
	if a := v.get("/signin/example/back?code=c1&state=" + asked.Get("state")); a.Status != http.StatusForbidden {
		t.Errorf("somebody shut out signs in: %d", a.Status)
	}
}

func TestProviderRefuses(t *testing.T) {
	p := newProvided(t)
	for name, test := range map[string]struct {
		claims map[string]any
		query  string // instead of the good one
		lose   bool   // the cookie
		late   time.Duration
		status int
		says   string
	}{
		"state":       {query: "code=c&state=x", status: 401, says: "no answer to a sign-in"},
		"no state":    {query: "code=c", status: 401, says: "no answer to a sign-in"},
		"no cookie":   {lose: true, status: 401, says: "no answer to a sign-in"},
		"too late":    {late: 11 * time.Minute, status: 401, says: "no answer to a sign-in"},
		"no code":     {query: "state=STATE", status: 401, says: "no code"},
		"denied":      {query: "error=access_denied&state=STATE", status: 401, says: "access_denied"},
		"mixed up":    {query: "code=c&state=STATE&iss=https%3A%2F%2Fother.example", status: 401, says: "another issuer"},
		"nonce":       {claims: map[string]any{"nonce": "other"}, status: 401, says: "another sign-in"},
		"audience":    {claims: map[string]any{"aud": "other"}, status: 401, says: "not for one of"},
		"other party": {claims: map[string]any{"aud": []string{"hub-console", "other"}, "azp": "other"}, status: 401, says: "another program"},
		"expired":     {claims: map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}, status: 401, says: "good until"},
		"stranger":    {claims: map[string]any{"sub": "u-18"}, status: 403, says: "nobody has given you rights"},
		"hostile":     {query: "error=" + url.QueryEscape(evil) + "&state=STATE", status: 401, says: "did not work"},
	} {
		t.Run(name, func(t *testing.T) {
			v := p.browser()
			asked := p.begin(v, "/console/queue")
			p.claims = test.claims
			query := "code=c&state=" + asked.Get("state")
			if test.query != "" {
				query = strings.ReplaceAll(test.query, "STATE", asked.Get("state"))
			}
			if test.lose {
				v = p.browser()
			}
			p.clock.advance(test.late)
			a := v.get("/signin/example/back?" + query)
			p.clock.advance(-test.late)
			if a.Status != test.status || !strings.Contains(a.Body, test.says) {
				t.Errorf("%d %s, want %d and %q", a.Status, a.Body, test.status, test.says)
			}
			for _, problem := range pagetest.Problems(a.Body) {
				t.Error(problem)
			}
			if a := v.get("/queue"); a.Status != http.StatusSeeOther {
				t.Errorf("signed in all the same: %d", a.Status)
			}
		})
	}
	if a := p.browser().get("/signin/nobody"); a.Status != http.StatusNotFound {
		t.Errorf("a provider that is none: %d", a.Status)
	}
	p.issuer.Instead(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "away", http.StatusBadGateway) })
	if a := p.browser().get("/signin/example"); a.Status != http.StatusServiceUnavailable || !strings.Contains(a.Body, "Example cannot be asked") {
		t.Errorf("a provider that is away: %d %s", a.Status, a.Body)
	}
}
