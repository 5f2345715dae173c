package hub

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"freshet/internal/auth"
	"freshet/internal/config"
	"freshet/internal/flatpak"
	"freshet/internal/oidc"
)

// TrustedPublisher is a table [hub.trusted-publishers.NAME]: ID tokens of an issuer
// with certain claims are exchanged for a short token of the hub, for certain
// repositories, applications and branches. docs/hub-trusted-publishing.md tells
// more.
type TrustedPublisher struct {
	// Issuer is who signs the ID tokens, exactly as they name him:
	// "https://token.actions.githubusercontent.com" for GitHub Actions,
	// "https://gitlab.com" for GitLab. Required.
	Issuer string `toml:"issuer"`

	// KeysURL is where the issuer's keys are (a JWK set). Default: it is asked
	// (issuer/.well-known/openid-configuration).
	KeysURL string `toml:"keys-url"`

	// Audience is for whom the ID tokens must be made. Default: the hub's base-url.
	Audience string `toml:"audience"`

	// Claims are what the ID tokens must say: the value of each has to match one of the
	// patterns, in which "*" stands for anything but a slash. Name what only the
	// publisher can have: repository_id or repository on GitHub, project_id or
	// project_path on GitLab, and ref or environment with it. Required.
	Claims map[string][]string `toml:"claims"`

	// Repos are the repositories that may be published to.
	Repos []string `toml:"repos"`

	// Trees are the plain trees that may be published. One of repos and trees is
	// required.
	Trees []string `toml:"trees"`

	// Prefixes are the ids that may be published with those below them:
	// "org.example.App" allows org.example.App.Locale, too; "" allows all. One of
	// prefixes and apps is required with repos.
	Prefixes []string `toml:"prefixes"`

	// Apps are exact ids that may be published.
	Apps []string `toml:"apps"`

	// Branches are patterns of the branches that may be published ("stable", "beta-*");
	// "*" stands for any characters.
	// Default: all.
	Branches []string `toml:"branches"`

	// Scopes are what the token allows: build, upload, publish, jobs, download or
	// republish. Default: the first four.
	Scopes []string `toml:"scopes"`

	// Duration is how long the token is good; it has to last for a push. At most "12h".
	// Default "30m".
	Duration time.Duration `toml:"duration"`

	// Reuse lets an ID token be exchanged again while it is good. Those of a job on
	// GitLab are the same in all of its commands. Default: false.
	Reuse bool `toml:"reuse"`
}

const (
	defaultTrustDuration = 30 * time.Minute
	maxTrustDuration     = 12 * time.Hour
)

// grantable are the scopes that a trusted publisher can be given, and those that he
// has unless others are named.
func grantable() (all, usual []string) {
	usual = []string{string(auth.ScopeBuild), string(auth.ScopeUpload), string(auth.ScopePublish), string(auth.ScopeJobs)}
	return append(slices.Clone(usual), string(auth.ScopeDownload), string(auth.ScopeRepublish)), usual
}

// WithDefaults returns p with every setting left zero replaced by its default, except
// Audience, which is known when the hub listens.
func (p TrustedPublisher) WithDefaults() TrustedPublisher {
	if len(p.Scopes) == 0 {
		_, p.Scopes = grantable()
	}
	p.Duration = cmp.Or(p.Duration, defaultTrustDuration)
	return p
}

// matches tells whether an ID token is one that the publisher is trusted by.
func (p *TrustedPublisher) matches(t *oidc.Token, audience string) bool {
	if t.Issuer != p.Issuer || !slices.Contains(t.Audience, cmp.Or(p.Audience, audience)) {
		return false
	}
	for claim, patterns := range p.Claims {
		values := t.Claim(claim)
		if !slices.ContainsFunc(patterns, func(pattern string) bool {
			return slices.ContainsFunc(values, func(value string) bool {
				matched, err := path.Match(pattern, value)
				return matched && err == nil
			})
		}) {
			return false
		}
	}
	return len(p.Claims) > 0
}

