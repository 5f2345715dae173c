package oidc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Flow signs people in at an issuer: the authorization code flow (OpenID Connect
// Core 1.0, section 3.1) with PKCE (RFC 7636, S256) and a nonce. It keeps nothing
// between the two halves; whoever uses it gives the [Attempt] to the browser that
// began it, in a cookie that cannot be changed. It may be used concurrently.
type Flow struct {
	// Issuer, ClientID and Redirect are as they are registered with the issuer.
	Issuer, ClientID, Redirect string
	// Secret is that of the client; nil for a public one.
	Secret func() (string, error)
	// Scopes are asked for besides "openid".
	Scopes   []string
	verifier *Verifier
	client   *http.Client
}

// NewFlow returns f, ready. It does not ask the issuer yet.
func NewFlow(f Flow, opt Options) *Flow {
	f.verifier = New([]Issuer{{URL: f.Issuer, Audiences: []string{f.ClientID}}}, opt)
	f.client = newClient(opt.Transport)
	return &f
}

// Attempt is what has to come back to where a sign-in began.
type Attempt struct {
	State    string `json:"state"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"` // of PKCE
}

// Begin returns where to send the browser, and what it has to bring back.
func (f *Flow) Begin(ctx context.Context) (where string, attempt Attempt, err error) {
	about, err := f.discover(ctx)
	if err != nil {
		return "", attempt, err
	}
	attempt = Attempt{State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text()}
	challenge := sha256.Sum256([]byte(attempt.Verifier))
	u, err := url.Parse(about.Authorization)
	if err != nil {
		return "", attempt, fmt.Errorf("authorization endpoint of %s: %w", f.Issuer, err)
	}
	query := u.Query()
	for key, value := range map[string]string{
		"response_type": "code", "client_id": f.ClientID, "redirect_uri": f.Redirect, "scope": strings.Join(append([]string{"openid"}, f.Scopes...), " "),
		"state": attempt.State, "nonce": attempt.Nonce, "code_challenge": base64.RawURLEncoding.EncodeToString(challenge[:]), "code_challenge_method": "S256",
	} {
		query.Set(key, value)
	}
	u.RawQuery = query.Encode()
	return u.String(), attempt, nil
}

// RefusedError is an issuer that did not sign somebody in, or an answer that is not
// one to what was begun.
type RefusedError struct{ Message string }

func (e *RefusedError) Error() string { return e.Message }

// Finish returns what the issuer says of whom it signed in, from the query with
// which the browser came back and what it brought. An error is a [*RefusedError],
// an [*Error] or one of the way to the issuer.
func (f *Flow) Finish(ctx context.Context, query url.Values, attempt Attempt) (*Token, error) {
	switch {
	case attempt.State == "" || subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(attempt.State)) != 1:
		return nil, &RefusedError{"this is no answer to a sign-in that was begun here"}
	case query.Has("iss") && query.Get("iss") != f.Issuer: // RFC 9207
		return nil, &RefusedError{"the answer is of another issuer"}
	case query.Get("error") != "":
		return nil, &RefusedError{fmt.Sprintf("the issuer says %.100q", query.Get("error"))}
	case query.Get("code") == "":
		return nil, &RefusedError{"the answer has no code"}
	}
	raw, err := f.exchange(ctx, query.Get("code"), attempt.Verifier)
	if err != nil {
		return nil, err
	}
	token, err := f.verifier.Verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	nonce, _ := token.Claims["nonce"].(string)
	if subtle.ConstantTimeCompare([]byte(nonce), []byte(attempt.Nonce)) != 1 {
		return nil, &RefusedError{"the token belongs to another sign-in"}
	}
	if party := token.Claim("azp"); len(token.Audience) > 1 && len(party) == 0 || len(party) > 0 && party[0] != f.ClientID {
		return nil, &RefusedError{"the token was made for another program"}
	}
	return token, nil
}

// endpoints are where an issuer does what.
type endpoints struct {
	Issuer        string `json:"issuer"`
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
}

func (f *Flow) discover(ctx context.Context) (about endpoints, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	keys := keySet{client: f.client}
	if _, err := keys.get(ctx, strings.TrimSuffix(f.Issuer, "/")+"/.well-known/openid-configuration", &about); err != nil {
		return about, err
	}
	if about.Issuer != f.Issuer {
		return about, fmt.Errorf("%s says that it is %.200q", f.Issuer, about.Issuer)
	}
	for _, where := range [...]string{about.Authorization, about.Token} {
		// The query is the issuer's own.
		bare, _, _ := strings.Cut(where, "?")
		if err := CheckURL(bare); err != nil {
			return about, fmt.Errorf("endpoints of %s: %w", f.Issuer, err)
		}
	}
	return about, nil
}

// exchange gets the ID token for a code (RFC 6749, section 4.1.3).
func (f *Flow) exchange(ctx context.Context, code, verifier string) (string, error) {
	about, err := f.discover(ctx)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {f.Redirect}, "code_verifier": {verifier}, "client_id": {f.ClientID},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, about.Token, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if f.Secret != nil {
		secret, err := f.Secret()
		if err != nil {
			return "", err
		}
		req.SetBasicAuth(url.QueryEscape(f.ClientID), url.QueryEscape(secret)) // RFC 6749, section 2.3.1
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return "", fmt.Errorf("%s: %w", about.Token, err)
	}
	var answer struct {
		Token string `json:"id_token"`
		Error string `json:"error"`
	}
	err = json.Unmarshal(data, &answer)
	switch {
	case answer.Error != "":
		return "", &RefusedError{fmt.Sprintf("the issuer says %.100q", answer.Error)}
	case err != nil || resp.StatusCode != http.StatusOK:
		return "", errors.Join(fmt.Errorf("%s answered %s", about.Token, resp.Status), err)
	case answer.Token == "":
		return "", &RefusedError{"the issuer gave no ID token"}
	}
	return answer.Token, nil
}
