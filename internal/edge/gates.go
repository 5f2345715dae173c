package edge

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"reflect"
	"strings"

	"freshet/internal/certs"
	"freshet/internal/control"
	"freshet/internal/edge/gate"
	"freshet/internal/forwarded"
	"freshet/internal/h1"
	"freshet/internal/networks"
	"freshet/internal/role"
)

// setGates makes the gates of all sites anew, and who is believed about clients.
// If it fails, nothing is changed.
func (e *Edge) setGates(cfg Config) error {
	trusted, err := networks.ParseAll(cfg.TrustedProxies)
	if err != nil {
		return fmt.Errorf("trusted-proxies: %w", err)
	}
	around := gate.Around{
		Serving: func() bool { return e.store.Alert() == nil },
		PortTLS: func() int { return int(e.portTLS.Load()) },
	}
	made := make(map[*site]*gate.Gate, len(e.all))
	for _, s := range e.all {
		settings := cfg.Gate
		if s.name != "" {
			site, known := cfg.Sites[s.name]
			if !known {
				continue
			}
			settings = site.Gate
		}
		if made[s], err = gate.New(settings, around); err != nil {
			return fmt.Errorf("gate of site %s: %w", s.label(), err)
		}
	}
	for s, g := range made {
		s.gate.Store(g)
	}
	e.trusted.Store(&trusted)
	return nil
}

// reload takes over what may change while the edge serves, and says what has to
// wait.
func (e *Edge) reload(ctx context.Context, cfg Config, certificates *certs.Store) {
	if certificates != nil {
		certificates.Reload(ctx)
	}
	err := check(cfg)
	var clients *control.Clients
	if cfg = cfg.WithDefaults(); err == nil {
		clients, err = cfg.Control.clients()
	}
	if err == nil {
		err = e.setGates(cfg)
	}
	if err != nil {
		e.log.ErrorContext(ctx, "settings were not read anew: those before stay", slog.Any("error", err))
		return
	}
	e.clients.Store(clients) // a token that is known to others must be of no use at once
	if keys := changed(fixed(e.cfg), fixed(cfg)); len(keys) > 0 {
		e.log.WarnContext(ctx, "some settings that have changed are taken over at the next start only", slog.String("settings", strings.Join(keys, ", ")))
	}
	e.log.InfoContext(ctx, "settings were read anew")
}

// fixed is cfg without what [Edge.reload] takes over.
func fixed(cfg Config) Config {
	cfg.Gate, cfg.TrustedProxies, cfg.Control.Clients = gate.Config{}, nil, nil
	sites := make(map[string]SiteConfig, len(cfg.Sites))
	for name, site := range cfg.Sites {
		site.Gate = gate.Config{}
		sites[name] = site
	}
	cfg.Sites = sites
	return cfg
}

// changed lists the keys and tables of [edge] in which two configurations
// differ.
func changed(a, b Config) (keys []string) {
	left, right := reflect.ValueOf(a), reflect.ValueOf(b)
	for _, field := range reflect.VisibleFields(left.Type()) {
		key := field.Tag.Get("toml") // none: its fields come after it
		if key != "" && !reflect.DeepEqual(left.FieldByIndex(field.Index).Interface(), right.FieldByIndex(field.Index).Interface()) {
			keys = append(keys, "edge."+key)
		}
	}
	return keys
}

// gated is the way of a request through the gate of its site, before next.
// altSvc is told to clients over TLS (RFC 7838), if it is not empty.
func (e *Edge) gated(next http.Handler, certificates *certs.Store, altSvc string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuseUnread(w, r) {
			return
		}
		if r.TLS == nil && certificates.Challenge(w, r) {
			return
		}
		client, clear := e.clientOf(r)
		s := e.site(r.Host)
		if s == nil {
			next.ServeHTTP(w, r)
			return
		}
		g := s.gate.Load()
		if hsts := g.HSTS(); hsts != "" && !clear {
			w.Header()["Strict-Transport-Security"] = []string{hsts}
		}
		if altSvc != "" && r.TLS != nil {
			w.Header()["Alt-Svc"] = []string{altSvc}
		}
		if !g.Stop(w, r, gate.Request{Client: client, Path: gatePath(r.URL.Path), Clear: clear, Order: r.Method == methodPurge && s.purgeMethod}) {
			next.ServeHTTP(w, r)
			return
		}
		if rec := role.RecordOf(r); rec != nil {
			rec.Site = s.name
			if rec.Reason != "" {
				rec.Outcome = outcomeError.String()
			}
		}
	})
}

// clientOf returns who makes a request, and whether it is without TLS on its
// way here. Where a trusted proxy says who it is, the request and its record
// are changed to it.
func (e *Edge) clientOf(r *http.Request) (client netip.Addr, clear bool) {
	var trusted networks.Set
	if p := e.trusted.Load(); p != nil {
		trusted = *p
	}
	return forwarded.Resolve(r, trusted)
}

// gatePath is the path as rules of access see it: what can mean the same file
// to an origin is the same path.
func gatePath(p string) string {
	if isClean(p) && !strings.Contains(p, "/..") {
		return p
	}
	clean := path.Clean(p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

// open reports whether the gate lets a hit through as it is, and puts the client
// in the place of a trusted proxy. If not, [Edge.gated] decides.
func (f *front) open(h *hot, req *h1.Request) bool {
	if trusted := f.e.trusted.Load(); trusted != nil && len(*trusted) > 0 {
		forwarded.ResolveReady(req, *trusted)
	}
	g := h.call.site.gate.Load()
	return g == nil || g.Open(gate.Request{Client: req.Client, Path: h.gate, Clear: req.Clear})
}

// appendGate adds what the gate says with each answer.
func (f *front) appendGate(h *hot, req *h1.Request, head *head) {
	if req.Clear {
		return
	}
	if hsts := h.call.site.gate.Load().HSTS(); hsts != "" {
		head.field("Strict-Transport-Security", "strict-transport-security", []byte(hsts))
	}
	if f.altSvc != "" {
		head.field("Alt-Svc", "alt-svc", []byte(f.altSvc))
	}
}
