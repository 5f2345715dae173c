// Package certs has the certificates of a role: from files that are read anew
// when they change, and from an authority by ACME (RFC 8555).
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/prometheus/client_golang/prometheus"
)

// pollEvery is how often the files are looked at.
const pollEvery = 5 * time.Second

// Options is what certificates need besides the configuration.
type Options struct {
	// Role is the name of the role, for metrics.
	Role string
	// Hosts are the names that ACME may be asked for.
	Hosts []string
	// HTTP and TLS are the ports of the listeners, on which the authority's
	// challenges arrive. Zero: there is none, and that challenge is not offered.
	HTTP, TLS int
	// Log is told of what is wrong, and of each certificate that changes. Nil:
	// nothing is logged.
	Log *slog.Logger
}

// Store chooses the certificate of each handshake. Safe for concurrent use.
type Store struct {
	role    string
	log     *slog.Logger
	min     uint16
	acme    *authority // nil: off
	current atomic.Pointer[chosen]

	mu    sync.Mutex // guards what follows
	pairs []*pair
}

// None returns a store without certificates, for the metrics of a role that has
// none.
func None(role string) *Store { return &Store{role: role} }

// Open reads the certificates that are named. It fails if one of them cannot be
// used; later this only keeps the one before it in place.
func Open(cfg Config, opt Options) (*Store, error) {
	cfg = cfg.WithDefaults()
	s := &Store{role: opt.Role, log: opt.Log, min: minVersion(cfg.Min)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for _, p := range cfg.Certificates {
		made := &pair{Pair: p}
		if _, err := made.load(); err != nil {
			return nil, err
		}
		s.pairs = append(s.pairs, made)
	}
	if cfg.ACME.Dir != "" {
		var err error
		if s.acme, err = newAuthority(cfg.ACME, opt, s.log); err != nil {
			return nil, err
		}
	}
	s.chooseLocked()
	return s, nil
}

// TLS returns the settings of a listener that speaks the given protocols
// (ALPN), the preferred one first.
func (s *Store) TLS(protocols ...string) *tls.Config {
	if s.acme != nil {
		protocols = append(protocols, acmez.ACMETLS1Protocol)
	}
	return &tls.Config{MinVersion: s.min, NextProtos: protocols, GetCertificate: s.certificate}
}

// Challenge answers a request by which an authority checks that a name is ours,
// and reports whether it was one.
func (s *Store) Challenge(w http.ResponseWriter, r *http.Request) bool {
	return s != nil && s.acme != nil && s.acme.issuer.HandleHTTPChallenge(w, r)
}

// Run keeps the certificates up to date until ctx ends: it looks at the files,
// and has those of the authority made and renewed. The listeners are open.
func (s *Store) Run(ctx context.Context) error {
	if s.acme != nil {
		defer s.acme.cache.Stop()
		if err := s.acme.config.ManageAsync(ctx, s.acme.hosts); err != nil {
			return fmt.Errorf("manage certificates: %w", err)
		}
	}
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.Reload(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// Reload reads the files that have changed.
func (s *Store) Reload(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	any := false
	for _, p := range s.pairs {
		before := p.problem
		changed, err := p.load()
		switch {
		case err != nil && err.Error() != before:
			s.log.ErrorContext(ctx, "certificate cannot be used: the one before it stays", slog.String("cert", p.Cert), slog.Any("error", err),
				slog.Time("expires", p.cert.Leaf.NotAfter))
		case changed:
			any = true
			s.log.InfoContext(ctx, "certificate was read", slog.String("cert", p.Cert), slog.Time("expires", p.cert.Leaf.NotAfter))
		}
	}
	if any {
		s.chooseLocked()
	}
}

// chosen are the certificates of the files by the names in them.
type chosen struct {
	byName map[string][]*tls.Certificate
	first  *tls.Certificate
}

func (s *Store) chooseLocked() {
	c := &chosen{byName: make(map[string][]*tls.Certificate)}
	for _, p := range s.pairs {
		if c.first == nil {
			c.first = p.cert
		}
		for _, name := range namesOf(p.cert.Leaf) {
			c.byName[name] = append(c.byName[name], p.cert)
		}
	}
	s.current.Store(c)
}

// namesOf are the names that a certificate is for.
func namesOf(leaf *x509.Certificate) []string {
	names := make([]string, 0, len(leaf.DNSNames)+len(leaf.IPAddresses))
	for _, name := range leaf.DNSNames {
		names = append(names, strings.ToLower(name))
	}
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// certificate is [tls.Config.GetCertificate].
func (s *Store) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c := s.current.Load()
	challenge := len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acmez.ACMETLS1Protocol
	if !challenge {
		name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
		fits := c.byName[name]
		if _, parent, ok := strings.Cut(name, "."); ok && len(fits) == 0 {
			fits = c.byName["*."+parent]
		}
		for _, cert := range fits {
			if hello.SupportsCertificate(cert) == nil {
				return cert, nil
			}
		}
		if len(fits) > 0 {
			return fits[0], nil
		}
	}
	if s.acme != nil {
		cert, err := s.acme.config.GetCertificate(hello)
		if err == nil || challenge || c.first == nil {
			return cert, err //nolint:wrapcheck // goes to crypto/tls
		}
	}
	if c.first == nil {
		return nil, errors.New("there is no certificate")
	}
	return c.first, nil
}

// pair is a certificate and what its files looked like when it was read.
type pair struct {
	Pair
	cert    *tls.Certificate
	was     [2]os.FileInfo
	problem string
}

// load reads the files if they have changed. After an error the certificate is
// the one from before, and the files are read again the next time.
func (p *pair) load() (changed bool, err error) {
	defer func() {
		p.problem = ""
		if err != nil {
			p.problem = err.Error()
		}
	}()
	var now [2]os.FileInfo
	for i, file := range [2]string{p.Cert, p.Key} {
		if now[i], err = os.Stat(file); err != nil {
			return false, fmt.Errorf("certificate: %w", err)
		}
	}
	if p.cert != nil && same(now[0], p.was[0]) && same(now[1], p.was[1]) {
		return false, nil
	}
	cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err != nil {
		return false, fmt.Errorf("certificate %s with key %s: %w", p.Cert, p.Key, err)
	}
	p.cert, p.was = &cert, now
	return true, nil
}

func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// Describe implements [prometheus.Collector].
func (s *Store) Describe(ch chan<- *prometheus.Desc) {
	ch <- s.expiryDesc()
	ch <- s.failingDesc()
}

// Collect implements [prometheus.Collector].
func (s *Store) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	expiry := make(map[string]time.Time) // the earliest of each name
	note := func(leaf *x509.Certificate) {
		for _, name := range namesOf(leaf) {
			if t, ok := expiry[name]; !ok || leaf.NotAfter.Before(t) {
				expiry[name] = leaf.NotAfter
			}
		}
	}
	failing := 0
	for _, p := range s.pairs {
		note(p.cert.Leaf)
		if p.problem != "" {
			failing++
		}
	}
	if s.acme != nil {
		for _, host := range s.acme.hosts {
			leaf := s.acme.leaf(host)
			if leaf == nil {
				failing++
				continue
			}
			note(leaf)
		}
	}
	for name, t := range expiry {
		ch <- prometheus.MustNewConstMetric(s.expiryDesc(), prometheus.GaugeValue, float64(t.Unix()), name)
	}
	ch <- prometheus.MustNewConstMetric(s.failingDesc(), prometheus.GaugeValue, float64(failing))
}

func (s *Store) expiryDesc() *prometheus.Desc {
	return prometheus.NewDesc("freshet_"+s.role+"_certificate_expiry_timestamp_seconds", "When the certificate for the name expires, in seconds since 1970: alert when it is near.", []string{"name"}, nil)
}

func (s *Store) failingDesc() *prometheus.Desc {
	return prometheus.NewDesc("freshet_"+s.role+"_certificates_failing",
		"Certificates that could not be read anew, or not be had from the authority: alert on it.", nil, nil)
}
