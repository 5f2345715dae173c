package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
	"freshet/internal/page"
	"freshet/internal/page/session"
)

const (
	// sessionLife bounds how long one is signed in, with however long a token.
	sessionLife = 12 * time.Hour
	// maxForm bounds the body of a form.
	maxForm = 64 << 10
)

// visitor is somebody who is signed in.
type visitor struct {
	session session.Session
	// claims are those of the tokens: at most one for builds and one, with the sub
	// "", for the management of tokens.
	claims  []*auth.Claims
	notices []string
	refresh int
}

// content is what a session keeps.
type content struct {
	Claims []*auth.Claims `json:"claims"`
}

func (v *visitor) content() (string, error) {
	text, err := json.Marshal(content{v.claims})
	return string(text), err
}

// name is how the audit log calls whoever has the token, see catalog.By.
func (v *visitor) name() string {
	for _, claims := range v.claims {
		if claims.Name != "" {
			return claims.Name
		}
	}
	return "unnamed token"
}

// grant returns the claims that grant one of the scopes on the sub.
func (v *visitor) grant(sub string, scopes ...auth.Scope) (*auth.Claims, error) {
	for _, claims := range v.claims {
		for _, scope := range scopes {
			if claims.Allow(sub, scope) == nil {
				return claims, nil
			}
		}
	}
	return nil, &lacksError{sub, scopes}
}

// lacksError says that no token of a session grants what a page needs.
type lacksError struct {
	sub    string
	scopes []auth.Scope
}

func (e *lacksError) Error() string {
	names := make([]string, len(e.scopes))
	for i, scope := range e.scopes {
		names[i] = `"` + string(scope) + `"`
	}
	return fmt.Sprintf(`needs a token with the sub %q and the scope %s`, e.sub, strings.Join(names, " or "))
}

// seesAll tells whether the claims grant every id.
func seesAll(claims *auth.Claims) bool { return claims.AllowEveryID() == nil }

// reposOf are the repositories that the claims grant.
func (c *Console) reposOf(claims *auth.Claims) []Repo {
	return slices.DeleteFunc(slices.Clone(c.Hub.Repos()), func(r Repo) bool { return claims.AllowRepo(r.Name) != nil })
}

// repo returns the repository that the request names, or the first there is.
func (c *Console) repo(r *http.Request, claims *auth.Claims) (Repo, []Repo, error) {
	repos := c.reposOf(claims)
	name := r.URL.Query().Get("repo")
	for _, repo := range repos {
		if name == "" || repo.Name == name {
			return repo, repos, nil
		}
	}
	if name == "" {
		return Repo{}, nil, refuse(hubapi.ErrInsufficient, http.StatusForbidden, "your token is for none of the hub's repositories")
	}
	return Repo{}, nil, refuse(hubapi.ErrNotFound, http.StatusNotFound, "there is no repository %q that you may see", name)
}

// refuse makes an error that is told as it is.
func refuse(kind hubapi.ErrorKind, status int, format string, args ...any) error {
	return &hubapi.Error{Status: status, Kind: kind, Message: fmt.Sprintf(format, args...)}
}

func isNotFound(err error) bool { return errors.Is(err, catalog.ErrNotFound) }

type (
	openHandler func(w http.ResponseWriter, r *http.Request) error
	handler     func(w http.ResponseWriter, r *http.Request, v *visitor) error
)

// open serves what needs no session.
func (c *Console) open(next openHandler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := next(w, r); err != nil {
			c.fail(w, r, nil, err)
		}
	})
}

// signedIn serves what needs a session, and takes forms only from its own pages.
func (c *Console) signedIn(next handler) http.Handler {
	return c.open(func(w http.ResponseWriter, r *http.Request) error {
		v, err := c.visitor(r)
		if errors.Is(err, session.ErrNone) {
			return c.askToSignIn(w, r)
		}
		if err != nil {
			return err
		}
		if r.Method == http.MethodPost {
			if err := v.session.Check(r.PostFormValue("csrf")); err != nil {
				return refuse(hubapi.ErrInsufficient, http.StatusForbidden, "this form is not from your session: go back, load the page anew and try again")
			}
		}
		if err := next(w, r, v); err != nil {
			c.fail(w, r, v, err)
		}
		return nil
	})
}

// visitor returns who makes the request; [session.ErrNone] for nobody.
func (c *Console) visitor(r *http.Request) (*visitor, error) {
	found, err := c.sessions.Find(r)
	if err != nil {
		return nil, err
	}
	var kept content
	if err := json.Unmarshal([]byte(found.Content), &kept); err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	v := &visitor{session: found}
	for _, claims := range kept.Claims {
		good, err := c.good(r.Context(), claims)
		if err != nil {
			return nil, err
		}
		if good {
			v.claims = append(v.claims, claims)
		}
	}
	if len(v.claims) == 0 {
		return nil, session.ErrNone
	}
	return v, nil
}

