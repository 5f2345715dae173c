package directorapi

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Paths of the desired states of mirrors; docs/mirror-fleet.md is the manual.
const (
	// DesiredPath is a [DesiredList]: GET it (right read).
	DesiredPath = Prefix + "/desired"
	// RedeemPath takes a [Redemption] by POST, and answers with a [Redeemed]. The claim is
	// all that is needed.
	RedeemPath = Prefix + "/redeem"
)

// DesiredOf is the path of what is desired of a mirror: GET is a [Desired], with the
// parameter version an older one (right read); PUT takes a [DesiredChange] and answers
// with a [Desired] (right write).
func DesiredOf(mirror string) string { return DesiredPath + "/" + mirror }

// Below the path of [DesiredOf].
const (
	// DesiredHistory is a [DesiredVersions]: GET it (right read).
	DesiredHistory = "/history"
	// DesiredFollow is a [SignedDesired]: GET it with the mirror's own token. The parameter after
	// is the version that the mirror knows: without a newer one the answer is 204, after the
	// time that wait says.
	DesiredFollow = "/follow"
	// DesiredApplied takes an [Applied] by POST, with the mirror's own token.
	DesiredApplied = "/applied"
	// DesiredClaim takes a [ClaimRequest] by POST and answers with a [ClaimAnswer] (right
	// write).
	DesiredClaim = "/claim"
)

// RightFollow is that of a mirror to read its desired state, and to say what it makes of it.
// Its own token has it.
const RightFollow = "follow"

// MaxDesired bounds the settings of a desired state, in bytes.
const MaxDesired = 256 << 10

// maxSigned bounds a signed desired state as it comes over the network.
const maxSigned = 2 << 20

// Desired is a version of what is desired of a mirror.
type Desired struct {
	Mirror string `json:"mirror"`
	// Version is 1 and more, higher than all before; 0: nothing was ever desired.
	Version int64     `json:"version"`
	Made    time.Time `json:"made,omitzero"`
	// By is who made it.
	By string `json:"by,omitempty"`
	// Settings are TOML, tables of a mirror's file.
	Settings string `json:"settings"`
}

// DesiredChange is what somebody desires of a mirror.
type DesiredChange struct {
	Settings string `json:"settings"`
	Note     string `json:"note,omitempty"`
	// Version is the one that it becomes, if it must be higher than by itself: after the director has
	// lost versions that mirrors know. 0: the next.
	Version int64 `json:"version,omitempty"`
	// Check only says what is wrong with it.
	Check bool `json:"check,omitempty"`
}

// DesiredVersion is an entry of the history.
type DesiredVersion struct {
	Version int64     `json:"version"`
	Made    time.Time `json:"made"`
	By      string    `json:"by"`
	Note    string    `json:"note,omitempty"`
}

// DesiredVersions are the versions of a mirror, newest first.
type DesiredVersions struct {
	Versions []DesiredVersion `json:"versions"`
}

// DesiredList says of each mirror what is desired, and what it works by.
type DesiredList struct {
	// Key is the public key that signs: "ed25519:BASE64".
	Key     string          `json:"key"`
	Mirrors []DesiredStatus `json:"mirrors"`
}

// DesiredStatus is how far a mirror is.
type DesiredStatus struct {
	Mirror string `json:"mirror"`
	// Version is the newest that is desired; 0: none.
	Version int64 `json:"version"`
	// Applied is what the mirror has said last; zero: nothing yet. Heard is when.
	Applied Applied   `json:"applied"`
	Heard   time.Time `json:"heard,omitzero"`
	// Claim says whether there is a claim: "", "open", "expired" or "redeemed".
	Claim string `json:"claim,omitempty"`
}

// Applied is what a mirror makes of its desired states.
type Applied struct {
	// Version is the one that it works by; 0: none.
	Version int64 `json:"version"`
	// Refused is a newer one that it does not take, and Why; 0: none.
	Refused int64  `json:"refused,omitempty"`
	Why     string `json:"why,omitempty"`
}

// SignedDesired is a desired state that can be passed on: Text is a [Desired] in JSON, and
// Signature that of Ed25519 over the line "freshet desired state v1", a line feed, and Text.
type SignedDesired struct {
	Text      string `json:"text"`
	Signature []byte `json:"signature"`
}