// publishers checks the tables of trusted publishers.
func (v *validation) publishers(c Config) {
	keys := map[string]string{} // URLs by issuer
	for _, name := range slices.Sorted(maps.Keys(c.TrustedPublishers)) {
		p := c.TrustedPublishers[name]
		key := "trusted-publishers." + name
		v.name(key, name)
		if p.Issuer == "" {
			v.problems = append(v.problems, config.Missing(key+".issuer", "who signs the ID tokens, as they name him"))
		} else if err := oidc.CheckURL(p.Issuer); err != nil {
			v.problem(key+".issuer", "%v", err)
		}
		if p.KeysURL != "" {
			if err := oidc.CheckURL(p.KeysURL); err != nil {
				v.problem(key+".keys-url", "%v", err)
			}
		}
		if known, again := keys[p.Issuer]; again && known != p.KeysURL {
			v.problem(key+".keys-url", "another publisher of this issuer says %q", known)
		}
		keys[p.Issuer] = p.KeysURL
		v.claims(key+".claims", p.Claims)
		v.granted(key, p, c.WithDefaults().Repos)
		if p.Duration < 0 || p.Duration > maxTrustDuration {
			v.problem(key+".duration", "must be positive and at most 12h")
		}
		for i, scope := range p.Scopes {
			if all, _ := grantable(); !slices.Contains(all, scope) {
				v.problem(fmt.Sprintf("%s.scopes[%d]", key, i), "%q is none of %s", scope, strings.Join(all, ", "))
			}
		}
	}
}

// claims demands that the claims tell somebody from others.
func (v *validation) claims(key string, claims map[string][]string) {
	telling := false
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		if len(claims[name]) == 0 || slices.Contains([]string{"iss", "aud", "exp", "nbf", "iat", "jti"}, name) {
			v.problem(key+"."+name, "want a claim about the publisher, and patterns of its value")
		}
		all := true
		for _, pattern := range claims[name] {
			v.pattern(key+"."+name, pattern)
			all = all && strings.Trim(pattern, "*?/") != ""
		}
		telling = telling || all && len(claims[name]) > 0
	}
	if !telling {
		v.problem(key, `must name the publisher, or everybody at the issuer would be one: {repository = ["example/app"]}`)
	}
}

// granted checks what a publisher may do.
func (v *validation) granted(key string, p TrustedPublisher, repos map[string]RepoConfig) {
	if len(p.Repos)+len(p.Trees) == 0 {
		v.problem(key, "repos or trees is needed: what may be published to")
	}
	for i, repo := range p.Repos {
		if _, known := repos[repo]; !known {
			v.problem(fmt.Sprintf("%s.repos[%d]", key, i), "there is no repository %q", repo)
		}
	}
	for i, tree := range p.Trees {
		v.name(fmt.Sprintf("%s.trees[%d]", key, i), tree)
		if slices.Contains(p.Repos, tree) {
			v.problem(fmt.Sprintf("%s.trees[%d]", key, i), "%q is a repository", tree)
		}
	}
	if len(p.Repos) > 0 && len(p.Prefixes)+len(p.Apps) == 0 {
		v.problem(key, `prefixes or apps is needed: which ids may be published; [""] is all`)
	}
	for i, app := range p.Apps {
		if err := flatpak.CheckID(app); err != nil {
			v.problem(fmt.Sprintf("%s.apps[%d]", key, i), "%v", err)
		}
	}
	for i, prefix := range p.Prefixes {
		if prefix != "" && !collectionPattern.MatchString(prefix) {
			v.problem(fmt.Sprintf("%s.prefixes[%d]", key, i), `%q is no prefix of ids: want "org.example"`, prefix)
		}
	}
	for i, branch := range p.Branches {
		if branch == "" {
			v.problem(fmt.Sprintf("%s.branches[%d]", key, i), `is empty: want a pattern of branches like "beta-*"`)
		}
	}
}

func (v *validation) pattern(key, pattern string) {
	if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
		v.problem(key, "%q is no pattern", pattern)
	}
}
