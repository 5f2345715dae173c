package push_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/archive"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub"
	"freshet/internal/memnet"
	"freshet/internal/ostree"
	"freshet/internal/push"
	"freshet/internal/role"
)

// startHub runs the real hub in memory and returns a client with all rights.
func startHub(t *testing.T) *hubapi.Client {
	t.Helper()
	client, issue := startHubWith(t)
	client.Token = issue(auth.Scopes(), "")
	return client
}

// startHubWith returns a client without a token, and what makes tokens with
// scopes for a repository.
func startHubWith(t *testing.T) (client *hubapi.Client, issue func(scopes []auth.Scope, repo string) string) {
	t.Helper()
	var network memnet.Network
	transport := &http.Transport{DialContext: network.DialContext}
	cfg := hub.Config{Dir: t.TempDir(), Listen: "mem:hub", BaseURL: "http://hub.mem"}
	ctx, cancel := context.WithCancel(context.Background())
	ended, ready := make(chan error, 1), make(chan struct{})
	env := role.Env{
		Log:    slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Listen: func(_ context.Context, addr string) (net.Listener, error) { return network.Listen(addr) },
		Ready:  func() { close(ready) },
	}
	go func() { ended <- hub.Run(ctx, cfg, env) }()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("hub ended with: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatalf("hub ended before it was ready: %v", err)
	}
	secret, err := auth.LoadSecret(filepath.Join(cfg.Dir, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	issue = func(scopes []auth.Scope, repo string) string {
		t.Helper()
		token, err := (&auth.Authority{Secret: secret}).Issue(auth.Claims{
			Sub: "build", Name: "tester", Scope: scopes, Prefixes: []string{""}, Repos: []string{repo},
			Expires: time.Now().Add(time.Hour).Unix(),
		})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	return &hubapi.Client{Base: "http://hub.mem", HTTP: &http.Client{Transport: transport}, RetryFor: -1}, issue
}

// What the hub does not allow shows at once, in a dry run too.
func TestHubRefuses(t *testing.T) {
	client, issue := startHubWith(t)
	repo, tree := sampleRepo(t).dir, sampleTree(t)
	for _, test := range []struct {
		name, token string
		cfg         push.Config
		want        string
	}{
		{"token, repository", "nonsense", push.Config{Dir: repo, Name: "stable"}, "the hub does not accept this token: "},
		{"token, tree", "nonsense", push.Config{Dir: tree, Name: "rpms"}, "the hub does not accept this token: "},
		{"unknown repository", issue(auth.Scopes(), ""), push.Config{Dir: repo, Name: "none"}, `create build for none: hub: there is no repository "none"`},
		{"foreign repository", issue(auth.Scopes(), "beta"), push.Config{Dir: repo, Name: "stable"}, "the token does not allow to create build for stable: "},
		{"foreign tree", issue(auth.Scopes(), "debs"), push.Config{Dir: tree, Name: "rpms"}, "the token does not allow to read tree rpms: "},
		{"scope", issue([]auth.Scope{auth.ScopePublish}, ""), push.Config{Dir: repo, Name: "stable"}, "the token does not allow to create build for stable: "},
	} {
		for _, dry := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, dry run %v", test.name, dry), func(t *testing.T) {
				p := &record{}
				cfg, c := test.cfg, *client
				c.Token = test.token
				cfg.Client, cfg.DryRun, cfg.Progress = &c, dry, p
				_, err := push.Run(t.Context(), cfg)
				if err == nil || !strings.Contains(err.Error(), test.want) || len(p.steps) > 0 {
					t.Errorf("error %v, steps %q", err, p.steps)
				}
				if _, ok := errors.AsType[*hubapi.Error](err); !ok {
					t.Errorf("%#v has lost the hub's answer", err)
				}
			})
		}
	}
}

// A server that is no hub is not taken for a hub without the tree.
func TestNoHub(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	p := &record{}
	_, err := push.Run(t.Context(), push.Config{Client: &hubapi.Client{Base: server.URL}, Dir: sampleTree(t), Name: "rpms", Progress: p})
	if err == nil || !strings.Contains(err.Error(), "no hub answered, but a proxy or an edge before it, or another server: 404") || len(p.steps) > 0 {
		t.Errorf("error %v, steps %q", err, p.steps)
	}
}

