package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"freshet/internal/oidc/oidctest"
)

// scriptIssuer runs the CI of a forge: an issuer, whose URL ISSUER is set to, and what
// gives jobs on GitHub their tokens, with the claims that the arguments name. A token
// for AUDIENCE is put into each file of an argument "file:NAME".
func scriptIssuer(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		issuer := oidctest.New(t)
		claims := map[string]any{}
		var files []string
		for _, arg := range args {
			if name, ok := strings.CutPrefix(arg, "file:"); ok {
				files = append(files, name)
				continue
			}
			claim, value, _ := strings.Cut(arg, "=")
			claims[claim] = value
		}
		github := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer runner" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			token := issuer.Token("rsa", issuer.Claims(r.URL.Query().Get("audience"), claims))
			_ = json.NewEncoder(w).Encode(map[string]string{"value": token})
		}))
		ts.Defer(github.Close)
		for _, name := range files {
			token := issuer.Token("ec", issuer.Claims(ts.Getenv("AUDIENCE"), claims))
			ts.Check(os.WriteFile(ts.MkAbs(name), []byte(token), 0o600))
		}
		ts.Setenv("ISSUER", issuer.URL)
		ts.Setenv("GITHUB", github.URL)
	}
}

// scriptExpand puts the values of variables into a file.
func scriptExpand(ts *testscript.TestScript, _ bool, args []string) {
	name := ts.MkAbs(args[0])
	data, err := os.ReadFile(name)
	ts.Check(err)
	ts.Check(os.WriteFile(name, []byte(os.Expand(string(data), ts.Getenv)), 0o600))
}
