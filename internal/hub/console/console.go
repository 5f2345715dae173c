package console

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/quarantine"
	"freshet/internal/page"
	"freshet/internal/page/session"
	"freshet/web"
)

// Base is the path below which the console is, and Path its first page.
const (
	Base = "/console"
	Path = Base + "/"
)

// Hub is what the console shows besides the catalog. Its methods may be called
// concurrently.
type Hub interface {
	// Repos are the repositories, by name.
	Repos() []Repo
	// Refs is what a repository has now; nil when there is no such repository.
	Refs(repo string) *flatpak.Snapshot
	// Quarantined are the damaged objects of a repository that are kept apart.
	Quarantined(repo string) ([]quarantine.Item, error)
	// Waiting says what the publishes of a repository wait for, and CommitsWait
	// what all commits do; "" for nothing.
	Waiting(repo string) string
	CommitsWait() string
	// AllowBuild and AllowJob return an error unless the claims grant all that is in
	// a build, or that a job is about.
	AllowBuild(ctx context.Context, claims *auth.Claims, build hubapi.Build) error
	AllowJob(ctx context.Context, claims *auth.Claims, job *catalog.Job) error
	// Job returns a job with its log and what it waits for.
	Job(ctx context.Context, id int64) (hubapi.Job, error)
	// Bearer is how the audit log calls whoever has the claims.
	Bearer(claims *auth.Claims) string
	// Fail notes why a request was refused, and says what its sender is told.
	Fail(w http.ResponseWriter, r *http.Request, err error) *hubapi.Error
}

// Repo is a repository. Remote is how clients call it that were set up by its
// .flatpakrepo.
type Repo struct{ Name, Title, URL, Remote string }

// Options are what a console is made of. All but Providers, Log, Secure and Now are
// required.
type Options struct {
	Hub       Hub
	Catalog   *catalog.Catalog
	Authority *auth.Authority
	// Key signs cookies: a secret that stays.
	Key []byte
	// Providers are at whom people sign in besides, in this order.
	Providers []Provider
	// Secure says that browsers reach the console by TLS only.
	Secure bool
	Log    *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Console serves the pages.
type Console struct {
	Options
	pages    *page.Set
	sessions *session.Sessions
}

// New prepares a console.
func New(opt Options) (*Console, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	pages, err := page.Open(web.Files(), "hub", Base, opt.Now)
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	return &Console{
		Options: opt, pages: pages,
		sessions: &session.Sessions{Store: store{opt.Catalog}, Key: opt.Key, Name: "freshet-hub", Path: Base, Secure: opt.Secure},
	}, nil
}

// Handler serves everything below [Path], to same-origin requests only as far as
// they change something.
func (c *Console) Handler() http.Handler {
	mux := http.NewServeMux()
	open := func(pattern string, h openHandler) {
		mux.Handle(pattern, c.open(h))
	}
	route := func(method, path string, h handler) { mux.Handle(method+" "+Base+path, c.signedIn(h)) }

	open("GET "+Base+"/assets/{name}", c.asset)
	open("GET "+Base+"/signin", c.showSignIn)
	open("POST "+Base+"/signin", c.signIn)
	open("GET "+Base+"/signin/{provider}", c.beginAt)
	open("GET "+Base+"/signin/{provider}/back", c.backFrom)
	open(Path, c.noPage)

	route("GET", "/{$}", c.overview)
	route("GET", "/builds", c.builds)
	route("GET", "/builds/{id}", c.build)
	route("GET", "/refs", c.refs)
	route("GET", "/refs/{repo}/{ref...}", c.ref)
	route("GET", "/publishes", c.publishes)
	route("GET", "/publishes/{repo}/{number}", c.publish)
	route("GET", "/deltas", c.deltas)
	route("GET", "/queue", c.queue)
	route("GET", "/jobs", c.jobs)
	route("GET", "/jobs/{id}", c.job)
	route("GET", "/jobs/{id}/log", c.jobLog)
	route("GET", "/holds", c.holds)
	route("POST", "/holds", c.placeHold)
	route("POST", "/holds/release", c.releaseHold)
	route("GET", "/tokens", c.tokens)
	route("POST", "/tokens/revoke", c.revokeToken)
	route("GET", "/audit", c.audit)
	route("GET", "/account", c.account)
	route("POST", "/account", c.addToken)
	route("POST", "/signout", c.signOut)
	return sameOrigin(mux)
}

// sameOrigin refuses what other sites make browsers send, as far as it would
// change something.
func sameOrigin(next http.Handler) http.Handler {
	return http.NewCrossOriginProtection().Handler(next)
}

// section is an item of the navigation, for those whose tokens grant one of the
// scopes on the sub; everything says that they have to grant every id too.
type section struct {
	page.Link
	sub        string
	scopes     []auth.Scope
	everything bool
}

// sections are the pages in the navigation.
func sections() []section {
	const jobs, build, download, tokens = auth.ScopeJobs, auth.ScopeBuild, auth.ScopeDownload, auth.ScopeTokenManagement
	item := func(path, text, sub string, scopes ...auth.Scope) section {
		return section{Link: page.Link{Href: Base + path, Text: text}, sub: sub, scopes: scopes}
	}
	publishes := item("/publishes", "Publishes", "build", jobs)
	publishes.everything = true
	return []section{
		item("/", "Overview", ""),
		item("/builds", "Builds", "build", build, download),
		item("/refs", "Refs", "build", jobs, download),
		publishes,
		item("/deltas", "Deltas", "build", jobs),
		item("/queue", "Queue", "build", jobs),
		item("/holds", "Holds", "build", jobs),
		item("/tokens", "Tokens", "", tokens),
		item("/audit", "Audit", "", tokens),
	}
}

// sees tells whether a section is for a visitor.
func (v *visitor) sees(s section) bool {
	if len(s.scopes) == 0 {
		return true
	}
	claims, err := v.grant(s.sub, s.scopes...)
	return err == nil && (!s.everything || seesAll(claims))
}

// show answers with a page for somebody who is signed in, in the section whose
// name is given.
func (c *Console) show(w http.ResponseWriter, v *visitor, name, section, title string, data any) error {
	return c.pages.Render(w, http.StatusOK, name, c.frame(v, section, title), data)
}

func (c *Console) frame(v *visitor, section, title string) page.Frame {
	frame := page.Frame{Title: title}
	if v == nil {
		return frame
	}
	frame.Footer = "Times are UTC."
	frame.Who, frame.CSRF, frame.Notices, frame.Refresh = v.name(), v.session.CSRF, v.notices, v.refresh
	for _, s := range sections() {
		if v.sees(s) {
			frame.Nav = append(frame.Nav, page.NavItem{Link: s.Link, Current: s.Text == section})
		}
	}
	return frame
}

// store keeps sessions in the catalog.
type store struct{ *catalog.Catalog }

// LoadSession implements [session.Store].
func (s store) LoadSession(ctx context.Context, id string) (content string, expires time.Time, found bool, err error) {
	content, expires, err = s.Session(ctx, id)
	if isNotFound(err) {
		return "", time.Time{}, false, nil
	}
	return content, expires, err == nil, err
}
