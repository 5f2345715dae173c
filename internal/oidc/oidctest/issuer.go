// Package oidctest is an issuer of ID tokens for tests, as the CI of a forge is one.
package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Issuer is a running issuer. Its fields may be changed before it is asked.
type Issuer struct {
	tb testing.TB
	// URL names it.
	URL string
	// Now is its clock; nil means time.Now.
	Now func() time.Time
	// Exchange answers at the token endpoint; nil is none.
	Exchange http.HandlerFunc

	mu      sync.Mutex
	keys    []jose.JSONWebKey // with their secret parts, the newest last
	fetched int
	instead http.HandlerFunc
}

// New starts an issuer with a key of each kind, "rsa", "ec" and "ed"; it ends with the
// test.
func New(tb testing.TB) *Issuer {
	tb.Helper()
	i := &Issuer{tb: tb}
	srv := httptest.NewServer(http.HandlerFunc(i.serve))
	tb.Cleanup(srv.Close)
	i.URL = srv.URL
	i.AddKey("rsa", jose.RS256)
	i.AddKey("ec", jose.ES256)
	i.AddKey("ed", jose.EdDSA)
	return i
}

// AddKey makes a key for an algorithm, by which tokens are signed from now on that
// name it.
func (i *Issuer) AddKey(id string, algorithm jose.SignatureAlgorithm) {
	i.tb.Helper()
	var secret crypto.Signer
	var err error
	switch algorithm {
	case jose.RS256:
		secret, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES256:
		secret, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		_, secret, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		i.tb.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, jose.JSONWebKey{Key: secret, KeyID: id, Algorithm: string(algorithm), Use: "sig"})
}

// DropKey removes a key.
func (i *Issuer) DropKey(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n := range i.keys {
		if i.keys[n].KeyID == id {
			i.keys = append(i.keys[:n:n], i.keys[n+1:]...)
			return
		}
	}
	i.tb.Errorf("there is no key %q", id)
}

// Instead has another handler answer, or its own again when it is nil.
func (i *Issuer) Instead(h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.instead = h
}

// Fetched is how often its keys were asked for.
func (i *Issuer) Fetched() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetched
}

func (i *Issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	instead := i.instead
	var set jose.JSONWebKeySet
	for n := range i.keys {
		set.Keys = append(set.Keys, i.keys[n].Public())
	}
	if r.URL.Path == "/keys" {
		i.fetched++
	}
	i.mu.Unlock()
	switch {
	case instead != nil:
		instead(w, r)
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/authorize?tenant=1", "token_endpoint": i.URL + "/token",
		})
	case r.URL.Path == "/token" && i.Exchange != nil:
		i.Exchange(w, r)
	case r.URL.Path == "/keys":
		w.Header().Set("Cache-Control", "public, max-age=3600")
		_ = json.NewEncoder(w).Encode(set)
	default:
		http.NotFound(w, r)
	}
}

// Claims are those of a good token for an audience, with others added or put in their
// place; nil takes one away.
func (i *Issuer) Claims(audience string, others map[string]any) map[string]any {
	now := time.Now
	if i.Now != nil {
		now = i.Now
	}
	claims := map[string]any{
		"iss": i.URL, "sub": "repo:example/app:ref:refs/heads/main", "aud": audience, "jti": rand.Text(),
		"iat": now().Unix(), "nbf": now().Add(-5 * time.Minute).Unix(), "exp": now().Add(5 * time.Minute).Unix(),
	}
	maps.Copy(claims, others)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// Token is a token with the claims, signed with a key by its id.
func (i *Issuer) Token(key string, claims map[string]any) string {
	i.tb.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	for n := range i.keys {
		if k := &i.keys[n]; k.KeyID == key {
			return Sign(i.tb, jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.Algorithm), Key: *k}, claims)
		}
	}
	i.tb.Fatalf("there is no key %q", key)
	return ""
}

// Sign is a token with the claims, signed with any key.
func Sign(tb testing.TB, key jose.SigningKey, claims map[string]any) string {
	tb.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		tb.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		tb.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		tb.Fatal(err)
	}
	return token
}
