package director

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"freshet/internal/certs"
	"freshet/internal/h1"
)

// everything answers each request itself.
type everything struct{}

func (everything) Answer(*h1.Request, *h1.Response) bool            { return true }
func (everything) Sent(*h1.Request, *h1.Response, int64, error)     {}
func (everything) ServeHTTP(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }

// What an authority asks for goes by the general server, where the certificates see it;
// with TLS, and elsewhere, nothing changes. A token that nobody has been given is not ours.
func TestChallenges(t *testing.T) {
	store, err := certs.Open(certs.Config{ACME: certs.ACME{
		Directory: "https://127.0.0.1:1/directory", Dir: filepath.Join(t.TempDir(), "acme"), Hosts: []string{"director.example"},
	}}.WithDefaults(), certs.Options{Role: "director", Hosts: []string{"director.example"}, HTTP: 80, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c := &challenges{answerer: everything{}, certificates: store}
	for _, tt := range []struct {
		target string
		clear  bool
		want   bool
	}{
		{challengePath + "token", true, false},
		{challengePath + "token", false, true},
		{"/.well-known/other", true, true},
		{"/", true, true},
	} {
		if got := c.Answer(&h1.Request{Target: []byte(tt.target), Clear: tt.clear}, new(h1.Response)); got != tt.want {
			t.Errorf("%s, clear %v: at hand %v, want %v", tt.target, tt.clear, got, tt.want)
		}
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://director.example"+challengePath+"token", nil))
	if w.Code != http.StatusTeapot {
		t.Errorf("a token of nobody: %d", w.Code)
	}
}