// good tells whether claims that were good when their bearer signed in still are.
func (c *Console) good(ctx context.Context, claims *auth.Claims) (bool, error) {
	if claims.ExpiresAt().Before(c.Now()) {
		return false, nil
	}
	if claims.ID == "" {
		return true, nil
	}
	revoked, err := c.Catalog.UseToken(ctx, claims.ID, claims.Name, claims.ExpiresAt())
	return !revoked, err
}

// askToSignIn leads to the form, and back afterwards.
func (c *Console) askToSignIn(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return refuse(hubapi.ErrInvalidToken, http.StatusUnauthorized, "your session is over: sign in, and try again")
	}
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		// A browser keeps the cookie back when a link on another site led here. From
		// this page it sends it.
		frame := c.frame(nil, "", "One moment")
		frame.GoTo = r.URL.RequestURI()
		return c.pages.Render(w, http.StatusOK, "bounce", frame, frame.GoTo)
	}
	to := Base + "/signin"
	if r.URL.Path != Path {
		to += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// signInForm is what the form shows.
type signInForm struct {
	Problem, Next string
	Providers     []page.Link
	// Plain warns that others can read along.
	Plain bool
}

func (c *Console) showSignIn(w http.ResponseWriter, r *http.Request) error {
	return c.signInPage(w, r, http.StatusOK, "", nextOf(r.URL.Query().Get("next")))
}

func (c *Console) signInPage(w http.ResponseWriter, r *http.Request, status int, problem, next string) error {
	form := signInForm{Problem: problem, Next: next, Plain: r.TLS == nil && !c.Secure && !local(r.RemoteAddr)}
	for _, p := range c.Providers {
		form.Providers = append(form.Providers, page.Link{Href: listHref("/signin/"+url.PathEscape(p.Name), "next", next), Text: "Sign in with " + p.Title})
	}
	return c.pages.Render(w, status, "signin", c.frame(nil, "", "Sign in"), form)
}

// local tells whether an address is of the same machine.
func local(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && net.ParseIP(host).IsLoopback()
}

// nextOf returns where to go after signing in: a page of the console.
func nextOf(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(next, Path) || strings.Contains(next, "..") || strings.ContainsAny(next, "\\\r\n") {
		return Path
	}
	return next
}

// signIn takes a token.
func (c *Console) signIn(w http.ResponseWriter, r *http.Request) error {
	next := nextOf(r.PostFormValue("next"))
	claims, err := c.authenticate(r)
	if e, wrong := errors.AsType[*auth.TokenError](err); wrong {
		_ = c.Hub.Fail(w, r, refuse(hubapi.ErrInvalidToken, http.StatusUnauthorized, "%s", e.Message))
		return c.signInPage(w, r, http.StatusUnauthorized, tokenWords(e), next)
	}
	if err != nil {
		return err
	}
	if err := c.Begin(w, r, claims); err != nil {
		return err
	}
	http.Redirect(w, r, next, http.StatusSeeOther) //nolint:gosec // nextOf leaves only paths of the console
	return nil
}

// Begin signs somebody in who has shown claims in some way.
func (c *Console) Begin(w http.ResponseWriter, r *http.Request, claims ...*auth.Claims) error {
	v := visitor{claims: claims}
	text, err := v.content()
	if err != nil {
		return err
	}
	expires := c.Now().Add(sessionLife)
	for _, claims := range v.claims {
		if end := claims.ExpiresAt(); len(v.claims) == 1 && end.Before(expires) {
			expires = end
		}
	}
	c.Log.InfoContext(r.Context(), "signed in to the console", slog.String("token", v.name()))
	return c.sessions.Begin(w, r, text, expires)
}

// authenticate returns the claims of the token in a form.
func (c *Console) authenticate(r *http.Request) (*auth.Claims, error) {
	token := strings.TrimSpace(r.PostFormValue("token"))
	if token == "" {
		return nil, &auth.TokenError{Message: "No token"}
	}
	return c.Authority.Authenticate(r.Context(), "Bearer "+token)
}

// tokenWords says to people what is wrong with a token.
func tokenWords(e *auth.TokenError) string {
	switch e.Message {
	case "No token":
		return "Paste a token to sign in."
	case "Token is expired":
		return "This token has expired. Ask for a new one."
	case "Token has been revoked":
		return "This token was revoked."
	}
	return "This is no token of this hub. Was it copied as a whole?"
}

func (c *Console) signOut(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if err := c.sessions.End(w, r, v.session); err != nil {
		return err
	}
	http.Redirect(w, r, Base+"/signin", http.StatusSeeOther)
	return nil
}

// accountData is what the account page shows.
type accountData struct {
	Tokens  []tokenData
	Expires time.Time
	Problem string
	CSRF    string
}

// tokenData is what a token grants.
type tokenData struct {
	Name, ID, Sub, Scopes, IDs, Repos string
	Expires                           time.Time
}

func (c *Console) account(w http.ResponseWriter, _ *http.Request, v *visitor) error {
	return c.showAccount(w, http.StatusOK, v, "")
}

func (c *Console) showAccount(w http.ResponseWriter, status int, v *visitor, problem string) error {
	data := accountData{Expires: v.session.Expires, Problem: problem, CSRF: v.session.CSRF}
	for _, claims := range v.claims {
		data.Tokens = append(data.Tokens, describe(claims))
	}
	return c.pages.Render(w, status, "account", c.frame(v, "", "Your session"), data)
}

func describe(claims *auth.Claims) tokenData {
	d := tokenData{Name: claims.Name, ID: claims.ID, Sub: claims.Sub, Expires: claims.ExpiresAt(), IDs: "all", Repos: "none"}
	for _, scope := range claims.Scope {
		d.Scopes += ", " + string(scope)
	}
	d.Scopes = strings.TrimPrefix(d.Scopes, ", ")
	if !seesAll(claims) {
		var ids []string
		for _, prefix := range claims.Prefixes {
			ids = append(ids, prefix+" and below")
		}
		d.IDs = strings.Join(append(ids, claims.Apps...), ", ")
	}
	switch {
	case slices.Contains(claims.Repos, ""):
		d.Repos = "all"
	case len(claims.Repos) > 0:
		d.Repos = strings.Join(claims.Repos, ", ")
	}
	return d
}

// addToken gives the session a further token, in place of one for the same.
func (c *Console) addToken(w http.ResponseWriter, r *http.Request, v *visitor) error {
	claims, err := c.authenticate(r)
	if e, wrong := errors.AsType[*auth.TokenError](err); wrong {
		return c.showAccount(w, http.StatusUnprocessableEntity, v, tokenWords(e))
	}
	if err != nil {
		return err
	}
	v.claims = append(slices.DeleteFunc(v.claims, func(old *auth.Claims) bool { return (old.Sub == "") == (claims.Sub == "") }), claims)
	text, err := v.content()
	if err != nil {
		return err
	}
	if err := c.sessions.Change(r.Context(), v.session, text); err != nil {
		return err
	}
	http.Redirect(w, r, Base+"/account", http.StatusSeeOther)
	return nil
}

func (c *Console) asset(w http.ResponseWriter, r *http.Request) error {
	if !c.pages.ServeAsset(w, r.PathValue("name")) {
		return c.noPage(w, r)
	}
	return nil
}

// noPage answers where nothing is: to who is signed in with the navigation, as any
// other page.
func (c *Console) noPage(w http.ResponseWriter, r *http.Request) error {
	v, err := c.visitor(r)
	if err != nil && !errors.Is(err, session.ErrNone) {
		return err
	}
	c.fail(w, r, v, refuse(hubapi.ErrNotFound, http.StatusNotFound, "there is no page %s", r.URL.Path))
	return nil
}

// problemData is what the error page shows.
type problemData struct {
	Title, Message, Hint string
	SignedIn             bool
}

// fail answers with an error page.
func (c *Console) fail(w http.ResponseWriter, r *http.Request, v *visitor, err error) {
	told := err
	lacks, isLack := errors.AsType[*lacksError](err)
	if isLack {
		told = refuse(hubapi.ErrInsufficient, http.StatusForbidden, "%s", lacks)
	}
	e := c.Hub.Fail(w, r, told)
	data := problemData{Title: "Something went wrong", Message: sentence(e.Message), SignedIn: v != nil}
	switch e.Status {
	case http.StatusNotFound:
		data.Title = "There is nothing here"
	case http.StatusForbidden:
		data.Title = "Your token does not allow this"
		if isLack {
			data.Message = "This page " + lacks.Error() + "."
			data.Hint = "You can add such a token to your session."
		}
	case http.StatusUnauthorized:
		data.Title = "You are not signed in"
	case http.StatusServiceUnavailable, http.StatusInternalServerError:
		data.Hint = "Loading the page again may help. If it does not, the log of the hub has more."
	}
	if err := c.pages.Render(w, e.Status, "problem", c.frame(v, "", data.Title), data); err != nil {
		c.Log.ErrorContext(r.Context(), "cannot show an error page", slog.Any("error", err))
		http.Error(w, e.Message, e.Status)
	}
}

// sentence makes a sentence of an error's text.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
