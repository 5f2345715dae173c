// Package auth issues and checks the bearer tokens of the hub, which are those
// of flat-manager: JSON Web Tokens signed with HMAC-SHA256 (RFC 7519, RFC 7515)
// whose claims say what the bearer may do. Tokens of an existing flat-manager
// keep working with its secret, and ours work there.
//
// A token grants an action when four things match: the sub (which build), the
// scope (which verb), the ids (which apps) and the repository. The rules are
// methods of [Claims] without any state. docs/formats/tokens.md draws the
// format.
//
// Three things differ from flat-manager, each narrower:
//
//   - A token with apps but without prefixes grants those apps and nothing
//     else; there it grants every id. A token with neither grants every id in
//     both.
//   - A subset is compared by what it grants, so that empty prefixes in a
//     request can not widen a limited token.
//   - A subset whose sub, ids or repositories the caller lacks is refused with
//     the name of what is too much.
package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"freshet/internal/glob"

	"github.com/golang-jwt/jwt/v5"
)

// maxToken bounds the length of a token in bytes.
const maxToken = 16 << 10

// Authority issues and checks the tokens of one secret. The zero value refuses
// every token and issues none. Its methods may be called concurrently; do not
// change the fields meanwhile.
type Authority struct {
	// Secret is the key of the signatures.
	Secret Secret
	// Prefix is a word set before each token that is issued, so that leaked
	// tokens can be recognised ("fm_"). Tokens without it are accepted too.
	Prefix string
	// Revoked knows the tokens taken back; nil means that none are.
	Revoked revocations
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// revocations tells which tokens were taken back.
type revocations interface {
	// UseToken notes that the token with the id jti, which was made for name ("":
	// nobody knows) and ends at expires, is in use now, and reports whether it was
	// revoked.
	UseToken(ctx context.Context, jti, name string, expires time.Time) (revoked bool, err error)
}

// Authenticate returns the claims of the token in an Authorization header
// ("Bearer …"). The error is a [*TokenError] when the token is to blame, and
// another one when the list of revoked tokens can not be read.
func (a *Authority) Authenticate(ctx context.Context, header string) (*Claims, error) {
	if header == "" {
		return nil, invalid("No Authorization header")
	}
	scheme, token, found := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, invalid("Token scheme is not Bearer")
	}
	if token = strings.Trim(token, " "); !found || token == "" {
		return nil, invalid("No token value in header")
	}
	claims, err := a.Parse(token)
	if err != nil {
		return nil, err
	}
	if a.Revoked == nil || claims.ID == "" {
		return claims, nil
	}
	revoked, err := a.Revoked.UseToken(ctx, claims.ID, claims.Name, claims.ExpiresAt())
	if err != nil {
		return nil, fmt.Errorf("look up token %q: %w", claims.ID, err)
	}
	if revoked {
		return nil, invalid("Token has been revoked")
	}
	return claims, nil
}

// Parse returns the claims of a token whose signature is good and that has not
// expired. It does not ask whether the token was revoked. Only HMAC-SHA256 is
// accepted, whatever the token's header demands. The error is a [*TokenError].
func (a *Authority) Parse(token string) (*Claims, error) {
	token = strings.TrimPrefix(token, a.Prefix)
	if len(token) > maxToken {
		return nil, invalid("Token is too long")
	}
	if len(a.Secret) == 0 {
		return nil, invalid("Invalid token claims")
	}
	var claims Claims
	// The claims are validated below: a token without exp reads as expired.
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithoutClaimsValidation(),
	)
	_, err := parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) {
		return []byte(a.Secret), nil
	})
	if err != nil {
		return nil, invalid("Invalid token claims")
	}
	if claims.Expires < a.now().Unix() {
		return nil, invalid("Token is expired")
	}
	return &claims, nil
}

