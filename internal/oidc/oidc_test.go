package oidc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"freshet/internal/oidc"
	"freshet/internal/oidc/oidctest"
)

const audience = "https://hub.example.org"

// clock is one that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func start(t testing.TB) (*oidctest.Issuer, *oidc.Verifier, *clock) {
	t.Helper()
	c := &clock{now: time.Now()}
	issuer := oidctest.New(t)
	issuer.Now = c.Now
	return issuer, oidc.New([]oidc.Issuer{{URL: issuer.URL, Audiences: []string{audience}}}, oidc.Options{Now: c.Now}), c
}

// reason is why a token is refused, "" when it is good.
func reason(t *testing.T, v *oidc.Verifier, token string) oidc.Reason {
	t.Helper()
	_, err := v.Verify(t.Context(), token)
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*oidc.Error](err)
	if !ok {
		t.Fatalf("%v is no *oidc.Error", err)
	}
	return e.Reason
}

func TestGoodTokens(t *testing.T) {
	issuer, v, _ := start(t)
	for _, key := range []string{"rsa", "ec", "ed"} {
		claims := issuer.Claims(audience, map[string]any{"repository": "example/app", "run": json.Number("12345678901234567"), "list": []any{"a", "b"}, "flag": true})
		got, err := v.Verify(t.Context(), issuer.Token(key, claims))
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		if got.Issuer != issuer.URL || got.Subject != claims["sub"] || got.ID != claims["jti"] || got.Expires.Unix() != claims["exp"] || !slices.Equal(got.Audience, []string{audience}) {
			t.Errorf("%+v", got)
		}
		for name, want := range map[string][]string{"repository": {"example/app"}, "run": {"12345678901234567"}, "list": {"a", "b"}, "flag": {"true"}, "absent": nil} {
			if got := got.Claim(name); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
	if n := issuer.Fetched(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

func TestRefusedClaims(t *testing.T) {
	issuer, v, c := start(t)
	at := func(d time.Duration) int64 { return c.Now().Add(d).Unix() }
	for name, test := range map[string]struct {
		change map[string]any
		want   oidc.Reason
	}{
		"several audiences":      {map[string]any{"aud": []string{"other", audience}}, ""},
		"another audience":       {map[string]any{"aud": "https://pypi.org"}, oidc.BadAudience},
		"part of the audience":   {map[string]any{"aud": audience + "/"}, oidc.BadAudience},
		"no audience":            {map[string]any{"aud": nil}, oidc.BadAudience},
		"expired":                {map[string]any{"exp": at(-61 * time.Second)}, oidc.Expired},
		"expired, within leeway": {map[string]any{"exp": at(-50 * time.Second)}, ""},
		"no end":                 {map[string]any{"exp": nil}, oidc.Malformed},
		"end as text":            {map[string]any{"exp": "tomorrow"}, oidc.Malformed},
		"end far away":           {map[string]any{"exp": at(25 * time.Hour)}, oidc.TooLong},
		"end beyond all":         {map[string]any{"exp": 1e300}, oidc.Malformed},
		"not yet":                {map[string]any{"nbf": at(61 * time.Second)}, oidc.NotYet},
		"not yet, within leeway": {map[string]any{"nbf": at(50 * time.Second)}, ""},
		"begin as text":          {map[string]any{"nbf": "now"}, oidc.Malformed},
		"of the future":          {map[string]any{"iat": at(2 * time.Minute)}, oidc.NotYet},
		"without nbf and iat":    {map[string]any{"nbf": nil, "iat": nil}, ""},
		"no subject":             {map[string]any{"sub": nil}, oidc.Malformed},
		"no id":                  {map[string]any{"jti": nil}, ""},
		"number as id":           {map[string]any{"jti": 7}, oidc.Malformed},
		"another issuer":         {map[string]any{"iss": "https://evil.example.org"}, oidc.UnknownIssuer},
		"issuer with a slash":    {map[string]any{"iss": issuer.URL + "/"}, oidc.UnknownIssuer},
		"issuer in capitals":     {map[string]any{"iss": nil, "ISS": issuer.URL}, oidc.UnknownIssuer},
		"no issuer":              {map[string]any{"iss": nil}, oidc.UnknownIssuer},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reason(t, v, issuer.Token("ec", issuer.Claims(audience, test.change))); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// publicKey is the issuer's RSA key as whoever wants to forge tokens has it.
func publicKey(t *testing.T, issuer *oidctest.Issuer) (jose.JSONWebKey, []byte) {
	t.Helper()
	resp, err := http.Get(issuer.URL + "/keys")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var set jose.JSONWebKeySet
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(set.Key("rsa")[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	return set.Key("rsa")[0], pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestForgedTokens(t *testing.T) {
	issuer, v, _ := start(t)
	claims := issuer.Claims(audience, nil)
	good := issuer.Token("rsa", claims)
	parts := strings.Split(good, ".")
	raw := func(header string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + parts[1] + "."
	}
	key, text := publicKey(t, issuer)
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ownEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: own, KeyID: "rsa"}}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	withKey, err := embedded.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	bringsKey, err := withKey.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	changed := issuer.Claims(audience, map[string]any{"repository": "example/other"})
	other, err := json.Marshal(changed)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		token string
		want  oidc.Reason
	}{
		"alg none":             {raw(`{"alg":"none"}`), oidc.BadAlgorithm},
		"alg None":             {raw(`{"alg":"None","kid":"rsa"}`), oidc.BadAlgorithm},
		"no alg":               {raw(`{"kid":"rsa"}`), oidc.BadAlgorithm},
		"public key as secret": {oidctest.Sign(t, jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: text, KeyID: "rsa"}}, claims), oidc.BadAlgorithm},
		"modulus as secret":    {oidctest.Sign(t, jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: key.Key.(*rsa.PublicKey).N.Bytes(), KeyID: "rsa"}}, claims), oidc.BadAlgorithm},
		"another RSA scheme":   {oidctest.Sign(t, jose.SigningKey{Algorithm: jose.PS256, Key: jose.JSONWebKey{Key: own, KeyID: "rsa"}}, claims), oidc.BadAlgorithm},
		"own key, its id":      {oidctest.Sign(t, jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: own, KeyID: "rsa"}}, claims), oidc.BadSignature},
		"own key in the token": {bringsKey, oidc.BadSignature},
		"RSA key for ES256":    {oidctest.Sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: ownEC, KeyID: "rsa"}}, claims), oidc.UnknownKey},
		"claims changed":       {parts[0] + "." + base64.RawURLEncoding.EncodeToString(other) + "." + parts[2], oidc.BadSignature},
		"signature cut":        {parts[0] + "." + parts[1] + "." + parts[2][:20], oidc.BadSignature},
		"no signature":         {parts[0] + "." + parts[1] + ".", oidc.BadSignature},
		"two parts":            {parts[0] + "." + parts[1], oidc.Malformed},
		"empty":                {"", oidc.Malformed},
		"JSON":                 {`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, oidc.Malformed},
		"claims are a list":    {oidctest.Sign(t, jose.SigningKey{Algorithm: jose.RS256, Key: own}, nil), oidc.Malformed},
		"too long":             {strings.Repeat("a", oidc.MaxToken+1), oidc.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reason(t, v, test.token); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	if got := reason(t, v, good); got != "" {
		t.Errorf("the good one: %q", got)
	}
}

// A new key is found at once, and whatever tokens come, keys are fetched again only
// after a pause that grows.
func TestRotation(t *testing.T) {
	issuer, v, c := start(t)
	good := func(key string) string { return issuer.Token(key, issuer.Claims(audience, nil)) }
	if got := reason(t, v, good("ec")); got != "" {
		t.Fatal(got)
	}
	c.advance(10 * time.Second)
	issuer.AddKey("new", jose.ES256)
	if got := reason(t, v, good("new")); got != "" || issuer.Fetched() != 2 {
		t.Errorf("the new key: %q after %d fetches", got, issuer.Fetched())
	}
	issuer.DropKey("ec")
	old := oidctest.Sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: mustEC(t), KeyID: "never"}}, issuer.Claims(audience, nil))
	for range 100 {
		if got := reason(t, v, old); got != oidc.UnknownKey {
			t.Fatal(got)
		}
	}
	if n := issuer.Fetched(); n != 2 {
		t.Errorf("within the pause the keys were fetched %d times more", n-2)
	}
	// Half an hour of such tokens: the pause is a minute in the end.
	before := issuer.Fetched()
	for range 1800 {
		c.advance(time.Second)
		_ = reason(t, v, old)
	}
	if n := issuer.Fetched() - before; n < 25 || n > 40 {
		t.Errorf("the keys were fetched %d times in half an hour", n)
	}
	// What was dropped is not used any more.
	if got := reason(t, v, oidctest.Sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: mustEC(t), KeyID: "ec"}}, issuer.Claims(audience, nil))); got != oidc.UnknownKey {
		t.Errorf("a dropped key: %q", got)
	}
}

func mustEC(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Known keys are used for a day while the issuer is away, and are fetched when it is
// back.
func TestIssuerAway(t *testing.T) {
	issuer, v, c := start(t)
	away := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	good := func() string { return issuer.Token("ec", issuer.Claims(audience, nil)) }
	issuer.Instead(away)
	if got := reason(t, v, good()); got != oidc.Away {
		t.Errorf("never reached: %q", got)
	}
	issuer.Instead(nil)
	if got := reason(t, v, good()); got != oidc.Away {
		t.Errorf("within the pause: %q", got)
	}
	c.advance(10 * time.Second)
	if got := reason(t, v, good()); got != "" {
		t.Errorf("back: %q", got)
	}
	issuer.Instead(away)
	c.advance(23 * time.Hour)
	if got := reason(t, v, good()); got != "" {
		t.Errorf("away for 23 hours: %q", got)
	}
	c.advance(2 * time.Hour)
	if got := reason(t, v, good()); got != oidc.Away {
		t.Errorf("away for 25 hours: %q", got)
	}
	issuer.Instead(nil)
	c.advance(2 * time.Minute)
	if got := reason(t, v, good()); got != "" {
		t.Errorf("back again: %q", got)
	}
}

// What an issuer answers cannot take memory, lead elsewhere or bring in secrets.
func TestBadDocuments(t *testing.T) {
	secret := `{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"ec","alg":"ES256"}]}`
	for name, answer := range map[string]func(issuer *oidctest.Issuer) http.HandlerFunc{
		"no JSON": func(*oidctest.Issuer) http.HandlerFunc { return text("<html>") },
		"too large": func(*oidctest.Issuer) http.HandlerFunc {
			return text(`{"keys":["` + strings.Repeat("a", 300<<10) + `"]}`)
		},
		"another issuer": func(i *oidctest.Issuer) http.HandlerFunc {
			return text(`{"issuer":"https://other.example.org","jwks_uri":"` + i.URL + `/keys"}`)
		},
		"keys by plain HTTP": func(i *oidctest.Issuer) http.HandlerFunc {
			return text(`{"issuer":"` + i.URL + `","jwks_uri":"http://keys.example.org/keys"}`)
		},
		"redirect": func(i *oidctest.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, i.URL+"/elsewhere", http.StatusFound)
			}
		},
		"secrets": func(i *oidctest.Issuer) http.HandlerFunc { return keys(i, secret) },
		"no keys": func(i *oidctest.Issuer) http.HandlerFunc { return keys(i, `{"keys":[]}`) },
		"too many keys": func(i *oidctest.Issuer) http.HandlerFunc {
			return keys(i, `{"keys":[`+strings.TrimSuffix(strings.Repeat(`{},`, 65), ",")+`]}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			issuer, v, _ := start(t)
			issuer.Instead(answer(issuer))
			if got := reason(t, v, issuer.Token("ec", issuer.Claims(audience, nil))); got != oidc.Away {
				t.Errorf("%q", got)
			}
		})
	}
	// A key of a kind that is not known does not hide the others.
	issuer, v, _ := start(t)
	resp, err := http.Get(issuer.URL + "/keys")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	set.Keys = append([]json.RawMessage{json.RawMessage(`{"kty":"future","kid":"x"}`), json.RawMessage(`7`)}, set.Keys...)
	document, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	issuer.Instead(keys(issuer, string(document)))
	if got := reason(t, v, issuer.Token("ec", issuer.Claims(audience, nil))); got != "" {
		t.Errorf("beside an unknown kind: %q", got)
	}
}