// A hub that is not there is given up soon, one that went away later is not.
func TestHubAway(t *testing.T) {
	t.Run("never reached", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var network memnet.Network
			p := &record{}
			client := &hubapi.Client{Base: "http://hub.mem", HTTP: &http.Client{Transport: &http.Transport{DialContext: network.DialContext}}}
			begun := time.Now()
			_, err := push.Run(t.Context(), push.Config{Client: client, Dir: sampleTree(t), Name: "rpms", Progress: p})
			if took := time.Since(begun); err == nil || took < 10*time.Second || took > 20*time.Second {
				t.Errorf("%v after %v", err, took)
			}
			if !p.has("hub http://hub.mem: ") || !p.has("for 15s at most") || p.has("/api/") {
				t.Errorf("lines %q", p.lines)
			}
		})
	})
	t.Run("reached", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, p := newHub(t), &record{}
			h.trouble = func(_ int, r *http.Request) trouble { return trouble{cutBefore: kindOf(r) == "POST tree rpms push"} }
			begun := time.Now()
			_, err := push.Run(t.Context(), push.Config{Client: h.client(), Dir: sampleTree(t), Name: "rpms", Progress: p})
			if took := time.Since(begun); err == nil || took < 4*time.Minute || !p.has("for 5m0s at most") {
				t.Errorf("%v after %v, lines %q", err, took, p.lines)
			}
		})
	})
	t.Run("answers 503", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, p := newHub(t), &record{}
			h.trouble = func(n int, _ *http.Request) trouble {
				if n < 8 {
					return trouble{status: 503}
				}
				return trouble{}
			}
			_, err := push.Run(t.Context(), push.Config{Client: h.client(), Dir: sampleTree(t), Name: "rpms", Progress: p})
			if err != nil || !p.has("hub http://hub.mem: answer 503: ") {
				t.Errorf("%v, lines %q", err, p.lines)
			}
		})
	})
}

// served reads a file as the hub serves it to everybody.
func served(t *testing.T, c *hubapi.Client, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.Base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("%s: %s %v", path, res.Status, err)
	}
	return string(data)
}

// eventOf waits for the event with the serial.
func eventOf(t *testing.T, events <-chan hubapi.Event, serial int64) hubapi.Event {
	t.Helper()
	for deadline := time.After(2 * time.Minute); ; {
		select {
		case event := <-events:
			if event.Serial == serial {
				return event
			}
		case <-deadline:
			t.Fatalf("no event %d", serial)
		}
	}
}