const desiredContext = "freshet desired state v1\n"

// Sign signs a desired state.
func (d Desired) Sign(key ed25519.PrivateKey) (SignedDesired, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return SignedDesired{}, err
	}
	return SignedDesired{Text: string(text), Signature: ed25519.Sign(key, []byte(desiredContext+string(text)))}, nil
}

// Why a desired state is not taken.
var (
	ErrDesiredSignature = errors.New("the key that is pinned has not signed it")
	ErrDesiredMirror    = errors.New("it is that of another mirror")
)

// Open returns a desired state of the mirror that the key has signed. What it says is not looked at
// before that.
func (s SignedDesired) Open(key ed25519.PublicKey, mirror string) (d Desired, err error) {
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, []byte(desiredContext+s.Text), s.Signature) {
		return d, ErrDesiredSignature
	}
	decoder := json.NewDecoder(strings.NewReader(s.Text))
	decoder.DisallowUnknownFields() // who signs it knows what mirrors of its version do
	if err := decoder.Decode(&d); err != nil {
		return Desired{}, fmt.Errorf("desired state: %w", err)
	}
	switch {
	case d.Mirror != mirror:
		return Desired{}, fmt.Errorf("%w: %q", ErrDesiredMirror, d.Mirror)
	case d.Version < 1:
		return Desired{}, fmt.Errorf("desired state: %d is no version", d.Version)
	}
	return d, nil
}

const publicPrefix = "ed25519:"

// FormatKey is a public key as settings have it: "ed25519:BASE64".
func FormatKey(key ed25519.PublicKey) string {
	return publicPrefix + base64.StdEncoding.EncodeToString(key)
}

// ParseKey reads what [FormatKey] returns.
func ParseKey(text string) (ed25519.PublicKey, error) {
	rest, ok := strings.CutPrefix(text, publicPrefix)
	key, err := base64.StdEncoding.DecodeString(rest)
	if !ok || err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("want a public key like %sBASE64, got %.80q", publicPrefix, text)
	}
	return key, nil
}

// Claim is what a new box needs to become a mirror. As a string it is one word of letters, digits, "_" and
// "-" (docs/formats/claim.md).
type Claim struct {
	// URL is that of the director's admin listener, Mirror the name in its catalogue.
	URL    string `json:"url"`
	Mirror string `json:"mirror"`
	// Secret is good once.
	Secret string `json:"secret"`
	// Key is the public key that signs desired states, as [FormatKey] has it.
	Key string `json:"key"`
}

const (
	claimPrefix = "fc1_"
	claimSum    = 4 // bytes of a SHA-256
	maxClaim    = 4096
)

// String is the claim in one word.
func (c Claim) String() string {
	text, _ := json.Marshal(c) //nolint:gosec // G117: a claim is a secret, and marked as one; strings
	sum := sha256.Sum256(text)
	return claimPrefix + base64.RawURLEncoding.EncodeToString(append(text, sum[:claimSum]...))
}

