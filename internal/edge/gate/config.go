package gate

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"freshet/internal/config"
)

// Config is the table [edge.gate], or [edge.sites.NAME.gate]. All of it is read
// anew on SIGHUP.
type Config struct {
	// RedirectHTTPS answers requests without TLS by sending clients to the same
	// address with https. ACME's challenges are answered all the same, and PURGE
	// where it is understood. Default false.
	RedirectHTTPS bool `toml:"redirect-https"`

	// RedirectPort is the port that RedirectHTTPS sends clients to, for where
	// they reach the edge by another than it listens on. Default: that of
	// listen-tls, its first; 443 if there is none.
	RedirectPort int `toml:"redirect-port"`

	// HSTS is for how long browsers are told, over TLS, to use nothing but TLS
	// ("365d"). Default "0s": they are told nothing.
	HSTS time.Duration `toml:"hsts"`

	// Robots is what /robots.txt says: "origin": what the origin says;
	// "disallow": that nothing is to be crawled, which is what a mirror of
	// packages wants; or a file with the text. Default "origin".
	Robots string `toml:"robots"`

	// Health is a path at which the edge says to everybody whether it serves
	// ("/-/health"): a page for browsers, JSON for others. It hides that path of
	// the origin. Default: there is none.
	Health string `toml:"health"`

	// Passwords is a file of lines "name:hash" with hashes of bcrypt, as
	// htpasswd -B writes them. Default: none.
	Passwords string `toml:"passwords"`

	// Tokens are the SHA-256 of tokens ("sha256:" and 64 hexadecimal digits)
	// that clients send as "Authorization: Bearer", or as the password of any
	// name. Default: none.
	Tokens []string `toml:"tokens"`

	// Rules say who may ask for what. The first that fits decides; a request
	// that none fits is let in.
	Rules []Rule `toml:"rules"`
}

// Rule is a table [[edge.gate.rules]]. It fits a request that fits each of its
// lists; an empty list fits every request.
type Rule struct {
	// Action is "allow"; "deny", which answers 403; or "login", which lets in
	// who shows a password or token of the site, and answers 401 to others.
	// What a client logs in with is not passed on, and what it gets is cached as
	// for anybody. Default "deny".
	Action string `toml:"action"`

	// From are networks of clients ("10.1.0.0/16", "192.0.2.7").
	From []string `toml:"from"`

	// Methods are methods ("GET"). GET stands for HEAD as well.
	Methods []string `toml:"methods"`

	// Paths are paths, decoded and without a query. One that ends in a slash
	// fits everything below it. "*" stands for any characters but a slash, "**"
	// for any.
	Paths []string `toml:"paths"`
}

// Actions of a [Rule].
const (
	actionAllow = "allow"
	actionDeny  = "deny"
	actionLogin = "login"
)

// Words of [Config.Robots].
const (
	robotsOrigin   = "origin"
	robotsDisallow = "disallow"
)

// WithDefaults returns c with every setting left zero replaced by its default.
func (c Config) WithDefaults() Config {
	if c.Robots == "" {
		c.Robots = robotsOrigin
	}
	return c
}

// Or returns c, or other where c says nothing at all.
func (c Config) Or(other Config) Config {
	if c.isZero() {
		return other
	}
	return c
}

func (c Config) isZero() bool {
	return !c.RedirectHTTPS && c.RedirectPort == 0 && c.HSTS == 0 && (c.Robots == "" || c.Robots == robotsOrigin) && c.Health == "" &&
		c.Passwords == "" && len(c.Tokens) == 0 && len(c.Rules) == 0
}

// Validate reports what is wrong; see [config.Validator].
func (c Config) Validate() []config.Problem {
	var problems []config.Problem
	problem := func(key, format string, args ...any) {
		problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	if c.HSTS < 0 {
		problem("hsts", "must not be negative")
	}
	switch {
	case c.RedirectPort < 0 || c.RedirectPort > 65535:
		problem("redirect-port", "must be from 1 to 65535, got %d", c.RedirectPort)
	case c.RedirectPort != 0 && !c.RedirectHTTPS:
		problem("redirect-port", "is of no use without redirect-https")
	}
	switch {
	case c.Robots == "", c.Robots == robotsOrigin, c.Robots == robotsDisallow, strings.Contains(c.Robots, "/"):
	default:
		problem("robots", `want "origin", "disallow" or a file with a slash in its name, got %q`, c.Robots)
	}
	if c.Health != "" && (!strings.HasPrefix(c.Health, "/") || strings.ContainsAny(c.Health, "?#*% ")) {
		problem("health", `%q is no path: want one that begins with a slash, such as "/-/health"`, c.Health)
	}
	for i, token := range c.Tokens {
		if _, err := parseHash(token); err != nil {
			problem(fmt.Sprintf("tokens[%d]", i), "%v", err)
		}
	}
	for i, rule := range c.Rules {
		rule.check(func(key, format string, args ...any) {
			problem(fmt.Sprintf("rules[%d].%s", i, key), format, args...)
		})
		if rule.Action == actionLogin && c.Passwords == "" && len(c.Tokens) == 0 {
			problem(fmt.Sprintf("rules[%d].action", i), "nobody could log in: there are neither passwords nor tokens")
		}
	}
	return problems
}

// CheckFiles looks for the files that are named; see [config.FileChecker].
func (c Config) CheckFiles() []config.Problem {
	var problems []config.Problem
	look := func(key, file string) {
		if f, err := os.Open(file); err != nil {
			problems = append(problems, config.Problem{Key: key, Message: err.Error()})
		} else {
			_ = f.Close() // it was not written to
		}
	}
	if c.Passwords != "" {
		look("passwords", c.Passwords)
	}
	if strings.Contains(c.Robots, "/") {
		look("robots", c.Robots)
	}
	return problems
}

// WithDefaults returns r with every setting left zero replaced by its default.
func (r Rule) WithDefaults() Rule {
	if r.Action == "" {
		r.Action = actionDeny
	}
	return r
}

func (r Rule) check(problem func(key, format string, args ...any)) {
	switch r.Action {
	case "", actionAllow, actionDeny, actionLogin:
	default:
		problem("action", `want "allow", "deny" or "login", got %q`, r.Action)
	}
	for _, p := range config.CheckNetworks("from", r.From) {
		problem(p.Key, "%s", p.Message)
	}
	for i, s := range r.Methods {
		if s == "" || s != strings.ToUpper(s) || strings.ContainsAny(s, " \t,;/") {
			problem(fmt.Sprintf("methods[%d]", i), "%q is no method: want %q or the like", s, http.MethodGet)
		}
	}
	for i, s := range r.Paths {
		if !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "*") {
			problem(fmt.Sprintf("paths[%d]", i), `%q is no path: want one that begins with "/" or "*"`, s)
		}
	}
}

// tokenHash begins the SHA-256 of a token in the configuration.
const tokenHash = "sha256:"

func parseHash(s string) (sum [32]byte, err error) {
	digits, ok := strings.CutPrefix(s, tokenHash)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != len(sum) {
		return sum, fmt.Errorf("want %q and 64 hexadecimal digits", tokenHash)
	}
	return [32]byte(b), nil
}
