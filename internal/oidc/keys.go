package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// maxDocument bounds a document of an issuer, maxKeys the keys in it.
	maxDocument = 256 << 10
	maxKeys     = 64

	// minRSA is the least length of an RSA key in bits (RFC 7518, section 3.3).
	minRSA = 2048

	// fetchTimeout bounds the two requests by which keys are fetched.
	fetchTimeout = 10 * time.Second

	// Keys are fetched anew after what the issuer says, within these bounds, and
	// after defaultFresh when it says nothing. They are used for maxStale while the
	// issuer is away.
	minFresh     = 5 * time.Minute
	defaultFresh = time.Hour
	maxFresh     = 24 * time.Hour
	maxStale     = 24 * time.Hour

	// Keys are not fetched again before a pause is over, which doubles while that
	// brings nothing.
	minPause = 5 * time.Second
	maxPause = time.Minute
)

// newClient returns a client that follows no redirects.
func newClient(transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: fetchTimeout}).DialContext,
			TLSHandshakeTimeout:    fetchTimeout,
			IdleConnTimeout:        fetchTimeout,
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		}
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// keySet are the public keys of an issuer.
type keySet struct {
	client *http.Client
	issuer string
	url    string // of the keys; empty: to be discovered
	now    func() time.Time

	mu       sync.Mutex
	keys     []jose.JSONWebKey
	fresh    time.Time     // until when keys are used without asking
	stale    time.Time     // until when they are used while the issuer is away
	pause    time.Duration // after the latest fetch
	next     time.Time     // before which keys are not fetched
	failure  error         // of the latest fetch
	fetching chan struct{} // closed at its end; nil when there is none
}

// find returns the keys that a token with this key id and algorithm may be signed
// with.
func (k *keySet) find(ctx context.Context, id string, algorithm jose.SignatureAlgorithm) ([]jose.JSONWebKey, error) {
	for {
		k.mu.Lock()
		now := k.now()
		found := k.lookup(id, algorithm, now)
		switch {
		case len(found) > 0 && now.Before(k.fresh), now.Before(k.next):
			defer k.mu.Unlock()
			return k.judge(found, now)
		case k.fetching != nil:
			wait := k.fetching
			k.mu.Unlock()
			select {
			case <-wait:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			continue
		}
		done := make(chan struct{})
		k.fetching = done
		k.mu.Unlock()
		// Others wait for it too, so that it does not end with this request.
		keys, fresh, err := k.fetch(context.WithoutCancel(ctx))
		k.mu.Lock()
		k.fetched(keys, fresh, err)
		useful := len(k.lookup(id, algorithm, k.now())) > 0 && err == nil
		k.pause = min(max(2*k.pause, minPause), maxPause)
		if useful {
			k.pause = minPause
		}
		k.next = k.now().Add(k.pause)
		k.fetching = nil
		close(done)
		k.mu.Unlock()
	}
}

// judge says what there is when keys are not fetched now.
func (k *keySet) judge(found []jose.JSONWebKey, now time.Time) ([]jose.JSONWebKey, error) {
	switch {
	case len(found) > 0:
		return found, nil
	case k.failure != nil || !now.Before(k.stale):
		return nil, &Error{Reason: Away, Err: fmt.Errorf("its issuer's keys cannot be fetched: %w", k.failure)}
	}
	return nil, &Error{Reason: UnknownKey, Err: errors.New("its issuer has no such key")}
}

// fetched takes over what a fetch has brought.
func (k *keySet) fetched(keys []jose.JSONWebKey, fresh time.Duration, err error) {
	if k.failure = err; err != nil {
		return
	}
	now := k.now()
	k.keys, k.fresh, k.stale = keys, now.Add(fresh), now.Add(max(fresh, maxStale))
}

// lookup returns the keys with an id, or all when id is empty, that are made for the
// algorithm and may be used at now.
func (k *keySet) lookup(id string, algorithm jose.SignatureAlgorithm, now time.Time) []jose.JSONWebKey {
	if !now.Before(k.stale) {
		return nil
	}
	var found []jose.JSONWebKey
	for i := range k.keys {
		if (id == "" || k.keys[i].KeyID == id) && fits(&k.keys[i], algorithm) {
			found = append(found, k.keys[i])
		}
	}
	return found
}

// fits tells whether a key is one for signatures of the algorithm. It is the kind of
// the key that decides: what a token demands cannot make another use of it.
func fits(key *jose.JSONWebKey, algorithm jose.SignatureAlgorithm) bool {
	if key.Use != "" && key.Use != "sig" || key.Algorithm != "" && key.Algorithm != string(algorithm) {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return algorithm == jose.RS256 && public.N.BitLen() >= minRSA
	case *ecdsa.PublicKey:
		return algorithm == jose.ES256 && public.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return algorithm == jose.EdDSA
	}
	return false // symmetric and private keys among them
}

// fetch asks the issuer for its keys, and tells for how long they are fresh.
func (k *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	where := k.url
	if where == "" {
		var about struct {
			Issuer string `json:"issuer"`
			Keys   string `json:"jwks_uri"`
		}
		if _, err := k.get(ctx, strings.TrimSuffix(k.issuer, "/")+"/.well-known/openid-configuration", &about); err != nil {
			return nil, 0, err
		}
		if about.Issuer != k.issuer {
			return nil, 0, fmt.Errorf("%s says that it is %.200q", k.issuer, about.Issuer)
		}
		if err := CheckURL(about.Keys); err != nil {
			return nil, 0, fmt.Errorf("jwks_uri of %s: %w", k.issuer, err)
		}
		where = about.Keys
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	header, err := k.get(ctx, where, &set)
	if err != nil {
		return nil, 0, err
	}
	if len(set.Keys) > maxKeys {
		return nil, 0, fmt.Errorf("%s: more than %d keys", where, maxKeys)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		// Kinds of keys that are not known are none of ours (RFC 7517, section 5).
		if err := key.UnmarshalJSON(raw); err == nil && key.Valid() && key.IsPublic() {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, 0, fmt.Errorf("%s has no keys that can be used", where)
	}
	return keys, freshness(header), nil
}

// get reads a JSON document.
func (k *keySet) get(ctx context.Context, where string, into any) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", where, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if len(data) > maxDocument {
		return nil, fmt.Errorf("%s: more than %d bytes", where, maxDocument)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return resp.Header, nil
}

// freshness is for how long an answer says that it is good.
func freshness(header http.Header) time.Duration {
	for directive := range strings.SplitSeq(header.Get("Cache-Control"), ",") {
		if text, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(directive)), "max-age="); ok {
			if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
				return min(max(time.Duration(seconds)*time.Second, minFresh), maxFresh)
			}
		}
	}
	return defaultFresh
}