func text(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, answer) }
}

func keys(i *oidctest.Issuer, document string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			_, _ = fmt.Fprint(w, document)
			return
		}
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, i.URL, i.URL+"/keys")
	}
}

// Many first tokens at once are one fetch.
func TestFetchIsShared(t *testing.T) {
	issuer, v, _ := start(t)
	token := issuer.Token("ed", issuer.Claims(audience, nil))
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if _, err := v.Verify(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := issuer.Fetched(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

func TestCheckURL(t *testing.T) {
	for url, want := range map[string]bool{
		"https://token.actions.githubusercontent.com": true, "https://gitlab.com": true, "http://127.0.0.1:8080/x": true, "http://[::1]:80": true, "http://localhost": true,
		"http://issuer.example.org": false, "": false, "https://": false, "https://a/?b": false, "https://u@a": false, "ftp://a": false, "https://a#b": false,
	} {
		if err := oidc.CheckURL(url); (err == nil) != want {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	issuer, v, _ := start(f)
	for _, key := range []string{"rsa", "ec", "ed"} {
		f.Add(issuer.Token(key, issuer.Claims(audience, nil)))
	}
	f.Add("e30.e30.")
	good := issuer.Token("ec", issuer.Claims(audience, nil))
	f.Add(good[:len(good)-4])
	f.Fuzz(func(t *testing.T, token string) {
		got, err := v.Verify(t.Context(), token)
		if e, ok := errors.AsType[*oidc.Error](err); err != nil && (!ok || e.Reason == "" || got != nil && e.Reason == "") {
			t.Errorf("%v", err)
		}
		if err == nil && (got.Issuer != issuer.URL || got.Subject == "") {
			t.Errorf("%+v", got)
		}
	})
}
