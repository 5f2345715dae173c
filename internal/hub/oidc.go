package hub

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
	"freshet/internal/oidc"
	"freshet/internal/role"
)

// Reasons besides those of package oidc why an ID token is not exchanged. All of them
// stand behind "oidc-" where they are told.
const (
	notTrusted = "not-trusted"
	replayed   = "replayed"
)

// noID is an id that no application can have: a token with it alone grants none.
const noID = "-"

// exchange gives tokens of the hub for ID tokens. nil trusts nobody.
type exchange struct {
	publishers map[string]TrustedPublisher
	names      []string // sorted
	verifier   *oidc.Verifier
	audience   string // unless a publisher has another
	count      *prometheus.CounterVec
}

// newExchange prepares the exchange for the configured publishers.
func newExchange(publishers map[string]TrustedPublisher, audience string, reg prometheus.Registerer) *exchange {
	count := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "freshet_hub_id_tokens_total",
		Help: "ID tokens that were to be exchanged, by trusted publisher (empty when none was found) and reason: ok, or why not.",
	}, []string{"publisher", "reason"})
	reg.MustRegister(count)
	if len(publishers) == 0 {
		return nil
	}
	x := &exchange{publishers: map[string]TrustedPublisher{}, names: slices.Sorted(maps.Keys(publishers)), audience: audience, count: count}
	issuers := map[string]*oidc.Issuer{}
	for _, name := range x.names {
		p := publishers[name].WithDefaults()
		x.publishers[name] = p
		if issuers[p.Issuer] == nil {
			issuers[p.Issuer] = &oidc.Issuer{URL: p.Issuer, Keys: p.KeysURL}
		}
		issuers[p.Issuer].Audiences = append(issuers[p.Issuer].Audiences, cmp.Or(p.Audience, audience))
	}
	var list []oidc.Issuer
	for _, url := range slices.Sorted(maps.Keys(issuers)) {
		list = append(list, *issuers[url])
	}
	x.verifier = oidc.New(list, oidc.Options{})
	return x
}

// exchangeToken gives a short token of the hub for an ID token of somebody who is
// trusted.
func (s *server) exchangeToken(w http.ResponseWriter, r *http.Request) error {
	var request hubapi.ExchangeRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return err
	}
	if s.exchange == nil {
		return problem(hubapi.ErrNotFound, "this hub trusts no issuer of ID tokens")
	}
	answer, publisher, err := s.exchangeFor(r, request)
	reason := "ok"
	if e, ok := errors.AsType[*hubapi.Error](err); ok && e.Reason != "" {
		reason = e.Reason
	} else if err != nil {
		reason = string(hubapi.ErrInternal)
	}
	s.exchange.count.WithLabelValues(publisher, reason).Inc()
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// deny makes the answer to an ID token that is not exchanged.
func deny(kind hubapi.ErrorKind, reason, format string, args ...any) error {
	p := problem(kind, format, args...)
	p.Reason = "oidc-" + reason
	return p
}

