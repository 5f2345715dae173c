package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
)

// tlsListener puts TLS in front of the admin listener, if it has a certificate.
func (c AdminConfig) tlsListener(ln net.Listener) (net.Listener, error) {
	if c.Cert == "" {
		return ln, nil
	}
	if _, err := c.tlsConfig(); err != nil {
		return nil, err
	}
	// The files are read for each connection: operators make few, and what is
	// renewed counts at once.
	return tls.NewListener(ln, &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.tlsConfig() },
	}), nil
}

func (c AdminConfig) tlsConfig() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("admin certificate: %w", err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}}
	if c.ClientCA == "" {
		return cfg, nil
	}
	text, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("admin client-ca: %w", err)
	}
	cfg.ClientCAs = x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(text) {
		return nil, errors.New("admin client-ca: " + c.ClientCA + " has no certificate in PEM")
	}
	cfg.ClientAuth = tls.VerifyClientCertIfGiven
	return cfg, nil
}