// Issue returns a token with the claims, signed and with the prefix before it.
// It fails when the authority has no secret or the claims have no end.
func (a *Authority) Issue(claims Claims) (string, error) {
	if len(a.Secret) == 0 {
		return "", errors.New("issue token: there is no secret")
	}
	if claims.Expires <= 0 {
		return "", errors.New("issue token: it would have no end")
	}
	// flat-manager writes lists, never null.
	for _, list := range []*[]string{&claims.Prefixes, &claims.Apps, &claims.Repos, &claims.Branches} {
		*list = append([]string{}, *list...)
	}
	claims.Scope = append([]Scope{}, claims.Scope...)
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, &claims).SignedString([]byte(a.Secret))
	if err != nil {
		return "", fmt.Errorf("issue token: %w", err)
	}
	if len(token) > maxToken {
		return "", fmt.Errorf("issue token: its %d bytes are more than the %d that are accepted", len(token), maxToken)
	}
	return a.Prefix + token, nil
}

func (a *Authority) now() time.Time {
	if a.Now != nil {
		return a.Now()
	}
	return time.Now()
}

// TokenError says why a token does not let its bearer in. Its text is
// flat-manager's.
type TokenError struct {
	// Insufficient is false when the token itself is bad (HTTP 401,
	// invalid-token), and true when it is good but does not grant what was
	// asked for (403, token-insufficient).
	Insufficient bool
	Message      string
}

func (e *TokenError) Error() string { return e.Message }

func invalid(message string) error { return &TokenError{Message: message} }

func insufficient(format string, args ...any) error {
	return &TokenError{Insufficient: true, Message: "Not enough permissions: " + fmt.Sprintf(format, args...)}
}

// Scope is a verb that a token grants.
type Scope string

// The scopes of flat-manager. Tokens may carry others, which grant nothing.
const (
	ScopeJobs            Scope = "jobs"
	ScopeBuild           Scope = "build"
	ScopeUpload          Scope = "upload"
	ScopePublish         Scope = "publish"
	ScopeGenerate        Scope = "generate"
	ScopeDownload        Scope = "download"
	ScopeRepublish       Scope = "republish"
	ScopeReviewCheck     Scope = "reviewcheck"
	ScopeTokenManagement Scope = "tokenmanagement"
	// ScopeNode, which flat-manager does not know, lets a follower of the event
	// log report how far it has come, and see how far others have.
	ScopeNode Scope = "node"
)

// Scopes returns all scopes that have a meaning.
func Scopes() []Scope {
	return []Scope{
		ScopeJobs, ScopeBuild, ScopeUpload, ScopePublish, ScopeGenerate,
		ScopeDownload, ScopeRepublish, ScopeReviewCheck, ScopeTokenManagement,
		ScopeNode,
	}
}

// Claims is what a token says. The zero value grants nothing.
type Claims struct {
	// Sub is the subject: "build" for all builds, "build/7" for one, "" for
	// the management of tokens.
	Sub string `json:"sub"`
	// Expires is the last second at which the token is good, since 1970.
	Expires int64 `json:"exp"`
	// ID names the token for revocation. Optional.
	ID string `json:"jti,omitempty"`
	// Name says for whom it was made; it is what logs show.
	Name string `json:"name,omitempty"`
	// Scope are the verbs.
	Scope []Scope `json:"scope"`
	// Prefixes and Apps are the ids granted: "org.a" as a prefix grants org.a
	// and org.a.*, "" every id; as an app it grants org.a alone. When both are
	// empty, every id is granted.
	Prefixes []string `json:"prefixes"`
	Apps     []string `json:"apps"`
	// Repos are the repositories; "" means all. When empty, none.
	Repos []string `json:"repos"`
	// PushBranches limit the refs of applications and runtimes that are uploaded,
	// published and taken back to branches that match one of these patterns, of
	// [glob.Match]. nil is no limit, an empty list is no branch. flat-manager does
	// not know it.
	PushBranches []string `json:"push_branches,omitzero"`
	// Branches and TokenType are carried for older programs and grant or
	// forbid nothing.
	Branches  []string `json:"branches"`
	TokenType string   `json:"token_type,omitempty"`
}

