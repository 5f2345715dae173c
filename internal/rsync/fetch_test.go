package rsync_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freshet/internal/landlock"
	"freshet/internal/rsync"
	"freshet/internal/rsync/rsynctest"
)

// fetch fetches files, and returns which came and what is wrong with the others.
func fetch(t *testing.T, tr rsync.Transfer, names ...string) (came []string, wrong map[string]error, err error) {
	t.Helper()
	wrong = make(map[string]error)
	for f, e := range find(t).Fetch(t.Context(), tr, slices.Values(names)) {
		switch {
		case e != nil:
			err = e
		case f.Err != nil:
			wrong[f.Name] = f.Err
		default:
			if _, err := os.Stat(filepath.Join(tr.Folder, f.Name)); err != nil {
				t.Errorf("%q is told of before it is there: %v", f.Name, err)
			}
			came = append(came, f.Name)
		}
	}
	slices.Sort(came)
	return came, wrong, err
}

// counted is a Dial that counts the connections.
func counted(n *atomic.Int64) rsync.Dial {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}

// Files with whatever names come through the gate, with their times; each that cannot be
// had is told of with the reason.
func TestFetch(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	names := []string{
		"sub/plain", "sub/with space", "sub/new\nline", `sub/lit\#012x`, "sub/ü", "sub/\xff\x01", "sub/a -> b", "sub/ lead", "sub/-rf",
		"sub/#x", "sub/;y", `sub/quo"te" (in m)`, "sub/deep/er/z", "sub/not asked for",
	}
	write(t, folder, names...)
	modified := time.Date(2011, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := errors.Join(
		os.Chtimes(filepath.Join(folder, "sub/plain"), modified, modified),
		os.Symlink("plain", filepath.Join(folder, "sub/link")),
		os.Symlink("deep", filepath.Join(folder, "sub/folder link")),
		os.WriteFile(filepath.Join(folder, "sub/secret"), []byte("x"), 0o600),
		os.WriteFile(filepath.Join(folder, "sub/empty"), nil, 0o600),
		os.Chmod(filepath.Join(folder, "sub/empty"), 0o644),
	); err != nil {
		t.Fatal(err)
	}
	wanted := []string{"link", "folder link/er/z", "empty"}
	for _, name := range names[:len(names)-1] {
		wanted = append(wanted, strings.TrimPrefix(name, "sub/"))
	}
	var dialed atomic.Int64
	tr := rsync.Transfer{URL: rsynctest.Serve(t, folder) + "sub", Folder: t.TempDir(), Dial: counted(&dialed), Idle: true}
	came, wrong, err := fetch(t, tr, append(wanted, "secret", "absent", "none/such\nx")...)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(wanted)
	if !slices.Equal(came, wanted) {
		t.Errorf("came: %q\nwant  %q", came, wanted)
	}
	if len(wrong) != 3 || !errors.Is(wrong["absent"], fs.ErrNotExist) || !errors.Is(wrong["none/such\nx"], fs.ErrNotExist) {
		t.Errorf("what is not there: %v", wrong)
	}
	if os.Geteuid() == 0 && !errors.Is(wrong["secret"], fs.ErrPermission) { // otherwise the server may read what is its own
		t.Errorf("what must not be read: %v", wrong["secret"])
	}
	if dialed.Load() != 1 {
		t.Errorf("%d connections through the gate, want 1", dialed.Load())
	}
	info, err := os.Lstat(filepath.Join(tr.Folder, "plain"))
	if err != nil || !info.ModTime().Equal(modified) {
		t.Errorf("plain is of %v, %v, want %v", info.ModTime(), err, modified)
	}
	if info, err = os.Lstat(filepath.Join(tr.Folder, "link")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("the link is %v, %v, want a file", info.Mode(), err)
	}
	for _, name := range wanted {
		got, err := os.ReadFile(filepath.Join(tr.Folder, name))
		want, _ := os.ReadFile(filepath.Join(folder, "sub", name))
		if err != nil || string(got) != string(want) {
			t.Errorf("%q holds %q, %v, want %q", name, got, err, want)
		}
	}
	if came, _, err := fetch(t, tr, "plain", "link"); err != nil || len(came) != 0 {
		t.Errorf("a second time: %q, %v, want nothing", came, err)
	}
}

// What has come of a file that is cut off is kept where that is wanted, and nowhere else.
func TestPartial(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "a"), make([]byte, 4<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	url := rsynctest.Serve(t, folder)
	for _, partial := range []bool{false, true} {
		tr := rsync.Transfer{URL: url, Folder: t.TempDir(), Partial: partial, Dial: cutAfter(2 << 20)}
		if came, _, err := fetch(t, tr, "a"); err == nil || len(came) != 0 {
			t.Errorf("a file that was cut: %q came, %v", came, err)
		}
		left, err := filepath.Glob(filepath.Join(tr.Folder, rsync.PartialFolder, "a"))
		if err != nil || (len(left) > 0) != partial {
			t.Errorf("partial %v: %q is left, %v", partial, left, err)
		}
		if all, err := os.ReadDir(tr.Folder); err != nil || !partial && len(all) > 0 {
			t.Errorf("partial %v: %v is left, %v", partial, all, err)
		}
	}
}

// cutAfter is a Dial of connections that end after so many bytes.
func cutAfter(n int64) rsync.Dial {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return cut{c, io.LimitReader(c, n)}, err
	}
}

