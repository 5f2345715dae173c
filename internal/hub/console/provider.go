package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/oidc"
)

const (
	// attemptName is the cookie that holds what a sign-in at a provider has to bring
	// back, and attemptLife for how long.
	attemptName = "freshet-hub-signin"
	attemptLife = 10 * time.Minute
)

// Provider is somebody at whom people sign in.
type Provider struct {
	// Name is in URLs, Title on the button.
	Name, Title string
	Flow        *oidc.Flow
	// Claims are what somebody may do, by what the provider says of them; none is
	// nobody of ours. How long they are good does not matter.
	Claims func(token *oidc.Token) []auth.Claims
}

// attempt is what the cookie holds.
type attempt struct {
	oidc.Attempt
	Provider string `json:"provider"`
	Next     string `json:"next"`
	Expires  int64  `json:"expires"`
}

func (c *Console) provider(r *http.Request) (Provider, error) {
	for _, p := range c.Providers {
		if p.Name == r.PathValue("provider") {
			return p, nil
		}
	}
	return Provider{}, refuse(hubapi.ErrNotFound, http.StatusNotFound, "nobody signs in at %.40q here", r.PathValue("provider"))
}

// beginAt sends the browser to a provider.
func (c *Console) beginAt(w http.ResponseWriter, r *http.Request) error {
	p, err := c.provider(r)
	if err != nil {
		return err
	}
	where, begun, err := p.Flow.Begin(r.Context())
	if err != nil {
		return c.providerAway(r, p, err)
	}
	text, err := json.Marshal(attempt{begun, p.Name, nextOf(r.URL.Query().Get("next")), c.Now().Add(attemptLife).Unix()})
	if err != nil {
		return err
	}
	c.setAttempt(w, r, c.seal(text), int(attemptLife.Seconds()))
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, where, http.StatusSeeOther)
	return nil
}

// backFrom takes who comes back from a provider.
func (c *Console) backFrom(w http.ResponseWriter, r *http.Request) error {
	p, err := c.provider(r)
	if err != nil {
		return err
	}
	begun := c.attemptOf(r, p.Name)
	c.setAttempt(w, r, "", -1)
	token, err := p.Flow.Finish(r.Context(), r.URL.Query(), begun.Attempt)
	_, refused := errors.AsType[*oidc.RefusedError](err)
	if e, bad := errors.AsType[*oidc.Error](err); refused || bad && e.Reason != oidc.Away {
		_ = c.Hub.Fail(w, r, refuse(hubapi.ErrInvalidToken, http.StatusUnauthorized, "%s", err))
		return c.signInPage(w, r, http.StatusUnauthorized, "Signing in with "+p.Title+" did not work: "+err.Error()+".", nextOf(begun.Next))
	}
	if err != nil {
		return c.providerAway(r, p, err)
	}
	claims := c.claimsOf(p, token)
	if len(claims) == 0 {
		_ = c.Hub.Fail(w, r, refuse(hubapi.ErrInsufficient, http.StatusForbidden, "%s has no rights here", token.Subject))
		return c.signInPage(w, r, http.StatusForbidden, "You are known to "+p.Title+", but nobody has given you rights on this hub.", nextOf(begun.Next))
	}
	for _, one := range claims {
		if good, err := c.good(r.Context(), one); err != nil {
			return err
		} else if !good {
			_ = c.Hub.Fail(w, r, refuse(hubapi.ErrInsufficient, http.StatusForbidden, "%s was revoked", one.ID))
			return c.signInPage(w, r, http.StatusForbidden, "Your rights on this hub were revoked.", nextOf(begun.Next))
		}
	}
	if err := c.Begin(w, r, claims...); err != nil {
		return err
	}
	// The browser comes from another site, and would keep the new cookie back if it
	// were led on at once.
	frame := c.frame(nil, "", "One moment")
	frame.GoTo = nextOf(begun.Next)
	return c.pages.Render(w, http.StatusOK, "bounce", frame, frame.GoTo)
}

// claimsOf are those of a session that a provider vouches for. They have an id that
// names the person, so that they can be revoked as tokens are.
func (c *Console) claimsOf(p Provider, token *oidc.Token) (all []*auth.Claims) {
	for _, claims := range p.Claims(token) {
		claims.ID = "oidc:" + p.Name + ":" + token.Subject
		claims.Expires = c.Now().Add(sessionLife).Unix()
		if claims.Name == "" {
			claims.Name = personName(token)
		}
		all = append(all, &claims)
	}
	return all
}

// personName is what the provider calls somebody.
func personName(token *oidc.Token) string {
	for _, name := range [...]string{"preferred_username", "email", "name"} {
		if values := token.Claim(name); len(values) == 1 && values[0] != "" {
			return values[0]
		}
	}
	return token.Subject
}

func (c *Console) providerAway(r *http.Request, p Provider, err error) error {
	if r.Context().Err() != nil {
		return err
	}
	return refuse(hubapi.ErrUnavailable, http.StatusServiceUnavailable, "%s cannot be asked: %s", p.Title, err)
}

// setAttempt gives the browser the cookie. It is sent along when the provider leads
// back, which is why it is not Strict.
func (c *Console) setAttempt(w http.ResponseWriter, r *http.Request, value string, seconds int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure where there is TLS
		Name: attemptName, Value: value, Path: Base + "/signin", MaxAge: seconds,
		HttpOnly: true, Secure: c.Secure || r.TLS != nil, SameSite: http.SameSiteLaxMode,
	})
}

// attemptOf is what the browser brought back; the zero value for nothing good.
func (c *Console) attemptOf(r *http.Request, provider string) (begun attempt) {
	cookie, err := r.Cookie(attemptName)
	if err != nil {
		return begun
	}
	text, ok := c.unseal(cookie.Value)
	if !ok || json.Unmarshal(text, &begun) != nil || begun.Provider != provider || begun.Expires < c.Now().Unix() {
		return attempt{}
	}
	return begun
}

// seal makes a text that only we can have made.
func (c *Console) seal(text []byte) string {
	encoded := base64.RawURLEncoding.EncodeToString(text)
	return encoded + "." + c.mark(encoded)
}

func (c *Console) unseal(sealed string) ([]byte, bool) {
	encoded, mark, _ := strings.Cut(sealed, ".")
	if !hmac.Equal([]byte(mark), []byte(c.mark(encoded))) {
		return nil, false
	}
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	return text, err == nil
}

func (c *Console) mark(text string) string {
	mac := hmac.New(sha256.New, c.Key)
	mac.Write([]byte("freshet sign-in attempt\x00" + text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
