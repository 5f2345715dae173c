package control

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Clients tells the clients apart. The zero value knows none. Safe for
// concurrent use.
type Clients struct{ list []Client }

// Client is who may give orders.
type Client struct {
	// Name is that of the configuration.
	Name string

	token       [32]byte
	hasToken    bool
	certificate string
	allow       []Right // nil: everything
	sites       []string
}

// NewClients returns those of a configuration that was validated.
func NewClients(cfg Config) (*Clients, error) {
	clients := new(Clients)
	for name, c := range cfg.Clients {
		client := Client{Name: name, certificate: c.Certificate, sites: c.Sites}
		if c.Token != "" {
			sum, err := parseHash(c.Token)
			if err != nil {
				return nil, fmt.Errorf("token of client %q: %w", name, err)
			}
			client.token, client.hasToken = sum, true
		}
		for _, right := range c.Allow {
			client.allow = append(client.allow, Right(right))
		}
		clients.list = append(clients.list, client)
	}
	return clients, nil
}

// May reports whether the client has the right.
func (c *Client) May(right Right) bool { return len(c.allow) == 0 || slices.Contains(c.allow, right) }

// MaySite reports whether the client may touch the site of this label.
func (c *Client) MaySite(label string) bool {
	return len(c.sites) == 0 || slices.Contains(c.sites, label)
}

// ErrUnknown says that a request does not show who makes it: there is neither a
// known token nor a known certificate.
var ErrUnknown = errors.New("no known token or certificate: those who may give orders stand in [edge.control.clients], with what freshet edge token prints")

// Of returns the client that makes the request: by the token in Authorization
// (Bearer) or Fastly-Key, else by the certificate that the listener verified.
// A token that is not known is refused even with a certificate. The error is
// [ErrUnknown].
func (c *Clients) Of(r *http.Request) (*Client, error) {
	if token := tokenOf(r.Header); token != "" {
		return c.byToken(token)
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		name := r.TLS.VerifiedChains[0][0].Subject.CommonName
		for i := range c.list {
			if c.list[i].certificate != "" && c.list[i].certificate == name {
				return &c.list[i], nil
			}
		}
	}
	return nil, ErrUnknown
}

// tokenOf is the token of a request; a field that holds none that could be
// known counts as one.
func tokenOf(h http.Header) string {
	if key := h.Get("Fastly-Key"); key != "" {
		return key
	}
	field := h.Get("Authorization")
	if scheme, token, ok := strings.Cut(field, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return field
}

// byToken compares with every client, however early one is found.
func (c *Clients) byToken(token string) (*Client, error) {
	sum := sha256.Sum256([]byte(token))
	var found *Client
	for i := range c.list {
		if subtle.ConstantTimeCompare(sum[:], c.list[i].token[:]) == 1 && c.list[i].hasToken {
			found = &c.list[i]
		}
	}
	if found == nil {
		return nil, ErrUnknown
	}
	return found, nil
}

// NewToken makes a token of 256 random bits, and the hash of it that goes into
// the configuration.
func NewToken() (token, hash string) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	token = "fe_" + hex.EncodeToString(b[:])
	sum := sha256.Sum256([]byte(token))
	return token, tokenHash + hex.EncodeToString(sum[:])
}
