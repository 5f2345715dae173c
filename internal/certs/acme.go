package certs

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// authority gets certificates by ACME.
type authority struct {
	hosts  []string
	cache  *certmagic.Cache
	config *certmagic.Config
	issuer *certmagic.ACMEIssuer
}

func newAuthority(cfg ACME, opt Options, log *slog.Logger) (*authority, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	if info, err := os.Stat(cfg.Dir); err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	} else if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("acme: others can read %s, which holds keys: chmod 700", cfg.Dir)
	}
	var roots *x509.CertPool
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("acme: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("acme: %s holds no certificate", cfg.CAFile)
		}
	}
	a := &authority{hosts: opt.Hosts}
	logger := zap.New(zapCore{log.With(slog.String("part", "acme"))})
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil },
		Logger:           logger,
	})
	a.config = certmagic.New(a.cache, certmagic.Config{
		Storage:           &certmagic.FileStorage{Path: cfg.Dir},
		Logger:            logger,
		DefaultServerName: opt.Hosts[0],
		OCSP:              certmagic.OCSPConfig{DisableStapling: true}, // authorities stop answering OCSP
	})
	a.issuer = certmagic.NewACMEIssuer(a.config, certmagic.ACMEIssuer{
		CA: cfg.Directory, Email: cfg.Email, Agreed: true, TrustedRoots: roots, Logger: logger,
		AltHTTPPort: opt.HTTP, AltTLSALPNPort: opt.TLS,
		DisableHTTPChallenge: opt.HTTP == 0, DisableTLSALPNChallenge: opt.TLS == 0,
	})
	a.config.Issuers = []certmagic.Issuer{a.issuer}
	return a, nil
}

// leaf is the certificate of a host, nil as long as there is none.
func (a *authority) leaf(host string) *x509.Certificate {
	for _, cert := range a.cache.AllMatchingCertificates(host) {
		if cert.Leaf != nil {
			return cert.Leaf
		}
	}
	return nil
}

// zapCore writes to log/slog.
type zapCore struct{ log *slog.Logger }

func (c zapCore) Enabled(level zapcore.Level) bool {
	return c.log.Enabled(context.Background(), slogLevel(level))
}

func (c zapCore) With(fields []zapcore.Field) zapcore.Core {
	var args []any
	for _, attr := range attrsOf(fields) {
		args = append(args, attr)
	}
	return zapCore{c.log.With(args...)}
}

func (c zapCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

func (c zapCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	record := slog.NewRecord(entry.Time, slogLevel(entry.Level), entry.Message, 0)
	record.AddAttrs(attrsOf(fields)...)
	return c.log.Handler().Handle(context.Background(), record)
}

func (zapCore) Sync() error { return nil }

func attrsOf(fields []zapcore.Field) []slog.Attr {
	enc := zapcore.NewMapObjectEncoder()
	attrs := make([]slog.Attr, 0, len(fields))
	for _, f := range fields {
		clear(enc.Fields)
		f.AddTo(enc)
		for name, value := range enc.Fields {
			attrs = append(attrs, slog.Any(name, value))
		}
	}
	return attrs
}

// slogLevel is what the level is worth to an operator: the steps of getting a
// certificate, which are told at info there, are for finding faults.
func slogLevel(level zapcore.Level) slog.Level {
	switch {
	case level >= zapcore.ErrorLevel:
		return slog.LevelError
	case level == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}
