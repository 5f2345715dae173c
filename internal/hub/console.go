package hub

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/console"
	"freshet/internal/hub/quarantine"
	"freshet/internal/oidc"
	"freshet/internal/role"
)

// openConsole puts the console on the admin listener, or returns a function that
// serves it on its own; nil when there is nothing to serve.
func (s *server) openConsole(ctx context.Context, env role.Env) (serve func(stop context.Context) error, err error) {
	cfg := s.cfg.Console
	if cfg.Listen == consoleOff {
		return nil, nil //nolint:nilnil // no console
	}
	key := hmac.New(sha256.New, s.authority.Secret)
	key.Write([]byte("freshet hub console"))
	pages, err := console.New(console.Options{
		Hub: consoleHub{s}, Catalog: s.catalog, Authority: s.authority, Key: key.Sum(nil),
		Secure: strings.HasPrefix(cfg.URL, "https://"), Log: s.log, Providers: cfg.providers(oidc.Options{Transport: env.HTTP.Transport}),
	})
	if err != nil {
		return nil, err
	}
	handler := role.NewAccess("console", s.log, env.Metrics).To(env.Access).Wrap(pages.Handler())
	if cfg.Listen == "" {
		env.Admin(console.Path, handler)
		return nil, nil //nolint:nilnil // somebody else serves it
	}
	listener, err := env.Listen(ctx, cfg.Listen)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle(console.Path, handler)
	mux.Handle("GET /{$}", http.RedirectHandler(console.Path, http.StatusSeeOther))
	s.log.InfoContext(ctx, "console", slog.String("url", consoleURL(cfg, listener.Addr())))
	return func(stop context.Context) error { return role.Serve(stop, listener, mux, s.log) }, nil
}

// providers are those at whom people sign in, by name.
func (c ConsoleConfig) providers(opt oidc.Options) (all []console.Provider) {
	for _, name := range slices.Sorted(maps.Keys(c.OIDC)) {
		p := c.OIDC[name]
		flow := oidc.Flow{
			Issuer: p.Issuer, ClientID: p.ClientID, Scopes: p.Scopes,
			Redirect: strings.TrimRight(c.URL, "/") + console.Base + "/signin/" + name + "/back",
		}
		if p.ClientSecretFile != "" {
			flow.Secret = func() (string, error) {
				text, err := os.ReadFile(p.ClientSecretFile)
				return strings.TrimSpace(string(text)), err
			}
		}
		all = append(all, console.Provider{Name: name, Title: cmp.Or(p.Title, name), Flow: oidc.NewFlow(flow, opt), Claims: p.claims})
	}
	return all
}

// claims are what the first rule that fits gives somebody.
func (p ConsoleProvider) claims(token *oidc.Token) []auth.Claims {
	for _, rule := range p.Allow {
		if rule.fits(token) {
			return rule.grants()
		}
	}
	return nil
}

// fits tells whether the provider says of somebody what the rule wants.
func (r ConsoleRule) fits(token *oidc.Token) bool {
	for claim, wanted := range r.Claims {
		if claim == "email" && !slices.Contains(token.Claim("email_verified"), "true") {
			return false
		}
		if !slices.ContainsFunc(token.Claim(claim), func(v string) bool { return slices.Contains(wanted, v) }) {
			return false
		}
	}
	return len(r.Claims) > 0
}

// grants are the claims of those whom the rule fits.
func (r ConsoleRule) grants() []auth.Claims {
	work := auth.Claims{Sub: "build", Scope: []auth.Scope{auth.ScopeJobs, auth.ScopeBuild, auth.ScopeDownload}, Prefixes: r.Prefixes, Apps: r.Apps, Repos: r.Repos}
	if len(r.Rights) > 0 {
		work.Scope = nil
		for _, right := range r.Rights {
			work.Scope = append(work.Scope, auth.Scope(right))
		}
	}
	if len(work.Repos) == 0 {
		work.Repos = []string{""}
	}
	if !r.Manage {
		return []auth.Claims{work}
	}
	return []auth.Claims{work, {Scope: []auth.Scope{auth.ScopeTokenManagement}}}
}

// consoleURL is where people find the console.
func consoleURL(cfg ConsoleConfig, addr net.Addr) string {
	base := strings.TrimRight(cfg.URL, "/")
	if base == "" {
		base = baseURL(addr)
	}
	return base + console.Path
}

// consoleHub is what the console sees of the hub.
type consoleHub struct{ *server }

// Repos implements [console.Hub].
func (h consoleHub) Repos() []console.Repo {
	var repos []console.Repo
	for _, name := range slices.Sorted(maps.Keys(h.repos)) {
		cfg := h.cfg.Repos[name]
		repos = append(repos, console.Repo{Name: name, Title: cfg.Title, URL: h.repoURL(name), Remote: cmp.Or(cfg.SuggestedName, name)})
	}
	return repos
}

// Refs implements [console.Hub].
func (h consoleHub) Refs(repo string) *flatpak.Snapshot {
	if r, ok := h.repos[repo]; ok {
		return r.Snapshot()
	}
	return nil
}

// Quarantined implements [console.Hub].
func (h consoleHub) Quarantined(repo string) ([]quarantine.Item, error) {
	root, err := os.OpenRoot(h.repoDir(repo))
	if err != nil {
		return nil, err
	}
	items, err := quarantine.List(root)
	return items, errors.Join(err, root.Close())
}

// Waiting implements [console.Hub].
func (h consoleHub) Waiting(repo string) string { return h.waiting(repo) }

// CommitsWait implements [console.Hub].
func (h consoleHub) CommitsWait() string { return h.commits.waiting() }

// AllowBuild implements [console.Hub].
func (h consoleHub) AllowBuild(ctx context.Context, claims *auth.Claims, build hubapi.Build) error {
	return h.allowBuild(ctx, claims, build)
}

// AllowJob implements [console.Hub].
func (h consoleHub) AllowJob(ctx context.Context, claims *auth.Claims, job *catalog.Job) error {
	return h.allowJob(ctx, claims, job)
}

// Job implements [console.Hub].
func (h consoleHub) Job(ctx context.Context, id int64) (hubapi.Job, error) {
	return h.jobFrom(ctx, id, 0)
}

// Bearer implements [console.Hub].
func (h consoleHub) Bearer(claims *auth.Claims) string { return bearer(claims) }

// Fail implements [console.Hub].
func (h consoleHub) Fail(w http.ResponseWriter, r *http.Request, err error) *hubapi.Error {
	e := asProblem(err)
	role.SetReason(w, r, string(e.Kind), err.Error())
	return e
}
