package flatmanagertest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/archive"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub"
	"freshet/internal/hub/flatmanagertest"
	"freshet/internal/memnet"
	"freshet/internal/ostree"
	"freshet/internal/peertest"
	"freshet/internal/role"
)

const base = "http://hub.mem"

// startHub runs a hub in memory and returns a token with all rights.
func startHub(t *testing.T) (token string, network *memnet.Network) {
	t.Helper()
	network = &memnet.Network{}
	cfg := hub.Config{Dir: t.TempDir(), Listen: "mem:hub", BaseURL: base}
	ctx, cancel := context.WithCancel(context.Background())
	ended, ready := make(chan error, 1), make(chan struct{})
	env := role.Env{
		Log:    slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Listen: func(_ context.Context, addr string) (net.Listener, error) { return network.Listen(addr) },
		Ready:  func() { close(ready) },
	}
	go func() { ended <- hub.Run(ctx, cfg, env) }()
	t.Cleanup(func() {
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
	token, err = (&auth.Authority{Secret: secret}).Issue(auth.Claims{
		Sub: "build", Name: "tester", Scope: auth.Scopes(), Prefixes: []string{""}, Repos: []string{""},
		Expires: time.Now().Add(3 * time.Hour).Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return token, network
}

const ref = "app/org.test.Hello/x86_64/stable"

// sample makes a repository with one application, whose commit has a "+" in
// the name of its static delta.
func sample(t *testing.T, text string) (dir string, commit ostree.Checksum) {
	t.Helper()
	dir = t.TempDir()
	repo, err := archive.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	meta := flatpak.Metadata{
		Kind: flatpak.App, Name: "org.test.Hello", Command: "hello",
		Runtime: "org.test.Platform/x86_64/stable", SDK: "org.test.Sdk/x86_64/stable",
	}
	files := []archive.File{{Path: "files/bin/hello", Content: []byte("#!/bin/sh\necho " + text + "\n"), Executable: true}}
	for i := range 40 {
		files = append(files, archive.File{Path: fmt.Sprintf("files/share/%d", i), Content: fmt.Appendf(nil, "file %d of %s", i, text)})
	}
	for second := int64(1_700_000_000); ; second++ {
		if err := repo.CommitFlatpak(ref, meta, files, []string{"export"}, time.Unix(second, 0)); err != nil {
			t.Fatal(err)
		}
		reader, err := ostree.OpenRepo(os.DirFS(dir))
		if err != nil {
			t.Fatal(err)
		}
		head, err := reader.ResolveRef(ref)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(head.Base64(), "+") {
			return dir, head
		}
	}
}

func TestClientsAgainstHub(t *testing.T) {
	for dialect, push := range map[flatmanagertest.Dialect]func(context.Context, string, string, string, flatmanagertest.Options) (flatmanagertest.Outcome, error){
		flatmanagertest.Python: flatmanagertest.PythonPush,
		flatmanagertest.Rust:   flatmanagertest.RustPush,
	} {
		t.Run(dialect.String(), func(t *testing.T) {
			token, network := startHub(t)
			dir, commit := sample(t, "one")
			opts := flatmanagertest.Options{
				Dial: network.DialContext, AppID: "org.test.Hello", ExtraIDs: []string{"org.test.Extra"},
				BuildLogURL: "https://ci.test/1", MinimalToken: true, WaitUpdate: true,
			}
			out, err := push(t.Context(), base, token, dir, opts)
			if err != nil {
				t.Fatalf("%v\nlog: %s", err, out.Log)
			}
			if out.Refs[ref] != commit.String() || len(out.Published[ref]) != 64 || out.Retries != 0 || out.Uploaded < 40 {
				t.Errorf("outcome %+v", out)
			}
			// The objects are there now: another build needs none of them.
			opts.MinimalToken, opts.WaitUpdate, opts.EndOfLife = false, false, "use another"
			again, err := push(t.Context(), base, token, dir, opts)
			if err != nil {
				t.Fatalf("%v\nlog: %s", err, again.Log)
			}
			if again.Uploaded >= out.Uploaded/2 {
				t.Errorf("second push uploaded %d of %d", again.Uploaded, out.Uploaded)
			}
		})
	}
}

// Static deltas made by ostree, also with a "+" in their names.
func TestClientsSendDeltas(t *testing.T) {
	peertest.Require(t, "ostree")
	for dialect, push := range map[flatmanagertest.Dialect]func(context.Context, string, string, string, flatmanagertest.Options) (flatmanagertest.Outcome, error){
		flatmanagertest.Python: flatmanagertest.PythonPush,
		flatmanagertest.Rust:   flatmanagertest.RustPush,
	} {
		t.Run(dialect.String(), func(t *testing.T) {
			token, network := startHub(t)
			dir, commit := sample(t, "one")
			if out, err := peertest.Command(t, "ostree", "--repo="+dir, "static-delta", "generate", "--empty", "--to="+commit.String()).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			out, err := push(t.Context(), base, token, dir, flatmanagertest.Options{Dial: network.DialContext})
			if err != nil {
				t.Fatalf("%v\nlog: %s", err, out.Log)
			}
		})
	}
}

// What the clients see when things go wrong.
func TestClientsSeeFailures(t *testing.T) {
	token, network := startHub(t)
	dir, _ := sample(t, "one")
	opts := flatmanagertest.Options{Dial: network.DialContext}
	_, err := flatmanagertest.PythonPush(t.Context(), base, "nonsense", dir, opts)
	if f, ok := errors.AsType[*flatmanagertest.Failure](err); !ok || f.Status != 401 {
		t.Errorf("bad token: %v", err)
	}
	none := opts
	none.Repo = "none"
	_, err = flatmanagertest.RustPush(t.Context(), base, token, dir, none)
	if f, ok := errors.AsType[*flatmanagertest.Failure](err); !ok || f.Status != 404 {
		t.Errorf("no such repository: %v", err)
	}
	out, err := flatmanagertest.Upload(t.Context(), flatmanagertest.Rust, base, token, dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second one purges what is purged
		if inUse, err := flatmanagertest.Purge(t.Context(), flatmanagertest.Python, base, token, out.Build, opts); err != nil || inUse {
			t.Errorf("purge: in use %v, %v", inUse, err)
		}
	}
	if _, err := flatmanagertest.Purge(t.Context(), flatmanagertest.Python, base, token, 999, opts); err != nil {
		t.Errorf("purge of no build: %v", err)
	}
}
