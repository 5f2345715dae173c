package hub_test

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/config"
	"freshet/internal/hub"
	"freshet/internal/oidc/oidctest"
	"freshet/internal/role"
)

const hubAudience = "https://hub.example.org"

// startTrusting runs a hub that trusts an issuer of the test.
func startTrusting(t *testing.T, change func(*hub.Config, *oidctest.Issuer)) (*runningHub, *oidctest.Issuer) {
	t.Helper()
	issuer := oidctest.New(t)
	cfg := hub.Config{
		BaseURL: hubAudience, Repos: map[string]hub.RepoConfig{"stable": {}, "beta": {}},
		TrustedPublishers: map[string]hub.TrustedPublisher{"app": {
			Issuer: issuer.URL, Claims: map[string][]string{"repository": {"example/app"}, "ref": {"refs/heads/main", "refs/tags/v*"}},
			Repos: []string{"stable", "beta"}, Prefixes: []string{"org.example.App"}, Branches: []string{"stable", "beta*"},
		}},
	}
	if change != nil {
		change(&cfg, issuer)
	}
	return startHub(t, cfg), issuer
}

// appClaims are those of a run that the publisher "app" is about.
func appClaims(issuer *oidctest.Issuer, others map[string]any) map[string]any {
	claims := issuer.Claims(hubAudience, map[string]any{"repository": "example/app", "ref": "refs/heads/main", "run_id": "4711"})
	maps.Copy(claims, others)
	return claims
}

func (h *runningHub) exchange(token, repo string) answer {
	h.t.Helper()
	return h.json(http.MethodPost, "/api/v1/token/oidc", "", hubapi.ExchangeRequest{Token: token, Repo: repo})
}

// An ID token is exchanged for one that does what the publisher is trusted with,
// and nothing else.
func TestTrustedPublisher(t *testing.T) {
	h, issuer := startTrusting(t, nil)
	a := h.exchange(issuer.Token("rsa", appClaims(issuer, nil)), "stable")
	if a.status != 200 || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	got := decode[hubapi.ExchangedToken](t, a)
	if life := time.Until(got.Expires); life < 28*time.Minute || life > 31*time.Minute {
		t.Errorf("it is good for %v", life)
	}
	if got.Publisher != "app" || !slices.Equal(got.Repos, []string{"stable"}) || !slices.Equal(got.PushBranches, []string{"stable", "beta*"}) {
		t.Errorf("%+v", got)
	}
	create := func(repo, app string) answer {
		return h.json(http.MethodPost, "/api/v1/build", got.Token, map[string]any{"repo": repo, "app-id": app})
	}
	build := create("stable", "org.example.App")
	if build.status != 200 {
		t.Fatalf("%d %s", build.status, build.body)
	}
	create("beta", "org.example.App").problem(t, 403, hubapi.ErrInsufficient) // asked for stable alone
	create("stable", "org.example.Apple").problem(t, 403, hubapi.ErrInsufficient)
	path := hubapi.BuildPath(decode[hubapi.Build](t, build).ID)
	for ref, want := range map[string]int{
		"app/org.example.App/x86_64/stable": 200, "runtime/org.example.App.Locale/x86_64/beta-1": 200,
		"app/org.example.App/x86_64/edge": 403, "app/org.example.Other/x86_64/stable": 403,
	} {
		if a := h.json(http.MethodPost, path+"/build_ref", got.Token, map[string]any{"ref": ref, "commit": strings.Repeat("a", 64)}); a.status != want {
			t.Errorf("%s: %d %s", ref, a.status, a.body)
		}
	}
	admin := everything()
	admin.Sub = ""
	entries := decode[hubapi.AuditList](t, h.do(http.MethodGet, "/api/v1/audit", h.token(admin), nil)).Entries
	i := slices.IndexFunc(entries, func(e hubapi.AuditEntry) bool { return e.Action == "token.exchange" })
	if i < 0 || entries[i].Object != "publisher/app" || !strings.Contains(entries[i].Detail, "token/"+got.TokenID) || !strings.Contains(entries[i].Detail, "run_id 4711") ||
		!strings.HasPrefix(entries[i].Actor, "app: repo:example/app:ref:refs/heads/main (") {
		t.Errorf("audit: %+v", entries)
	}
	// It is revoked as any other.
	if a := h.json(http.MethodPost, "/api/v1/tokens/revoke", h.token(admin), hubapi.TokenIDs{TokenIDs: []string{got.TokenID}}); a.status != 204 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	h.do(http.MethodGet, path, got.Token, nil).problem(t, 401, hubapi.ErrInvalidToken)
}

