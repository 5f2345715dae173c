package fetch_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"freshet/internal/closure"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/nginxtest"
	"freshet/internal/rsync/rsynctest"
)

// long is a file that is fetched in pieces, of bytes that are not the same anywhere.
func long() string {
	b := make([]byte, 70<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

// A long file comes in pieces; what is there after the end of a process is not fetched
// again, unless it is of another version.
func TestLong(t *testing.T) {
	t.Parallel()
	text := long()
	const pieces = 5
	for name, tt := range map[string]struct {
		sum    closure.Sum
		tag    string // of the second run
		ranges int    // in both runs
		never  bool   // ranges are not served
	}{
		"with a checksum":    {sum: sumOf(text), tag: `"a"`, ranges: pieces},
		"without":            {tag: `"a"`, ranges: pieces},
		"of another version": {tag: `"b"`, ranges: -1},
		"whole":              {sum: sumOf(text), never: true, ranges: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var asked []string
			tag, left := `"a"`, 2 // requests that are answered in the first run
			ctx, cancel := context.WithCancel(t.Context())
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				left--
				stop := left < 0
				if !stop {
					asked = append(asked, r.Header.Get("Range"))
				}
				w.Header().Set("ETag", tag)
				mu.Unlock()
				if stop {
					cancel()
					return
				}
				if tt.never {
					r.Header.Del("Range")
					if left == 1 {
						r.Header.Del("If-Range")
					}
				}
				http.ServeContent(w, r, "", stamp(), strings.NewReader(text))
			}))
			defer server.Close()
			want := fetch.Want{Path: "dir/long.iso", Size: int64(len(text)), Sum: tt.sum}
			j := fetch.Job{Folder: t.TempDir(), Sources: []fetch.Source{open(t, server.URL, fetch.Options{Connections: 1})}, Attempts: 1}
			if !tt.never {
				err := j.Fetch(ctx, each([]fetch.Want{want}), func(r fetch.Result) { t.Errorf("%+v", r) })
				if !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
			}
			mu.Lock()
			left = 1000
			if !tt.never {
				tag = tt.tag
			}
			mu.Unlock()
			r := run(t, j, []fetch.Want{want})["dir/long.iso"]
			if r.Outcome != fetch.Fetched || r.SHA256 != sha256.Sum256([]byte(text)) || !r.ModTime.Equal(stamp()) {
				t.Errorf("%s, %v, %v", r.Outcome, r.ModTime, r.Err)
			}
			if got, err := os.ReadFile(filepath.Join(j.Folder, "dir/long.iso")); err != nil || string(got) != text {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if tt.ranges >= 0 && len(asked) != tt.ranges {
				t.Errorf("asked for %q, want %d requests", asked, tt.ranges)
			}
			if entries, err := os.ReadDir(filepath.Join(j.Folder, fetch.PartsFolder)); err != nil || len(entries) != 0 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
}

// cutter ends one connection after so many bytes, and counts those of all.
type cutter struct {
	net.Conn
	left  *atomic.Int64
	total *atomic.Int64
}

func (c *cutter) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.total.Add(int64(n))
	if c.left.Add(int64(-n)) < 0 {
		c.left.Store(1 << 40)
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// What rsync has of a file that was cut is not fetched again, and the files before it are
// not either.
func TestRsyncGoesOn(t *testing.T) {
	t.Parallel()
	text := long()[:40<<20]
	all := tree{"a/first": "1", "b/long": text, "c/last": "2"}
	var left, total atomic.Int64
	left.Store(30 << 20)
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &cutter{c, &left, &total}, err
	}
	source := open(t, rsynctest.Serve(t, all.write(t)), fetch.Options{Dial: dial})
	j := fetch.Job{Folder: t.TempDir(), Sources: []fetch.Source{source}, Attempts: 1, Progress: new(fetch.Progress)}
	results := run(t, j, all.wants())
	if r := results["b/long"]; r.Outcome != fetch.Failed || !errors.Is(r.Err, fetch.ErrUnreachable) || results["a/first"].Outcome != fetch.Fetched {
		t.Errorf("after a cut: %s, %v; before it: %s", r.Outcome, r.Err, results["a/first"].Outcome)
	}
	total.Store(0)
	check(t, j.Folder, all, run(t, j, all.wants()))
	if n := total.Load(); n > 20<<20 {
		t.Errorf("%d bytes came after the cut, of %d", n, len(text))
	}
	// And a job does all of that by itself.
	left.Store(30 << 20)
	total.Store(0)
	j = fetch.Job{Folder: t.TempDir(), Sources: []fetch.Source{source, source}}
	check(t, j.Folder, all, run(t, j, all.wants()))
	if n := total.Load(); n > 60<<20 {
		t.Errorf("%d bytes came in all, of %d", n, len(text))
	}
}

// A short file that the server cannot read keeps no long one from coming, nor the other way
// round.
func TestRsyncReadsTheRest(t *testing.T) {
	t.Parallel()
	all := tree{"long/a": strings.Repeat("a", 9<<20), "short/a": "a"}
	folder := all.write(t)
	wants := all.wants()
	for _, w := range []fetch.Want{{Path: "long/b", Size: 9 << 20}, {Path: "short/b", Size: 1}} {
		if err := os.Symlink("b", filepath.Join(folder, w.Path)); err != nil { // to itself: that is no file, and not absent
			t.Fatal(err)
		}
		wants = append(wants, w)
	}
	source := open(t, rsynctest.Serve(t, folder), fetch.Options{})
	j := fetch.Job{Folder: t.TempDir(), Sources: []fetch.Source{source}, Attempts: 1}
	results := run(t, j, wants)
	check(t, j.Folder, all, results)
	for _, name := range []string{"long/b", "short/b"} {
		if r := results[name]; r.Outcome != fetch.Failed {
			t.Errorf("%s: %s, %v", name, r.Outcome, r.Err)
		}
	}
}

// Both kinds of sources list what there is, and read small files.
func TestListAndRead(t *testing.T) {
	t.Parallel()
	all := tree{
		"top": "t", "dir/with space": "s", "dir/new\nline": "nn", "dir/ü%41?x=1#y": "odd", "dir/deep/er/f": strings.Repeat("x", 3000),
		"empty": "", "repodata/repomd.xml": "<repomd/>", "dir/.~tmp~/x": "no", "dir/c:d": "c",
	}
	folder := all.write(t)
	if err := os.Symlink("../top", filepath.Join(folder, "dir/link")); err != nil {
		t.Fatal(err)
	}
	at := map[string]string{"rsync": rsynctest.Serve(t, folder)}
	at["nginx"] = nginxtest.Serve(t, folder)
	at["nginx, HTML"] = at["nginx"] + "html/"
	for name, url := range at {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, url, fetch.Options{Scratch: t.TempDir()})
			testRead(t, s, "repodata/repomd.xml", "<repomd/>")
			for _, below := range []string{".", "dir"} {
				files, folders := make(map[string]bool), 0
				for e, err := range s.List(t.Context(), below) {
					if err != nil {
						t.Fatal(err)
					}
					switch {
					case e.Type == 'd':
						folders++
					case e.Path == "dir/link" && e.Type == 'l':
						if e.Target != "../top" {
							t.Errorf("the link leads to %q", e.Target)
						}
					case e.Path == "dir/link":
					case e.Type != 'f' || e.Size != int64(len(all[e.Path])) || !e.ModTime.Equal(stamp()) || e.Private:
						t.Errorf("%+v", e)
					default:
						files[e.Path] = true
					}
				}
				want := 0
				for path := range all {
					if strings.Contains(path, ".~tmp~") || below == "dir" && !strings.HasPrefix(path, "dir/") {
						continue
					}
					want++
					if !files[path] {
						t.Errorf("%s: %q is not listed", below, path)
					}
				}
				if len(files) != want || folders == 0 {
					t.Errorf("%s: %d files and %d folders, want %d", below, len(files), folders, want)
				}
			}
			for _, below := range []string{"gone", "top"} {
				for e, err := range s.List(t.Context(), below) {
					if !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%s: %+v, %v", below, e, err)
					}
				}
			}
		})
	}
}