// The push and the follower with the real hub.
func TestPushToHub(t *testing.T) {
	client := startHub(t)
	events := make(chan hubapi.Event)
	ctx, cancel := context.WithCancel(t.Context())
	followed := make(chan struct{})
	defer func() { cancel(); <-followed }()
	go func() {
		defer close(followed)
		for event, err := range client.Follow(ctx, hubapi.Cursor{}) {
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("follow: %v", err)
				}
				return
			}
			select {
			case events <- event:
			case <-ctx.Done():
			}
		}
	}()

	dir := filepath.Join(t.TempDir(), "repo")
	repo, err := archive.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	const ref = "app/org.test.Hello/x86_64/stable"
	commit := func(text string, second int64) {
		t.Helper()
		err := repo.CommitFlatpak(ref, flatpak.Metadata{
			Kind: flatpak.App, Name: "org.test.Hello", Command: "hello",
			Runtime: "org.test.Platform/x86_64/stable", SDK: "org.test.Sdk/x86_64/stable",
		}, []archive.File{
			{Path: "files/bin/hello", Content: []byte("#!/bin/sh\necho " + text + "\n"), Executable: true},
			{Path: "files/share/same", Content: []byte("the same")},
		}, []string{"export"}, time.Unix(second, 0))
		if err != nil {
			t.Fatal(err)
		}
	}
	cfg := push.Config{Client: client, Dir: dir, Name: "stable", AppID: "org.test.Hello"}
	var sent []int
	for i, text := range []string{"one", "two"} {
		commit(text, 1_700_000_000+int64(i))
		// First only up to the commit; the repetition finds the build ready.
		cfg.Until = push.Committed
		first, err := push.Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Until = push.Published
		result, err := push.Run(t.Context(), cfg)
		if err != nil || result.Unchanged {
			t.Fatalf("%+v %v", result, err)
		}
		sent = append(sent, first.Sent.Files)
		event := eventOf(t, events, result.Serial)
		if result.Build.ID != first.Build.ID || result.Sent.Files != 0 || event.Kind != hubapi.EventPublish ||
			event.Refs[ref] != result.Published[ref] || !slices.Contains(event.Changed, "summary") {
			t.Errorf("result %+v, event %+v", result, event)
		}
		sum, err := ostree.ParseRefFile([]byte(served(t, client, hubapi.RepoPath("stable")+ostree.RefPath(ref))))
		if err != nil || sum.String() != result.Published[ref] {
			t.Errorf("ref is at %s: %v", sum, err)
		}
	}
	if sent[1] >= sent[0] {
		t.Errorf("sent %v objects", sent)
	}
	// The same again changes nothing for anybody.
	again, err := push.Run(t.Context(), cfg)
	if err != nil || !again.Unchanged || len(again.Published) != 1 {
		t.Errorf("%+v %v", again, err)
	}
	before, err := client.Builds(t.Context(), cfg.AppID)
	if err != nil {
		t.Fatal(err)
	}
	dry := cfg
	dry.DryRun = true
	if result, err := push.Run(t.Context(), dry); err != nil || result.Sent.Files != 1 { // the commit
		t.Errorf("%+v %v", result, err)
	}
	if after, err := client.Builds(t.Context(), cfg.AppID); err != nil || len(after) != len(before) {
		t.Errorf("the dry run left a build: %+v %v", after, err)
	}

	tree := sampleTree(t)
	if err := os.RemoveAll(filepath.Join(tree, "repodata")); err != nil { // the hub wants real metadata there
		t.Fatal(err)
	}
	treeCfg := push.Config{Client: client, Dir: tree, Name: "rpms", BatchBytes: 8192, CacheDir: t.TempDir()}
	for i, text := range []string{"one", "two"} {
		writeTree(t, tree, map[string]string{"state": text})
		dry := treeCfg
		dry.DryRun = true
		planned, err := push.Run(t.Context(), dry)
		if err != nil {
			t.Fatal(err)
		}
		// A push that was uploaded only is found by the next.
		treeCfg.Until = push.Uploaded
		uploaded, err := push.Run(t.Context(), treeCfg)
		if err != nil {
			t.Fatal(err)
		}
		treeCfg.Until = push.Published
		result, err := push.Run(t.Context(), treeCfg)
		if err != nil {
			t.Fatal(err)
		}
		event := eventOf(t, events, result.Serial)
		if uploaded.Sent != planned.Sent || result.Push != uploaded.Push || result.Sent.Files != 0 || result.Generation.ID != int64(i+1) ||
			event.Kind != hubapi.EventTree || event.Repo != "rpms" ||
			(i > 0 && !slices.Equal(event.Changed, []string{"state"})) {
			t.Errorf("planned %+v, uploaded %+v, result %+v, event %+v", planned, uploaded, result, event)
		}
		for _, name := range []string{"state", "README", "pool/03.rpm", "latest", "copy/dir/07.rpm"} {
			want, err := os.ReadFile(filepath.Join(tree, name))
			if err != nil {
				t.Fatal(err)
			}
			if got := served(t, client, hubapi.TreeFilesPath("rpms")+name); got != string(want) {
				t.Errorf("%s: %.30q, want %.30q", name, got, want)
			}
		}
		again, err := push.Run(t.Context(), treeCfg)
		if err != nil || !again.Unchanged || !reflect.DeepEqual(again.Generation, result.Generation) {
			t.Errorf("the same again: %+v %v", again, err)
		}
	}
	if info, err := client.TreeInfo(t.Context(), "rpms"); err != nil || info.Current != 2 || len(info.Generations) != 2 {
		t.Errorf("tree %+v: %v", info, err)
	}
}