// exchanges are the counts by publisher and reason.
func (h *runningHub) exchanges() map[string]float64 {
	h.t.Helper()
	families, err := h.metrics.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "freshet_hub_id_tokens_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			counts[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return counts
}

// Each refusal has one word, the same in the header, the body and the metric.
func TestUntrustedTokens(t *testing.T) {
	h, issuer := startTrusting(t, nil)
	good := issuer.Token("ec", appClaims(issuer, nil))
	nameless := appClaims(issuer, nil)
	delete(nameless, "jti")
	unnamed := issuer.Token("ec", nameless)
	if a := h.exchange(unnamed, ""); a.status != 200 {
		t.Fatalf("without an id: %d %s", a.status, a.body)
	}
	nameless["run_id"] = "4712"
	if a := h.exchange(issuer.Token("ec", nameless), ""); a.status != 200 {
		t.Fatalf("another one without an id: %d %s", a.status, a.body)
	}
	if a := h.exchange(good, ""); a.status != 200 || len(decode[hubapi.ExchangedToken](t, a).Repos) != 2 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	with := func(others map[string]any) string { return issuer.Token("ed", appClaims(issuer, others)) }
	for name, test := range map[string]struct {
		token, repo string
		status      int
		reason      string
	}{
		"replayed":           {good, "", 401, "oidc-replayed"},
		"replayed, no id":    {unnamed, "", 401, "oidc-replayed"},
		"folded, no id":      {unnamed[:20] + "\r\n" + unnamed[20:], "", 401, "oidc-replayed"},
		"another repository": {with(map[string]any{"repository": "example/fork"}), "", 403, "oidc-not-trusted"},
		"another branch":     {with(map[string]any{"ref": "refs/heads/x"}), "", 403, "oidc-not-trusted"},
		"deeper tag":         {with(map[string]any{"ref": "refs/tags/v1/x"}), "", 403, "oidc-not-trusted"},
		"claim absent":       {issuer.Token("ec", issuer.Claims(hubAudience, map[string]any{"repository": "example/app"})), "", 403, "oidc-not-trusted"},
		"claim of objects":   {with(map[string]any{"repository": map[string]any{"name": "example/app"}}), "", 403, "oidc-not-trusted"},
		"another target":     {with(nil), "secret", 403, "oidc-not-trusted"},
		"expired":            {with(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), "", 401, "oidc-expired"},
		"another audience":   {with(map[string]any{"aud": "https://pypi.org"}), "", 401, "oidc-audience"},
		"unknown issuer":     {with(map[string]any{"iss": "https://evil.example.org"}), "", 401, "oidc-unknown-issuer"},
		"garbage":            {"garbage", "", 401, "oidc-malformed"},
		"hub's own token":    {h.token(everything()), "", 401, "oidc-algorithm"},
	} {
		t.Run(name, func(t *testing.T) {
			a := h.exchange(test.token, test.repo)
			e := decode[hubapi.Error](t, a)
			if word := a.header.Get(role.ReasonHeader); a.status != test.status || e.Reason != test.reason || word != test.reason {
				t.Errorf("%d %s, header %q", a.status, a.body, word)
			}
		})
	}
	want := map[string]float64{
		" oidc-algorithm": 1, " oidc-audience": 1, " oidc-expired": 1, " oidc-malformed": 1, " oidc-not-trusted": 6, " oidc-unknown-issuer": 1,
		"app ok": 3, "app oidc-replayed": 3,
	}
	if diff := cmp.Diff(want, h.exchanges()); diff != "" {
		t.Error(diff)
	}
	// A token that was used stays so over a restart.
	h.restart()
	for _, used := range []string{good, unnamed} {
		if a := h.exchange(used, ""); a.status != 401 || a.header.Get(role.ReasonHeader) != "oidc-replayed" {
			t.Errorf("after a restart: %d %s", a.status, a.body)
		}
	}
	// Nobody is let in because the issuer is away: its keys are not known now.
	issuer.Instead(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	h.restart()
	if a := h.exchange(with(nil), ""); a.status != 503 || a.header.Get(role.ReasonHeader) != "oidc-issuer-away" || a.header.Get("Retry-After") == "" {
		t.Errorf("issuer away: %d %s", a.status, a.body)
	}
}

// Of several publishers that one counts which may do what is asked for; a tree's
// publisher has no ids.
func TestChoiceOfPublisher(t *testing.T) {
	h, issuer := startTrusting(t, func(cfg *hub.Config, issuer *oidctest.Issuer) {
		claims := map[string][]string{"repository": {"example/app"}}
		cfg.TrustedPublishers["rpms"] = hub.TrustedPublisher{
			Issuer: issuer.URL, Claims: claims, Trees: []string{"rpms"}, Scopes: []string{"upload", "publish"}, Duration: time.Minute, Reuse: true,
		}
		cfg.TrustedPublishers["zeta"] = hub.TrustedPublisher{Issuer: issuer.URL, Audience: "other", Claims: claims, Repos: []string{"beta"}, Apps: []string{"org.example.Z"}}
	})
	token := issuer.Token("ec", appClaims(issuer, nil))
	for range 2 {
		a := h.exchange(token, "rpms")
		got := decode[hubapi.ExchangedToken](t, a)
		if a.status != 200 || got.Publisher != "rpms" || !slices.Equal(got.Repos, []string{"rpms"}) || time.Until(got.Expires) > time.Minute {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if a := h.json(http.MethodPost, "/api/v1/tree/rpms/push", got.Token, hubapi.TreePushRequest{}); a.status == 401 || a.status == 403 {
			t.Errorf("push of the tree: %d %s", a.status, a.body)
		}
		claims, err := (&auth.Authority{Secret: h.secret()}).Parse(got.Token)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"org.example.App", "", "a.b.C"} {
			if claims.AllowID(id) == nil || claims.AllowEveryID() == nil {
				t.Errorf("the token of a tree grants the id %q", id)
			}
		}
	}
	if a := h.exchange(token, ""); decode[hubapi.ExchangedToken](t, a).Publisher != "app" {
		t.Errorf("without a target: %d %s", a.status, a.body)
	}
	other := issuer.Token("ec", appClaims(issuer, map[string]any{"aud": "other"}))
	if a := h.exchange(other, ""); decode[hubapi.ExchangedToken](t, a).Publisher != "zeta" {
		t.Errorf("made for another audience: %d %s", a.status, a.body)
	}
	a := h.json(http.MethodPost, "/api/v1/token/oidc", "", hubapi.ExchangeRequest{Token: token, Publisher: "zeta"})
	if a.status != 403 {
		t.Errorf("as a publisher of another audience: %d %s", a.status, a.body)
	}
}

func TestNoPublishers(t *testing.T) {
	h := startHub(t, hub.Config{})
	h.exchange("x", "").problem(t, 404, hubapi.ErrNotFound)
}

func TestPublisherProblems(t *testing.T) {
	const file = `
dir = "hub"
[repos.stable]
[trusted-publishers.good]
issuer = "https://token.actions.githubusercontent.com"
claims = { repository = ["example/app"] }
repos = ["stable"]
prefixes = ["org.example.App"]
[trusted-publishers.all]
issuer = "https://gitlab.com"
claims = { project_path = ["*/*"] }
repos = ["stable"]
prefixes = [""]
[trusted-publishers.bad]
issuer = "http://issuer.example.org"
keys-url = "ftp://x"
claims = { aud = ["x"], sub = ["["] }
repos = ["other"]
trees = ["Bad"]
apps = ["x"]
prefixes = ["a b"]
branches = [""]
scopes = ["tokenmanagement"]
duration = "13h"
[trusted-publishers.empty]
issuer = "https://gitlab.com"
keys-url = "https://gitlab.com/keys"
[trusted-publishers.ids]
issuer = "https://gitlab.com"
claims = { project_id = ["7"] }
repos = ["stable"]
`
	var cfg hub.Config
	problems, ok := errors.AsType[config.Problems](config.Decode("hub.toml", []byte(file), &cfg))
	if !ok {
		t.Fatal("no problems")
	}
	var keys []string
	for _, p := range problems {
		keys = append(keys, strings.TrimPrefix(p.Key, "trusted-publishers."))
	}
	slices.Sort(keys)
	want := []string{
		"all.claims", "bad.apps[0]", "bad.branches[0]", "bad.claims.aud", "bad.claims.sub", "bad.duration", "bad.issuer", "bad.keys-url", "bad.prefixes[0]",
		"bad.repos[0]", "bad.scopes[0]", "bad.trees[0]", "empty", "empty.claims", "empty.keys-url", "ids", "ids.keys-url",
	}
	if !slices.Equal(keys, want) {
		t.Errorf("problems with\n%q, want\n%q\n%v", keys, want, problems)
	}
}