// A list of all files takes the place of the listings of folders.
func TestFileList(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	b.WriteString("[Version]\n2\n\n[Files]\n1714979289\tf\t5\tlinux/a\n1714979289\td\t4096\tlinux\n1714979289\tf*\t7\tother/b\n\n[End]\n")
	folder := tree{"pub/fullfiletimelist-x": b.String()}.write(t)
	s := open(t, nginxtest.Serve(t, folder), fetch.Options{FileList: "pub/fullfiletimelist-x"})
	var got []fetch.Entry
	for e, err := range s.List(t.Context(), ".") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if len(got) != 3 || got[0] != (fetch.Entry{Path: "pub/linux/a", Type: 'f', Size: 5, ModTime: stamp()}) || !got[2].Private {
		t.Errorf("%+v", got)
	}
}

// Servers behind one name that tell different things of the same file give it, if not in
// pieces.
func TestLongOfManyServers(t *testing.T) {
	t.Parallel()
	text := long()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, asked.Add(1)))
		http.ServeContent(w, r, "", stamp(), strings.NewReader(text))
	}))
	defer server.Close()
	want := fetch.Want{Path: "long.iso", Size: int64(len(text))}
	j := fetch.Job{Folder: t.TempDir(), Sources: []fetch.Source{open(t, server.URL, fetch.Options{})}, Attempts: 1}
	r := run(t, j, []fetch.Want{want})["long.iso"]
	if r.Outcome != fetch.Fetched || r.SHA256 != sha256.Sum256([]byte(text)) || asked.Load() > 20 {
		t.Errorf("%s, %v after %d requests", r.Outcome, r.Err, asked.Load())
	}
}
