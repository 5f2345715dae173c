// Package gate is what stands before the cache of a site: who may ask for what,
// the way to HTTPS, robots.txt and a health page.
//
// A [Gate] decides about a request by the client's address, the method and the
// path alone; what it answers itself never comes from the origin or the store.
package gate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"freshet/internal/role"
)

// Words for refused requests.
const (
	ReasonDenied = "access_denied"
	ReasonLogin  = "login_required"
)

// Gate is the gate of a site. A nil Gate lets everything in. Safe for
// concurrent use.
type Gate struct {
	rules    []rule
	redirect bool
	hsts     string // the value of Strict-Transport-Security, or ""
	robots   []byte // the text, or nil
	health   string // the path, or ""
	login    *logins
	around   Around
	port     int // that redirect sends to; 0: that of around
}

// Around is what a gate asks the edge. A field that is nil is not asked.
type Around struct {
	// Serving says on the health page whether all is well.
	Serving func() bool
	// PortTLS is the port on which TLS is spoken, 0 if it is not.
	PortTLS func() int
}

// New returns the gate of a configuration that was validated, nil if that asks
// for nothing; it reads the files that are named.
func New(cfg Config, around Around) (*Gate, error) {
	if cfg.isZero() {
		return nil, nil //nolint:nilnil // a nil Gate lets everything in
	}
	g := &Gate{redirect: cfg.RedirectHTTPS, health: cfg.Health, around: around, port: cfg.RedirectPort}
	if cfg.HSTS > 0 {
		g.hsts = "max-age=" + strconv.FormatInt(int64(cfg.HSTS/time.Second), 10)
	}
	switch cfg.Robots {
	case "", robotsOrigin:
	case robotsDisallow:
		g.robots = []byte("User-agent: *\nDisallow: /\n")
	default:
		text, err := os.ReadFile(cfg.Robots)
		if err != nil {
			return nil, fmt.Errorf("robots: %w", err)
		}
		g.robots = text
	}
	for i, r := range cfg.Rules {
		made, err := newRule(r)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i, err)
		}
		g.rules = append(g.rules, made)
	}
	var err error
	if g.login, err = newLogins(cfg); err != nil {
		return nil, err
	}
	return g, nil
}

// HSTS is the value of Strict-Transport-Security for answers over TLS, "" if
// there is none.
func (g *Gate) HSTS() string {
	if g == nil {
		return ""
	}
	return g.hsts
}

// Request is what a gate decides by, besides the method.
type Request struct {
	// Client is the address of the client, invalid if it is not known.
	Client netip.Addr
	// Path is the path, decoded and clean.
	Path string
	// Clear says that the client does not use TLS.
	Clear bool
	// Order says that this is an order to the edge itself, which is not sent
	// elsewhere.
	Order bool
}

// Open reports whether a GET or HEAD request may be answered from the cache
// without a look at anything but this. If not, [Gate.Stop] says more.
func (g *Gate) Open(q Request) bool {
	switch {
	case g == nil:
		return true
	case g.redirect && q.Clear, g.health != "" && q.Path == g.health, g.robots != nil && q.Path == "/robots.txt":
		return false
	}
	return g.decide(q.Client, http.MethodGet, q.Path) == actionAllow
}

func (g *Gate) decide(client netip.Addr, method, path string) string {
	for i := range g.rules {
		if g.rules[i].fits(client, method, path) {
			return g.rules[i].action
		}
	}
	return actionAllow
}

// Stop answers a request that is not to go on, and reports whether it did. A
// request that goes on after a login has no Authorization any more.
func (g *Gate) Stop(w http.ResponseWriter, r *http.Request, q Request) bool {
	if g == nil {
		return false
	}
	switch {
	case g.redirect && q.Clear && !q.Order:
		g.toHTTPS(w, r)
		return true
	case g.health != "" && q.Path == g.health && isRead(r.Method):
		g.showHealth(w, r)
		return true
	}
	switch g.decide(q.Client, r.Method, q.Path) {
	case actionDeny:
		refuse(w, r, http.StatusForbidden, ReasonDenied, "you may not ask for this")
		return true
	case actionLogin:
		if !g.login.check(r) {
			w.Header()["Www-Authenticate"] = []string{`Basic realm="` + realmOf(r.Host) + `", charset="UTF-8"`, `Bearer`}
			refuse(w, r, http.StatusUnauthorized, ReasonLogin, "a login is needed")
			return true
		}
		r.Header.Del("Authorization")
	}
	if g.robots != nil && q.Path == "/robots.txt" && isRead(r.Method) {
		send(w, r, "text/plain; charset=utf-8", "max-age=3600", g.robots)
		return true
	}
	return false
}

func isRead(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// realmOf is the host as it may stand in a quoted string.
func realmOf(host string) string {
	return strings.Map(func(c rune) rune {
		if c == '"' || c == '\\' || c < ' ' || c > '~' {
			return -1
		}
		return c
	}, host)
}

func refuse(w http.ResponseWriter, r *http.Request, status int, word, text string) {
	role.SetReason(w, r, word, text)
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, status)
}

// toHTTPS sends the client to the same place with TLS.
func (g *Gate) toHTTPS(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		if host = h; strings.Contains(h, ":") {
			host = "[" + h + "]"
		}
	}
	if host == "" || strings.ContainsAny(host, "/\\@?# ") {
		refuse(w, r, http.StatusBadRequest, "bad_host", "the host name is missing or malformed")
		return
	}
	if port := g.portTLS(); port != 0 && port != portHTTPS {
		host += ":" + strconv.Itoa(port)
	}
	status := http.StatusMovedPermanently
	if !isRead(r.Method) {
		status = http.StatusPermanentRedirect // keeps the method (RFC 9110 §15.4.9)
	}
	h := w.Header()
	h.Set("Location", "https://"+host+r.URL.RequestURI())
	h.Set("Cache-Control", "max-age=3600")
	h.Set("Content-Length", "0")
	w.WriteHeader(status)
}

// portHTTPS is the one that URLs of https leave out.
const portHTTPS = 443

// portTLS is where TLS is spoken, 0 if that is not known.
func (g *Gate) portTLS() int {
	if g.port == 0 && g.around.PortTLS != nil {
		return g.around.PortTLS()
	}
	return g.port
}

// showHealth says whether the edge serves, and nothing else of it.
func (g *Gate) showHealth(w http.ResponseWriter, r *http.Request) {
	state := "ok"
	if g.around.Serving != nil && !g.around.Serving() {
		state = "degraded" // it serves all the same: a balancer must not take it away
	}
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		var page bytes.Buffer
		if err := healthPage.Execute(&page, state); err == nil {
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
			send(w, r, "text/html; charset=utf-8", "no-store", page.Bytes())
			return
		}
	}
	body, _ := json.Marshal(map[string]string{"status": state}) // strings always can
	send(w, r, "application/json", "no-store", append(body, '\n'))
}

func send(w http.ResponseWriter, r *http.Request, contentType, cacheControl string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", cacheControl)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that has left is no concern
	}
}

var healthPage = template.Must(template.New("health").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.}}</title>
<style>body{font:1.2rem/1.5 system-ui,sans-serif;display:grid;place-content:center;min-height:90vh;text-align:center;color-scheme:light dark}b{font-size:3rem}</style>
</head><body><p><b>{{if eq . "ok"}}✓{{else}}!{{end}}</b><p>{{if eq . "ok"}}This server is well.{{else}}This server answers, and something is wrong with it that its operator can see.{{end}}</body></html>
`))
