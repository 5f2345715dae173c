package push

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func TestIDToken(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer runner":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Query().Get("api-version") != "2.0":
			w.WriteHeader(http.StatusBadRequest)
		case r.URL.Query().Get("audience") == "nothing":
			_, _ = fmt.Fprint(w, `{}`)
		default:
			_, _ = fmt.Fprintf(w, `{"count":1,"value":"token for %s"}`, r.URL.Query().Get("audience"))
		}
	}))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(" in a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	github := map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": srv.URL + "/?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "runner"}
	stranger := map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": srv.URL + "/?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x"}
	own := map[string]string{"FRESHET_ID_TOKEN": "own\n", "ACTIONS_ID_TOKEN_REQUEST_URL": srv.URL, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "runner"}
	for name, test := range map[string]struct {
		file, audience string
		env            map[string]string
		want           string // "" for an error
	}{
		"GitHub":          {"", "https://hub.example.org", github, "token for https://hub.example.org"},
		"GitHub, refused": {"", "x", stranger, ""},
		"GitHub, nothing": {"", "nothing", github, ""},
		"variable":        {"", "x", own, "own"},
		"file":            {file, "x", own, "in a file"},
		"empty file":      {empty, "x", own, ""},
		"no file":         {file + "x", "x", own, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := IDToken(t.Context(), test.file, test.audience, func(name string) string { return test.env[name] })
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	if _, err := IDToken(t.Context(), "", "x", func(string) string { return "" }); !errors.Is(err, ErrNoIDToken) {
		t.Errorf("nothing at all: %v", err)
	}
}
