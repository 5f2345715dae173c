package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runPush runs "freshet push" with nothing of the environment.
func runPush(ctx context.Context, t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	for _, name := range []string{"FRESHET_HUB", tokenVariable, clientTokenVariable} {
		t.Setenv(name, "")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var out, errOut bytes.Buffer
	cmd := newRoot(streams{in: strings.NewReader(""), out: &out, err: &errOut})
	cmd.SetArgs(append([]string{"push"}, args...))
	err = cmd.ExecuteContext(ctx)
	return out.String(), errOut.String(), err
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Mistakes on the command line are told before the hub is asked.
func TestPushMistakes(t *testing.T) {
	hub := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the hub was asked %s %s", r.Method, r.URL)
	}))
	defer hub.Close()
	work := t.TempDir()
	plain := filepath.Dir(write(t, filepath.Join(work, "plain", "a.rpm"), "a"))
	half := filepath.Dir(write(t, filepath.Join(work, "half", "config"), "[core]\n"))
	empty := write(t, filepath.Join(work, "empty"), " \n")
	token := write(t, filepath.Join(work, "token"), "t0ken\n")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no token":        {[]string{"--hub", hub.URL, "--tree", "rpms", plain}, "push: no token: give --token-file or set FRESHET_TOKEN"},
		"empty token":     {[]string{"--hub", hub.URL, "--token-file", empty, "--tree", "rpms", plain}, "no token: " + empty + " is empty; give --token-file or set FRESHET_TOKEN"},
		"no token file":   {[]string{"--hub", hub.URL, "--token-file", "absent", "--tree", "rpms", plain}, "read token: open absent"},
		"URL":             {[]string{"--hub", "127.0.0.1:1", "--token-file", token, "--tree", "rpms", plain}, `push: --hub wants a URL like https://hub.example.org, got "127.0.0.1:1"`},
		"host":            {[]string{"--hub", "hub.example.org", "--token-file", token, "--tree", "rpms", plain}, `got "hub.example.org"`},
		"scheme":          {[]string{"--hub", "ftp://hub.example.org", "--token-file", token, "--tree", "rpms", plain}, `got "ftp://hub.example.org"`},
		"no port":         {[]string{"--hub", "http://127.0.0.1:", "--token-file", token, "--tree", "rpms", plain}, `got "http://127.0.0.1:"`},
		"parallel 0":      {[]string{"--hub", hub.URL, "--token-file", token, "--tree", "rpms", "--parallel", "0", plain}, "--parallel wants at least 1, got 0"},
		"parallel -1":     {[]string{"--hub", hub.URL, "--token-file", token, "--tree", "rpms", "--parallel", "-1", plain}, "--parallel wants at least 1, got -1"},
		"no repository":   {[]string{"--hub", hub.URL, "--token-file", token, "--repo", "stable", plain}, plain + " is no OSTree repository (no config); for a plain folder use --tree"},
		"half repository": {[]string{"--hub", hub.URL, "--token-file", token, "--repo", "stable", half}, half + " is no OSTree repository (no objects); for a plain folder use --tree"},
	} {
		t.Run(name, func(t *testing.T) {
			_, stderr, err := runPush(t.Context(), t, test.args...)
			if err == nil || !strings.Contains(err.Error(), test.want) || stderr != "" || exitCode(err) != 1 {
				t.Errorf("error %v, stderr %q", err, stderr)
			}
		})
	}
}

// A folder that looks like a mistake is pushed all the same.
func TestPushRepositoryAsTree(t *testing.T) {
	hub := httptest.NewServer(http.NotFoundHandler())
	defer hub.Close()
	repo := t.TempDir()
	write(t, filepath.Join(repo, "config"), "[core]\n")
	write(t, filepath.Join(repo, "objects", "x"), "x")
	_, stderr, err := runPush(t.Context(), t, "--hub", hub.URL, "--token", "t0ken", "--tree", "rpms", repo)
	if !strings.Contains(stderr, "is an OSTree repository; --repo publishes it as such") || err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("error %v, stderr %q", err, stderr)
	}
}

func TestPushInterrupted(t *testing.T) {
	folder := filepath.Dir(write(t, filepath.Join(t.TempDir(), "a.rpm"), "a"))
	for _, dry := range []bool{false, true} {
		t.Run(fmt.Sprint("dry run ", dry), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				cancel()
				w.WriteHeader(http.StatusServiceUnavailable)
			}))
			defer hub.Close()
			_, _, err := runPush(ctx, t, "--hub", hub.URL, "--token", "t0ken", "--tree", "rpms", fmt.Sprintf("--dry-run=%v", dry), folder)
			want := "interrupted; run the same command again to go on"
			if dry {
				want = "interrupted"
			}
			if err == nil || err.Error() != want || exitCode(err) != 130 {
				t.Errorf("error %v, exit code %d", err, exitCode(err))
			}
		})
	}
	if code := exitCode(fmt.Errorf("a: %w", &interruptedError{})); code != 130 {
		t.Errorf("exit code %d", code)
	}
	if code := exitCode(errors.New("other")); code != 1 {
		t.Errorf("exit code %d", code)
	}
}
