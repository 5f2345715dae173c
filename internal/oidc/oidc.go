// Package oidc checks ID tokens (OpenID Connect Core 1.0, section 2): JSON Web
// Tokens by which an issuer, such as the CI of a forge, vouches for whoever bears
// them.
//
// Only tokens of the issuers that a [Verifier] is made with are looked at, and only
// with signatures of RS256, ES256 and EdDSA: what a token demands in its header
// chooses among the issuer's public keys, nothing else. Keys are found by discovery
// (OpenID Connect Discovery 1.0, section 4), fetched when they are needed, kept as
// long as the issuer says, and used on for a day while it is away. A token with a
// key id that is not known has them fetched anew, but not more often than a
// growing pause allows, whatever tokens come.
//
// All that comes from outside is bounded: tokens, documents and the number of keys.
// There are no redirects, and no plain HTTP but to this machine.
package oidc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// MaxToken bounds the length of a token in bytes.
	MaxToken = 16 << 10

	// Leeway is how far clocks may differ: a token counts so much longer and earlier
	// than it says.
	Leeway = time.Minute

	// MaxLife bounds for how long from now a token may be good. It is how long those
	// that were used have to be remembered.
	MaxLife = 24 * time.Hour
)

// Reason says in one word why a token is refused.
type Reason string

// The reasons.
const (
	Malformed     Reason = "malformed"      // it is no token, or lacks a claim that every ID token has
	UnknownIssuer Reason = "unknown-issuer" // nobody has said to trust it
	BadAlgorithm  Reason = "algorithm"      // its signature is of a kind that is not accepted
	UnknownKey    Reason = "unknown-key"    // the issuer has no such key
	BadSignature  Reason = "signature"      // the signature is not that of the key
	BadAudience   Reason = "audience"       // it was made for somebody else
	Expired       Reason = "expired"        // its time is over
	NotYet        Reason = "not-yet"        // its time has not begun, or it was issued in the future
	TooLong       Reason = "life"           // it would be good for longer than MaxLife
	Away          Reason = "issuer-away"    // the keys cannot be fetched: try again later
)

// Error is a token that is refused.
type Error struct {
	Reason Reason
	// Issuer is whom the token names, when it was read so far; nobody vouches for it.
	Issuer string
	Err    error
}

func (e *Error) Error() string {
	if e.Issuer == "" {
		return fmt.Sprintf("ID token: %v", e.Err)
	}
	return fmt.Sprintf("ID token of %.200q: %v", e.Issuer, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Issuer is somebody whose tokens are trusted to be what they say.
type Issuer struct {
	// URL names the issuer, exactly as its tokens do.
	URL string
	// Keys is the URL of its keys (JWK set); empty: it is discovered.
	Keys string
	// Audiences are those of whom one is in each token that is accepted.
	Audiences []string
}

// CheckURL tells whether an issuer or its keys may be at a URL: https, or http on
// this machine, without a query, fragment or user.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("%q: want a URL like https://issuer.example.org", text)
	}
	if u.Scheme == "https" {
		return nil
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%q: want https://", text)
}

// Token is what a token says that was found good. Its issuer vouches for it.
type Token struct {
	Issuer, Subject string
	// ID is the token's own (jti), by which it is known again; empty for some issuers.
	ID string
	// Digest is the SHA-256 of all claims as they were signed. It tells a token from
	// others, however it is written down.
	Digest   [sha256.Size]byte
	Audience []string
	Expires  time.Time
	// Claims are all of them; numbers are [json.Number].
	Claims map[string]any
}

// Claim returns the values of a claim as text: one of a string, number or truth
// value, all strings of a list. Claims of other forms have none.
func (t *Token) Claim(name string) []string {
	switch v := t.Claims[name].(type) {
	case string:
		return []string{v}
	case json.Number:
		return []string{v.String()}
	case bool:
		return []string{strconv.FormatBool(v)}
	case []any:
		var all []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				all = append(all, s)
			}
		}
		return all
	}
	return nil
}

// Verifier checks tokens. It may be used concurrently.
type Verifier struct {
	issuers map[string]*keySet
	allowed map[string][]string // audiences by issuer
	now     func() time.Time
}

// Options are what a Verifier may be given besides the issuers.
type Options struct {
	// Transport makes the requests to issuers; nil stands for one with the
	// environment's proxies.
	Transport http.RoundTripper
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// New returns a Verifier that knows the issuers. It does not ask them yet.
func New(issuers []Issuer, opt Options) *Verifier {
	v := &Verifier{issuers: map[string]*keySet{}, allowed: map[string][]string{}, now: opt.Now}
	if v.now == nil {
		v.now = time.Now
	}
	client := newClient(opt.Transport)
	for _, i := range issuers {
		v.issuers[i.URL] = &keySet{client: client, issuer: i.URL, url: i.Keys, now: v.now}
		v.allowed[i.URL] = append(v.allowed[i.URL], i.Audiences...)
	}
	return v
}

// algorithms are the signatures that are accepted. None of them is made with a
// secret that the verifier would have.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA}
}

