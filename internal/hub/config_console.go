package hub

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"freshet/internal/auth"
	"freshet/internal/config"
	"freshet/internal/oidc"
)

// consoleOff as an address says that there is no console.
const consoleOff = "off"

// ConsoleConfig is the table [hub.console]: the pages on which people see what the
// hub does. Who signs in with a token sees what the token grants.
type ConsoleConfig struct {
	// Listen is an address for the console alone ("127.0.0.1:9601"), where its first
	// page is /console/. "off": there is no console. Default: it is on the admin
	// listener ([admin] listen), if there is one.
	Listen string `toml:"listen"`

	// URL is under which people reach the console, without a path
	// ("https://console.example.org"), where a proxy before it has the certificate.
	// With "https" the cookie of a session is sent by TLS only. Default: none; a
	// listener with TLS of its own ([admin] cert) needs none.
	URL string `toml:"url"`

	// OIDC are those at whom people sign in instead of with a token, by a name that
	// stands in URLs. Needs url.
	OIDC map[string]ConsoleProvider `toml:"oidc"`
}

// ConsoleProvider is a table [hub.console.oidc.NAME], an OpenID Connect provider.
// Register the hub there with the redirect URL URL/console/signin/NAME/back.
type ConsoleProvider struct {
	// Title is on the button: "Sign in with TITLE". Default: the name.
	Title string `toml:"title"`

	// Issuer is the provider's URL, exactly as its tokens name it. Required.
	Issuer string `toml:"issuer"`

	// ClientID is how the provider knows the hub. Required.
	ClientID string `toml:"client-id"`

	// ClientSecretFile holds the secret that goes with it. Default: none, for a
	// public client, which PKCE protects.
	ClientSecretFile string `toml:"client-secret-file"`

	// Scopes are asked for besides "openid", so that the provider tells the claims
	// of the rules ("profile", "email", "groups"). Default: none.
	Scopes []string `toml:"scopes"`

	// Allow says who may do what. The first rule that fits counts; who fits none
	// does not get in. Required.
	Allow []ConsoleRule `toml:"allow"`
}

// ConsoleRule is a table [[hub.console.oidc.NAME.allow]].
type ConsoleRule struct {
	// Claims are what the provider has to say of somebody: each claim has one of the
	// values, exactly ({ groups = ["release"] }). An e-mail address counts when the
	// provider has verified it. Required.
	Claims map[string][]string `toml:"claims"`

	// Rights are scopes, as tokens have them. Default: "jobs", "build" and
	// "download", to look at everything.
	Rights []string `toml:"rights"`

	// Manage lets them see and revoke tokens, and read the audit log.
	// Default false.
	Manage bool `toml:"manage"`

	// Prefixes and Apps are the ids that they see, as in tokens. Default: all.
	Prefixes []string `toml:"prefixes"`

	// Apps are exact ids.
	Apps []string `toml:"apps"`

	// Repos are the repositories that they see. Default: all.
	Repos []string `toml:"repos"`
}

// Validate reports an address that cannot be listened on, and a URL that is none.
func (c ConsoleConfig) Validate() []config.Problem {
	var v validation
	if c.Listen != "" && c.Listen != consoleOff {
		if err := config.CheckAddress(c.Listen); err != nil {
			v.problem("listen", "%v", err)
		}
	}
	v.url("url", c.URL)
	if len(c.OIDC) > 0 && c.URL == "" {
		v.problem("url", "is required with oidc: providers lead back there")
	}
	for _, name := range slices.Sorted(maps.Keys(c.OIDC)) {
		v.provider("oidc."+name, name, c.OIDC[name])
	}
	return v.problems
}

// CheckFiles reports secrets that are named and cannot be read; see
// [config.FileChecker].
func (c ConsoleConfig) CheckFiles() []config.Problem {
	var v validation
	for _, name := range slices.Sorted(maps.Keys(c.OIDC)) {
		if file := c.OIDC[name].ClientSecretFile; file != "" {
			v.readable("oidc."+name+".client-secret-file", file)
		}
	}
	return v.problems
}

// seen checks that the rules of providers name repositories that there are.
func (v *validation) seen(c Config) {
	repos := c.WithDefaults().Repos
	for _, name := range slices.Sorted(maps.Keys(c.Console.OIDC)) {
		for i, rule := range c.Console.OIDC[name].Allow {
			for j, repo := range rule.Repos {
				if _, known := repos[repo]; !known && repo != "" {
					v.problem(fmt.Sprintf("console.oidc.%s.allow[%d].repos[%d]", name, i, j), "there is no repository %q, but %s", repo,
						strings.Join(slices.Sorted(maps.Keys(repos)), ", "))
				}
			}
		}
	}
}

func (v *validation) provider(key, name string, p ConsoleProvider) {
	v.name(key, name)
	if err := oidc.CheckURL(p.Issuer); err != nil {
		v.problem(key+".issuer", "%v", err)
	}
	if p.ClientID == "" {
		v.problem(key+".client-id", "is required: how the provider knows this hub")
	}
	if len(p.Allow) == 0 {
		v.problem(key+".allow", "is required: who may do what")
	}
	for i, rule := range p.Allow {
		if len(rule.Claims) == 0 {
			v.problem(fmt.Sprintf("%s.allow[%d].claims", key, i), "is required: without it everybody whom the provider knows would get in")
		}
		for _, right := range rule.Rights {
			if !slices.Contains(auth.Scopes(), auth.Scope(right)) {
				v.problem(fmt.Sprintf("%s.allow[%d].rights", key, i), "%q is none of %q", right, auth.Scopes())
			}
		}
	}
}
