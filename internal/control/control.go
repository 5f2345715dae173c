package control

import (
	"cmp"
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
type Clients struct {
	list  []Client
	known string
}

// Client is who may give orders.
type Client struct {
	// Name is that of the configuration.
	Name string

	token       [32]byte
	hasToken    bool
	certificate string
	allow       []string // none: everything
	only        []string // none: everything
}

// NewClients returns those of entries that [Check] found nothing wrong with. What
// known says stands in the error for those who are not among them: where those who
// are stand.
func NewClients(known string, entries map[string]Entry) (*Clients, error) {
	clients := &Clients{known: known}
	for name, c := range entries {
		client := Client{Name: name, certificate: c.Certificate, allow: c.Allow, only: c.Only}
		if c.Token != "" {
			sum, err := ParseHash(c.Token)
			if err != nil {
				return nil, fmt.Errorf("token of client %q: %w", name, err)
			}
			client.token, client.hasToken = sum, true
		}
		clients.list = append(clients.list, client)
	}
	return clients, nil
}

// May reports whether the client has the right.
func (c *Client) May(right Right) bool {
	return len(c.allow) == 0 || slices.Contains(c.allow, string(right))
}

// MayTouch reports whether the client may touch what has this name.
func (c *Client) MayTouch(name string) bool { return len(c.only) == 0 || slices.Contains(c.only, name) }

// MayTouchAll reports whether the client may touch everything.
func (c *Client) MayTouchAll() bool { return len(c.only) == 0 }

// ErrUnknown says that a request does not show who makes it: there is neither a
// known token nor a known certificate.
var ErrUnknown = errors.New("no known token or certificate")

// Of returns the client that makes the request: by the token in Authorization
// (Bearer) or Fastly-Key, else by the certificate that the listener verified.
// A token that is not known is refused even with a certificate. The error wraps
// [ErrUnknown].
func (c *Clients) Of(r *http.Request) (*Client, error) {
	if token := TokenOf(r.Header); token != "" {
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
	return nil, c.unknown()
}

// unknown tells who is not known what to do.
func (c *Clients) unknown() error {
	return fmt.Errorf("%w: %s", ErrUnknown, cmp.Or(c.known, "there are no clients"))
}

// TokenOf is the token of a request, "" if it has none; a field that holds none that
// could be known counts as one.
func TokenOf(h http.Header) string {
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
		return nil, c.unknown()
	}
	return found, nil
}

// NewToken makes a token of 256 random bits behind a prefix, and the [Hash] of it.
func NewToken(prefix string) (token, hash string) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	token = prefix + hex.EncodeToString(b[:])
	return token, Hash(token)
}

// Hash is what a configuration has of a token: "sha256:" and 64 hexadecimal digits.
func Hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return tokenHash + hex.EncodeToString(sum[:])
}