// ParseClaim reads what [Claim.String] returns. The secret is not part of errors.
func ParseClaim(word string) (c Claim, err error) {
	word = strings.TrimSpace(word)
	rest, ok := strings.CutPrefix(word, claimPrefix)
	if !ok || len(word) > maxClaim {
		return c, fmt.Errorf("that is no claim: one begins with %q, as freshet director mirror claim prints it", claimPrefix)
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || len(data) < claimSum {
		return c, errors.New("the claim is not whole: copy all of it")
	}
	text, tail := data[:len(data)-claimSum], data[len(data)-claimSum:]
	if sum := sha256.Sum256(text); !bytes.Equal(sum[:claimSum], tail) {
		return c, errors.New("the claim is mistyped or not whole: its checksum is another one")
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return Claim{}, errors.New("the claim is of another version of Freshet: its content cannot be read")
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || c.Mirror == "" || c.Secret == "" {
		return Claim{}, errors.New("the claim is not whole: it names no director, no mirror or no secret")
	}
	if strings.ContainsFunc(c.URL+c.Mirror+c.Secret+c.Key, unicode.IsControl) { // they become lines of a configuration
		return Claim{}, errors.New("there are control characters in the claim: no director makes such ones")
	}
	if _, err := ParseKey(c.Key); err != nil {
		return Claim{}, fmt.Errorf("the key of the claim: %w", err)
	}
	return c, nil
}

// ClaimRequest asks for a claim.
type ClaimRequest struct {
	// Seconds is how long it is good.
	Seconds int64 `json:"seconds"`
}

// ClaimAnswer has what a claim is made of besides the URL of the director.
type ClaimAnswer struct {
	Mirror  string    `json:"mirror"`
	Secret  string    `json:"secret"`
	Key     string    `json:"key"`
	Expires time.Time `json:"expires"`
}

// Redemption is a box that shows its claim.
type Redemption struct {
	Mirror string `json:"mirror"`
	Secret string `json:"secret"`
	// Token is the SHA-256 of the token that the box has made for itself: "sha256:HEX". Who shows the
	// claim again with the same one gets the same answer.
	Token string `json:"token"`
}

// Redeemed is what a box gets for its claim.
type Redeemed struct {
	Mirror string `json:"mirror"`
	// Desired is the newest desired state; nil: none yet.
	Desired *SignedDesired `json:"desired,omitempty"`
}

// Desired returns what is desired of a mirror; version 0: the newest.
func (c *Client) Desired(ctx context.Context, mirror string, version int64) (d Desired, err error) {
	query := make(url.Values)
	if version > 0 {
		query.Set("version", strconv.FormatInt(version, 10))
	}
	err = c.get(ctx, DesiredOf(url.PathEscape(mirror)), query, &d)
	return d, err
}

// SetDesired says what is desired of a mirror from now on.
func (c *Client) SetDesired(ctx context.Context, mirror string, change DesiredChange) (d Desired, err error) {
	_, err = c.send(ctx, http.MethodPut, DesiredOf(url.PathEscape(mirror)), nil, nil, change, &d)
	return d, err
}

// DesiredHistory returns the versions of a mirror, newest first.
func (c *Client) DesiredHistory(ctx context.Context, mirror string) (v DesiredVersions, err error) {
	err = c.get(ctx, DesiredOf(url.PathEscape(mirror))+DesiredHistory, nil, &v)
	return v, err
}

// DesiredList returns how far all mirrors are.
func (c *Client) DesiredList(ctx context.Context) (l DesiredList, err error) {
	err = c.get(ctx, DesiredPath, nil, &l)
	return l, err
}

// Claim makes a claim for a mirror. The one before is good no longer.
func (c *Client) Claim(ctx context.Context, mirror string, good time.Duration) (a ClaimAnswer, err error) {
	_, err = c.send(ctx, http.MethodPost, DesiredOf(url.PathEscape(mirror))+DesiredClaim, nil, nil, ClaimRequest{Seconds: int64(good / time.Second)}, &a)
	return a, err
}

// Redeem shows a claim. The answer is not checked.
func (c *Client) Redeem(ctx context.Context, r Redemption) (a Redeemed, err error) {
	err = c.sendBounded(ctx, http.MethodPost, RedeemPath, nil, r, &a)
	return a, err
}

// FollowDesired waits for a desired state that is newer than after, for about so long. It is nil
// if there is none. It is not checked.
func (c *Client) FollowDesired(ctx context.Context, mirror string, after int64, wait time.Duration) (*SignedDesired, error) {
	query := url.Values{"after": {strconv.FormatInt(after, 10)}, "wait": {wait.String()}}
	var s SignedDesired
	if err := c.sendBounded(ctx, http.MethodGet, DesiredOf(url.PathEscape(mirror))+DesiredFollow, query, nil, &s); err != nil {
		return nil, err
	}
	if s.Text == "" {
		return nil, nil //nolint:nilnil // as documented
	}
	return &s, nil
}

// TellApplied says what the mirror makes of its desired states.
func (c *Client) TellApplied(ctx context.Context, mirror string, a Applied) error {
	return c.sendBounded(ctx, http.MethodPost, DesiredOf(url.PathEscape(mirror))+DesiredApplied, nil, a, nil)
}

// sendBounded is [Client.send] for answers of somebody who is not trusted with memory.
func (c *Client) sendBounded(ctx context.Context, method, path string, query url.Values, in, out any) error {
	bounded := *c
	bounded.limit = maxSigned
	_, err := bounded.send(ctx, method, path, query, nil, in, out)
	return err
}