type cut struct {
	net.Conn
	some io.Reader
}

func (c cut) Read(p []byte) (int, error) { return c.some.Read(p) }

func TestFetchFails(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write(t, folder, "a")
	url := rsynctest.Serve(t, folder)
	refused := errors.New("nobody\nthere")
	for name, tt := range map[string]struct {
		tr   rsync.Transfer
		name string
		code int
		says string
	}{
		"no such module": {rsync.Transfer{URL: strings.Replace(url, "/m/", "/other/", 1)}, "a", 5, "Unknown module 'other'"},
		"nobody there":   {rsync.Transfer{URL: "rsync://127.0.0.1:1/m/"}, "a", 10, "Connection refused"},
		"gate: nobody there": {rsync.Transfer{URL: url, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, refused
		}}, "a", 10, "502 nobody there"},
		"a way out":     {rsync.Transfer{URL: url}, "../a", 0, "no path of a file"},
		"not a name":    {rsync.Transfer{URL: url}, "a\x00b", 0, "no path of a file"},
		"a local file":  {rsync.Transfer{URL: "/etc/"}, "passwd", 0, "want rsync://"},
		"no such place": {rsync.Transfer{URL: url, Folder: "/nowhere"}, "a", 0, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.tr.Folder == "" {
				tt.tr.Folder = t.TempDir()
			}
			came, wrong, err := fetch(t, tt.tr, tt.name)
			exit, ok := errors.AsType[*rsync.ExitError](err)
			if err == nil || ok != (tt.code > 0) || ok && exit.Code != tt.code || !strings.Contains(err.Error(), tt.says) || len(came)+len(wrong) > 0 {
				t.Errorf("%q, %v, %v, want exit %d with %q", came, wrong, err, tt.code, tt.says)
			}
		})
	}
}

// An rsync that was taken over by a server writes nowhere but where it may, reads nothing
// that is not its own, and reaches nobody but its gate.
func TestFetchIsConfined(t *testing.T) {
	t.Parallel()
	if !landlock.ConfinesPorts() {
		t.Skip("this kernel does not confine programs")
	}
	outside, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	script := filepath.Join(t.TempDir(), "rsync")
	text := `#!/bin/bash
[ "$1" = --version ] && { echo 'rsync  version 3.5.0'; exit; }
cat > names
echo x > OUTSIDE/x && echo '>f+++++++++ wrote outside'
cat SECRET > /dev/null && echo '>f+++++++++ read a secret'
echo x > /dev/tcp/127.0.0.1/PORT && echo '>f+++++++++ connected'
gate=${RSYNC_PROXY##*:}
exec 3<>/dev/tcp/127.0.0.1/$gate && echo '>f+++++++++ reached the gate'
[ -s names ] && echo '>f+++++++++ wrote inside'
true
`
	text = strings.NewReplacer("OUTSIDE", outside, "SECRET", secret, "PORT", port).Replace(text)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := rsync.Find(t.Context(), rsync.Options{Path: script})
	if err != nil {
		t.Fatal(err)
	}
	var did []string
	tr := rsync.Transfer{URL: "rsync://127.0.0.1:1/m/", Folder: t.TempDir(), Dial: counted(new(atomic.Int64))}
	for f, err := range p.Fetch(t.Context(), tr, slices.Values([]string{"a"})) {
		if err != nil {
			t.Fatal(err)
		}
		did = append(did, f.Name)
	}
	if want := []string{"reached the gate", "wrote inside"}; !slices.Equal(did, want) {
		t.Errorf("it %q, want only %q", did, want)
	}
}