func (s *server) exchangeFor(r *http.Request, request hubapi.ExchangeRequest) (*hubapi.ExchangedToken, string, error) {
	ctx := r.Context()
	token, err := s.exchange.verifier.Verify(ctx, request.Token)
	if e, ok := errors.AsType[*oidc.Error](err); ok {
		kind := hubapi.ErrInvalidToken
		if e.Reason == oidc.Away {
			kind = hubapi.ErrUnavailable
		}
		return nil, "", deny(kind, string(e.Reason), "%s", e)
	}
	if err != nil {
		return nil, "", err
	}
	name, ok := s.exchange.choose(token, request)
	if !ok {
		return nil, "", deny(hubapi.ErrInsufficient, notTrusted, "no trusted publisher of this hub matches the ID token (issuer %.200q, subject %.200q)%s",
			token.Issuer, token.Subject, wanted(request))
	}
	p := s.exchange.publishers[name]
	claims := p.claims(name, token, request.Repo, time.Now())
	role.Annotate(r, tokenAttr(&claims))
	record := catalog.Exchange{Issuer: token.Issuer, ID: token.ID, Expires: token.Expires.Add(oidc.Leeway), Publisher: name, Detail: detailOf(token, claims.ID)}
	switch {
	case p.Reuse:
		record.ID = ""
	case record.ID == "":
		record.ID = "sha256:" + hex.EncodeToString(token.Digest[:])
	}
	issued, err := s.authority.Issue(claims)
	if err != nil {
		return nil, name, err
	}
	if err := s.by(&claims).ExchangeIDToken(ctx, record); errors.Is(err, catalog.ErrReplayed) {
		return nil, name, deny(hubapi.ErrInvalidToken, replayed, "the ID token was exchanged before; get a new one for each exchange")
	} else if err != nil {
		return nil, name, err
	}
	scopes := make([]string, len(claims.Scope))
	for i, scope := range claims.Scope {
		scopes[i] = string(scope)
	}
	return &hubapi.ExchangedToken{
		Token: issued, TokenID: claims.ID, Expires: claims.ExpiresAt().UTC(), Publisher: name,
		Scope: scopes, Repos: claims.Repos, Prefixes: p.Prefixes, Apps: p.Apps, PushBranches: claims.PushBranches,
	}, name, nil
}

// choose returns the first publisher by name who is trusted by a token and may do
// what is asked for.
func (x *exchange) choose(t *oidc.Token, request hubapi.ExchangeRequest) (string, bool) {
	for _, name := range x.names {
		p := x.publishers[name]
		switch {
		case request.Publisher != "" && request.Publisher != name:
		case request.Repo != "" && !slices.Contains(p.Repos, request.Repo) && !slices.Contains(p.Trees, request.Repo):
		case p.matches(t, x.audience):
			return name, true
		}
	}
	return "", false
}

// wanted says what else had to match.
func wanted(request hubapi.ExchangeRequest) string {
	var text strings.Builder
	if request.Repo != "" {
		_, _ = fmt.Fprintf(&text, " for the repository or tree %.64q", request.Repo)
	}
	if request.Publisher != "" {
		_, _ = fmt.Fprintf(&text, " as %.64q", request.Publisher)
	}
	return text.String()
}

// claims are what a publisher is granted; with a repository, there alone.
func (p *TrustedPublisher) claims(name string, t *oidc.Token, repo string, now time.Time) auth.Claims {
	c := auth.Claims{
		Sub: "build", Expires: now.Add(p.Duration).Unix(), ID: rand.Text(), Name: name + ": " + brief(t.Subject),
		Prefixes: slices.Clone(p.Prefixes), Apps: slices.Clone(p.Apps), Repos: slices.Concat(p.Repos, p.Trees),
	}
	if len(p.Branches) > 0 {
		c.PushBranches = slices.Clone(p.Branches)
	}
	if repo != "" {
		c.Repos = []string{repo}
	}
	if len(c.Prefixes)+len(c.Apps) == 0 {
		c.Apps = []string{noID}
	}
	for _, scope := range p.Scopes {
		c.Scope = append(c.Scope, auth.Scope(scope))
	}
	return c
}

// detailOf is what the audit log says of an exchange: the new token's id and what tells
// one run of a CI from others.
func detailOf(t *oidc.Token, id string) string {
	parts := []string{"token/" + id, "issuer " + t.Issuer}
	for _, claim := range [...]string{"jti", "repository", "project_path", "ref", "environment", "sha", "run_id", "pipeline_id", "job_id", "actor", "user_login"} {
		if values := t.Claim(claim); len(values) == 1 && values[0] != "" {
			parts = append(parts, claim+" "+brief(values[0]))
		}
	}
	return strings.Join(parts, ", ")
}

// brief bounds what an issuer says, and takes out what would disturb a line of a log.
func brief(s string) string {
	const most = 200
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	if len(clean) <= most {
		return clean
	}
	return strings.ToValidUTF8(clean[:most], "") + "…"
}
