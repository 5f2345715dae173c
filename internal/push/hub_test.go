package push_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
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
	token, err := (&auth.Authority{Secret: secret}).Issue(auth.Claims{
		Sub: "build", Name: "tester", Scope: auth.Scopes(), Prefixes: []string{""}, Repos: []string{""},
		Expires: time.Now().Add(time.Hour).Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &hubapi.Client{Base: "http://hub.mem", Token: token, HTTP: &http.Client{Transport: transport}, RetryFor: -1}
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
	for deadline := time.After(20 * time.Second); ; {
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
		if err != nil {
			t.Fatal(err)
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
	}
	if info, err := client.TreeInfo(t.Context(), "rpms"); err != nil || info.Current != 2 || len(info.Generations) != 2 {
		t.Errorf("tree %+v: %v", info, err)
	}
}