// ExpiresAt returns when the token ends.
func (c *Claims) ExpiresAt() time.Time { return time.Unix(c.Expires, 0) }

// Allow checks that the token grants the scope on the subject. A claimed sub of
// "build" covers "build" and "build/7", "build/7" covers "build/7/…", and ""
// covers only "". The error is a [*TokenError].
func (c *Claims) Allow(sub string, scope Scope) error {
	if !subCovers(c.Sub, sub) {
		return insufficient("Not matching sub '%s' in token", sub)
	}
	if !c.Has(scope) {
		return insufficient("Not matching scope '%s' in token", scope)
	}
	return nil
}

// Has tells whether the token carries the scope.
func (c *Claims) Has(scope Scope) bool { return slices.Contains(c.Scope, scope) }

// AllowID checks that the token grants the id of an app or runtime. The error
// is a [*TokenError].
func (c *Claims) AllowID(id string) error {
	if slices.Contains(c.Apps, id) || prefixesCover(c.prefixes(), id) {
		return nil
	}
	return insufficient("Id %s not matching prefix in token", id)
}

// AllowEveryID checks that no id is outside of what the token grants. The error
// is a [*TokenError].
func (c *Claims) AllowEveryID() error {
	if slices.Contains(c.prefixes(), "") {
		return nil
	}
	return insufficient("Token does not have a global prefix")
}

// AllowRepo checks that the token grants the repository. The error is a
// [*TokenError].
func (c *Claims) AllowRepo(repo string) error {
	if slices.Contains(c.Repos, "") || slices.Contains(c.Repos, repo) {
		return nil
	}
	return insufficient("Not matching repo in token")
}

// AllowBranch checks that the token's limit of branches, if it has one, leaves
// refs of the branch to its bearer. The error is a [*TokenError].
func (c *Claims) AllowBranch(branch string) error {
	if c.AllowEveryBranch() == nil {
		return nil
	}
	if glob.MatchAny(c.PushBranches, branch) {
		return nil
	}
	return insufficient("Branch %s not matching push_branches in token", branch)
}

// AllowEveryBranch checks that the token has no limit of branches. The error is
// a [*TokenError].
func (c *Claims) AllowEveryBranch() error {
	if c.PushBranches == nil {
		return nil
	}
	return insufficient("Token is limited to some branches")
}

// prefixes returns the prefixes with the meaning of an empty list spelt out.
func (c *Claims) prefixes() []string {
	if len(c.Prefixes) == 0 && len(c.Apps) == 0 {
		return []string{""}
	}
	return c.Prefixes
}

func subCovers(claimed, sub string) bool {
	if claimed == "" {
		return sub == ""
	}
	rest, ok := strings.CutPrefix(sub, claimed)
	return ok && (rest == "" || rest[0] == '/')
}

func prefixesCover(prefixes []string, id string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool {
		rest, ok := strings.CutPrefix(id, prefix)
		return ok && (prefix == "" || rest == "" || rest[0] == '.')
	})
}

// The methods of [jwt.Claims]. Validity is checked in Parse, by our own rules.

// GetExpirationTime implements [jwt.Claims].
func (c *Claims) GetExpirationTime() (*jwt.NumericDate, error) {
	return jwt.NewNumericDate(c.ExpiresAt()), nil
}

// GetIssuedAt implements [jwt.Claims].
func (c *Claims) GetIssuedAt() (*jwt.NumericDate, error) { return nil, nil } //nolint:nilnil // the interface's way to say absent

// GetNotBefore implements [jwt.Claims].
func (c *Claims) GetNotBefore() (*jwt.NumericDate, error) { return nil, nil } //nolint:nilnil // the interface's way to say absent

// GetIssuer implements [jwt.Claims].
func (c *Claims) GetIssuer() (string, error) { return "", nil }

// GetSubject implements [jwt.Claims].
func (c *Claims) GetSubject() (string, error) { return c.Sub, nil }

// GetAudience implements [jwt.Claims].
func (c *Claims) GetAudience() (jwt.ClaimStrings, error) { return nil, nil }
