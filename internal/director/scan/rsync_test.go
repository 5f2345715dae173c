package scan

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/rsync/rsynctest"
)

// A listing of a real rsync server: links count as what they lead to, private files and
// those that rsync keeps aside do not.
func TestRsync(t *testing.T) {
	t.Parallel()
	tree := files{
		"dists/bookworm/InRelease": "release", "dists/bookworm/main/Packages": "packages",
		"pool/a_1.deb": "a", "pool/odd\nname é.deb": "odd",
		"private/x": "x", "secret": "s", "pool/.~tmp~/b_1.deb": "b",
	}
	folder := tree.write(t)
	link(t, folder, "dists/stable", "bookworm")
	link(t, folder, "latest.deb", "pool/a_1.deb")
	link(t, folder, "newest.deb", "latest.deb")
	link(t, folder, "pool/loop", "..")
	link(t, folder, "outside", "../../etc/passwd")
	link(t, folder, "dangling", "nowhere")
	if err := errors.Join(os.Chmod(filepath.Join(folder, "secret"), 0o600), os.Chmod(filepath.Join(folder, "private"), 0o711)); err != nil {
		t.Fatal(err)
	}
	s := newScanner(t, Options{})
	target := target{key: key{"", "p"}, how: directorapi.HowRsync, source: rsynctest.Serve(t, folder)}
	m := new(memo)
	got, err := once(t, s, target, m)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, map[string]int64{
		"dists/bookworm/InRelease": 7, "dists/bookworm/main/Packages": 8,
		"dists/stable/InRelease": 7, "dists/stable/main/Packages": 8,
		"pool/a_1.deb": 1, "latest.deb": 1, "newest.deb": 1,
	})

	// What a second scan finds is what there is then, and its links are known.
	if err := errors.Join(os.Remove(filepath.Join(folder, "latest.deb")), os.WriteFile(filepath.Join(folder, "pool/b_2.deb"), []byte("bb"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if got, err = once(t, s, target, m); err != nil {
		t.Fatal(err)
	}
	if _, ok := got["latest.deb"]; ok || got["pool/b_2.deb"] != 2 {
		t.Errorf("after a change: %v", paths(got))
	}
}

func TestRsyncFails(t *testing.T) {
	t.Parallel()
	s := newScanner(t, Options{})
	url := rsynctest.Serve(t, files{"a": "a"}.write(t))
	for name, tt := range map[string]struct {
		source string
		want   Reason
	}{
		"no folder":     {url + "none/", Refused},
		"nobody":        {"rsync://127.0.0.1:1/m/", Unreachable},
		"no rsync URL":  {"https://example.org/", BadListing},
		"nothing to do": {"", BadListing},
	} {
		_, err := once(t, s, target{key: key{"m", "p"}, how: directorapi.HowRsync, source: tt.source}, new(memo))
		if reasonOf(err) != tt.want {
			t.Errorf("%s: %v (%s), want %s", name, err, reasonOf(err), tt.want)
		}
	}
	s.o.Rsync.Path = "/nowhere/rsync"
	if _, err := once(t, s, target{how: directorapi.HowRsync, source: url}, new(memo)); reasonOf(err) != Setup {
		t.Errorf("without rsync: %v", err)
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	l := make(links)
	for _, pair := range [][2]string{
		{"a/x", "../b"},
		{"b/y", "../a"}, // each is in the other
		{"self", "self"},
		{"in/side", ".."},
		{"root", "."},
		{"out", "../x"},
		{"abs", "/etc"},
		{"none", ""},
		{"one", "dir//./file"},
	} {
		l.add(pair[0], pair[1])
	}
	if got := l.aliases("dir/file"); !slices.Equal(got, []string{"one"}) {
		t.Errorf("dir/file is also %q", got)
	}
	if got := l.aliases("other"); got != nil {
		t.Errorf("other is also %q", got)
	}
	got := l.aliases("b/f")
	if len(got) == 0 || len(got) > maxAliases || got[0] != "a/x/f" {
		t.Errorf("b/f is also %q", got)
	}
}