// Verify returns what a token says. An error is that of ctx or an [*Error].
func (v *Verifier) Verify(ctx context.Context, token string) (*Token, error) {
	if len(token) > MaxToken {
		return nil, &Error{Reason: Malformed, Err: fmt.Errorf("it has more than %d bytes", MaxToken)}
	}
	signed, err := jose.ParseSignedCompact(token, algorithms())
	if _, unexpected := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); unexpected {
		return nil, &Error{Reason: BadAlgorithm, Err: errors.New("it is not signed with RS256, ES256 or EdDSA")}
	}
	if err != nil || len(signed.Signatures) != 1 {
		return nil, &Error{Reason: Malformed, Err: errors.New("it is no signed token")}
	}
	unverified, err := decode(signed.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, &Error{Reason: Malformed, Err: err}
	}
	issuer, _ := unverified["iss"].(string)
	keys := v.issuers[issuer]
	if keys == nil {
		return nil, &Error{Reason: UnknownIssuer, Issuer: issuer, Err: errors.New("its issuer is not trusted here")}
	}
	header := signed.Signatures[0].Header
	candidates, err := keys.find(ctx, header.KeyID, jose.SignatureAlgorithm(header.Algorithm))
	if err != nil {
		return nil, named(err, issuer)
	}
	payload, err := verifyAny(signed, candidates)
	if err != nil {
		return nil, named(err, issuer)
	}
	t, err := v.check(issuer, payload)
	return t, named(err, issuer)
}

// named adds the issuer to a refusal.
func named(err error, issuer string) error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.Issuer = issuer
	}
	return err
}

func verifyAny(signed *jose.JSONWebSignature, keys []jose.JSONWebKey) ([]byte, error) {
	for i := range keys {
		if payload, err := signed.Verify(keys[i].Key); err == nil {
			return payload, nil
		}
	}
	return nil, &Error{Reason: BadSignature, Err: errors.New("its signature is not that of the issuer's key")}
}

func decode(payload []byte) (map[string]any, error) {
	var claims map[string]any
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	if err := decoder.Decode(&claims); err != nil || claims == nil {
		return nil, errors.New("its claims are no JSON object")
	}
	return claims, nil
}

// check reads and judges the claims of a token with a good signature.
func (v *Verifier) check(issuer string, payload []byte) (*Token, error) {
	claims, err := decode(payload)
	if err != nil {
		return nil, &Error{Reason: Malformed, Err: err}
	}
	t := &Token{Issuer: issuer, Claims: claims, Digest: sha256.Sum256(payload)}
	t.Subject, _ = claims["sub"].(string)
	t.ID, _ = claims["jti"].(string)
	t.Audience = t.Claim("aud")
	expires, hasEnd := date(claims["exp"])
	switch {
	case claims["iss"] != issuer, t.Subject == "", !hasEnd:
		return nil, &Error{Reason: Malformed, Err: errors.New("it lacks one of the claims iss, sub and exp")}
	case claims["jti"] != nil && t.ID == "":
		return nil, &Error{Reason: Malformed, Err: errors.New("its claim jti is no text")}
	}
	if !slices.ContainsFunc(t.Audience, func(a string) bool { return slices.Contains(v.allowed[issuer], a) }) {
		return nil, &Error{Reason: BadAudience, Err: fmt.Errorf("it was made for %.200q, not for one of %q", t.Audience, v.allowed[issuer])}
	}
	if err := v.checkTimes(claims, expires); err != nil {
		return nil, err
	}
	t.Expires = expires
	return t, nil
}

func (v *Verifier) checkTimes(claims map[string]any, expires time.Time) error {
	now := v.now()
	if !now.Before(expires.Add(Leeway)) {
		return &Error{Reason: Expired, Err: fmt.Errorf("it was good until %s", expires.UTC().Format(time.RFC3339))}
	}
	if expires.After(now.Add(MaxLife)) {
		return &Error{Reason: TooLong, Err: fmt.Errorf("it is good until %s, more than %v from now", expires.UTC().Format(time.RFC3339), MaxLife)}
	}
	for _, name := range [...]string{"nbf", "iat"} {
		value, there := claims[name]
		begin, ok := date(value)
		switch {
		case there && !ok:
			return &Error{Reason: Malformed, Err: fmt.Errorf("its claim %s is no time", name)}
		case there && begin.After(now.Add(Leeway)):
			return &Error{Reason: NotYet, Err: fmt.Errorf("its time begins at %s (%s)", begin.UTC().Format(time.RFC3339), name)}
		}
	}
	return nil
}

// date reads a NumericDate (RFC 7519, section 2) within the years that a clock
// shows.
func date(v any) (time.Time, bool) {
	number, ok := v.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	seconds, err := number.Float64()
	if err != nil || seconds < 0 || seconds > 1<<38 {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}
