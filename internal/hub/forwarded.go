package hub

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
)

// A hub that passes a request on says whose it is: the one that publishes counts
// what each client takes, not what each hub does. The hubs share the secret of the
// tokens, so nobody else can say so. The code is that of one request: who could read
// it on its way between two hubs would have the token of the client with it.

// forwardedFor holds the address of the client and the code, in hexadecimal.
const forwardedFor = "Freshet-Forwarded-For"

// sayClient puts into out, which is in on its way to another hub, whose request it
// is.
func (s *server) sayClient(out, in *http.Request) {
	out.Header.Set(forwardedFor, in.RemoteAddr+" "+hex.EncodeToString(s.clientCode(out, in.RemoteAddr)))
}

// ofClient is a request with the address of the client in place of that of the hub
// which has passed it on. One of which no hub says whose it is stays as it is.
func (s *server) ofClient(r *http.Request) *http.Request {
	addr, text, found := strings.Cut(r.Header.Get(forwardedFor), " ")
	code, err := hex.DecodeString(text)
	if !found || err != nil || !hmac.Equal(code, s.clientCode(r, addr)) {
		return r
	}
	theirs := *r
	theirs.RemoteAddr = addr
	return &theirs
}

// clientCode proves that a hub says that a request is that of an address.
func (s *server) clientCode(r *http.Request, addr string) []byte {
	key := hmac.New(sha256.New, s.authority.Secret)
	key.Write([]byte("freshet hub forward"))
	code := hmac.New(sha256.New, key.Sum(nil))
	for _, text := range [...]string{r.Method, r.URL.Path, r.Header.Get("Authorization"), r.Header.Get(forwardedBy), addr} {
		code.Write([]byte(text))
		code.Write([]byte{0})
	}
	return code.Sum(nil)
}
