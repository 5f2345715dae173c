package rsync_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/internal/peertest"
	"freshet/internal/rsync"
	"freshet/internal/rsync/rsynctest"
)

func find(t *testing.T) *rsync.Program {
	t.Helper()
	peertest.Require(t, "rsync")
	p, err := rsync.Find(t.Context(), rsync.Options{AnyVersion: true})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t *testing.T, folder string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// What a real server lists is what is there, whatever names it has.
func TestList(t *testing.T) {
	t.Parallel()
	p := find(t)
	folder := t.TempDir()
	names := []string{
		"plain", "sub/with space", "sub/new\nline", `sub/lit\#012x`, "sub/ü", "sub/\xff\x01", "sub/a -> b", " lead", "-rf", "skipping x",
	}
	write(t, folder, names...)
	modified := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := errors.Join(
		os.Chtimes(filepath.Join(folder, "plain"), modified, modified),
		os.Symlink("sub/a -> b", filepath.Join(folder, "sub/to -> file")),
		os.Symlink("nowhere", filepath.Join(folder, "dangling")),
		os.Chmod(filepath.Join(folder, "-rf"), 0o600), // listed, but not for everybody
	); err != nil {
		t.Fatal(err)
	}
	var files, links []string
	for e, err := range p.List(t.Context(), rsync.Listing{URL: rsynctest.Serve(t, folder), Excludes: []string{"*.none"}}) {
		if err != nil {
			t.Fatal(err)
		}
		switch e.Type {
		case rsync.File:
			files = append(files, e.Name)
			if e.Size != int64(len(e.Name)) {
				t.Errorf("%q has %d bytes, want %d", e.Name, e.Size, len(e.Name))
			}
			if e.Public() != (e.Name != "-rf") {
				t.Errorf("%q: public %v", e.Name, e.Public())
			}
			if e.Name == "plain" && !e.ModTime.Equal(modified) {
				t.Errorf("plain is of %v, want %v", e.ModTime, modified)
			}
		case rsync.Link:
			links = append(links, e.Name+" | "+e.Target)
		default:
		}
	}
	slices.Sort(names)
	slices.Sort(files)
	slices.Sort(links)
	if !slices.Equal(files, names) {
		t.Errorf("files: %q\nwant %q", files, names)
	}
	if want := []string{"dangling | nowhere", "sub/to -> file | sub/a -> b"}; !slices.Equal(links, want) {
		t.Errorf("links: %q, want %q", links, want)
	}
}

// drain reads a listing to its end.
func drain(p *rsync.Program, ctx context.Context, l rsync.Listing) (n int, err error) { //nolint:revive // the program is what it is about
	for _, e := range p.List(ctx, l) {
		if e != nil {
			return n, e
		}
		n++
	}
	return n, nil
}

func TestListFails(t *testing.T) {
	t.Parallel()
	p := find(t)
	folder := t.TempDir()
	write(t, folder, "a", "b", "c")
	url := rsynctest.Serve(t, folder)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })

	for name, tt := range map[string]struct {
		l     rsync.Listing
		codes []int
		says  string
	}{
		"no such module": {rsync.Listing{URL: strings.Replace(url, "/m/", "/other/", 1)}, []int{5}, "Unknown module 'other'"},
		"no such folder": {rsync.Listing{URL: url + "nope/"}, []int{23}, "No such file or directory"},
		"nobody there":   {rsync.Listing{URL: "rsync://127.0.0.1:1/m/"}, []int{10}, "Connection refused"},
		"silence":        {rsync.Listing{URL: "rsync://" + silent.Addr().String() + "/m/", Silence: time.Second}, []int{30, 35}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, err := drain(p, t.Context(), tt.l)
			exit, ok := errors.AsType[*rsync.ExitError](err)
			if !ok || n != 0 || !slices.Contains(tt.codes, exit.Code) || !strings.Contains(exit.Detail, tt.says) {
				t.Errorf("%d entries, %v, want exit %d with %q", n, err, tt.codes, tt.says)
			}
		})
	}
	if n, err := drain(p, t.Context(), rsync.Listing{URL: url, MaxEntries: 2}); n != 2 || !errors.Is(err, rsync.ErrTooMany) {
		t.Errorf("%d entries, %v, want 2 and that there are too many", n, err)
	}
	if _, err := drain(p, t.Context(), rsync.Listing{URL: "/etc/"}); err == nil {
		t.Error("a local folder is listed")
	}
}

// A folder that the server cannot read is told of; all else is listed.
func TestListPartial(t *testing.T) {
	t.Parallel()
	p := find(t)
	folder := t.TempDir()
	write(t, folder, "a", "sub/b")
	if err := os.Chmod(filepath.Join(folder, "sub"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(folder, "sub"), 0o700) })
	n, err := drain(p, t.Context(), rsync.Listing{URL: rsynctest.Serve(t, folder)})
	if _, ok := errors.AsType[*rsync.PartialError](err); !ok || n != 3 {
		t.Errorf("%d entries, %v, want 3 and a rsync.PartialError", n, err)
	}
}

// Whoever wants no more, or ends the context, gets rid of rsync at once.
func TestListEnds(t *testing.T) {
	t.Parallel()
	p := find(t)
	folder := t.TempDir()
	write(t, folder, "a", "b")
	url := rsynctest.Serve(t, folder)
	for e, err := range p.List(t.Context(), rsync.Listing{URL: url}) {
		if err != nil || e.Name != "." {
			t.Fatalf("%+v, %v, want the folder itself first", e, err)
		}
		break
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	go func() {
		conn, err := silent.Accept()
		if err == nil {
			cancel(enough) // rsync is there, and waits
			defer func() { _ = conn.Close() }()
		}
	}()
	if _, err := drain(p, ctx, rsync.Listing{URL: "rsync://" + silent.Addr().String() + "/m/"}); !errors.Is(err, enough) {
		t.Errorf("got %v, want the cause of the end", err)
	}
}

func TestFindSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	if _, err := rsync.Find(t.Context(), rsync.Options{Path: "/nowhere/rsync"}); !errors.Is(err, rsync.ErrAbsent) {
		t.Errorf("got %v, want rsync.ErrAbsent", err)
	}
	old := filepath.Join(t.TempDir(), "rsync")
	if err := os.WriteFile(old, []byte("#!/bin/sh\necho 'rsync  version 3.2.7  protocol version 31'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := rsync.Find(t.Context(), rsync.Options{Path: old}); !errors.Is(err, rsync.ErrOld) || !strings.Contains(err.Error(), "3.4.3") {
		t.Errorf("got %v, want rsync.ErrOld with the version that is needed", err)
	}
	if p, err := rsync.Find(t.Context(), rsync.Options{Path: old, AnyVersion: true}); err != nil || p.Version() != (rsync.Version{3, 2, 7}) {
		t.Errorf("got %v, %v, want the old one", p, err)
	}
}
