package fetch_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/internal/closure"
	"freshet/internal/mirror/fetch"
	"freshet/internal/peertest"
	"freshet/internal/rsync"
)

// tree is the content of the files of an upstream, by path.
type tree map[string]string

// stamp is the time of all files of a tree.
func stamp() time.Time { return time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC) }

// write writes a tree to a new folder.
func (tr tree) write(t testing.TB) (folder string) {
	t.Helper()
	folder = t.TempDir()
	for name, content := range tr {
		path := filepath.Join(folder, name)
		if err := errors.Join(
			os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644), os.Chtimes(path, stamp(), stamp()),
		); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// wants is a want list of a tree, with everything told.
func (tr tree) wants() (list []fetch.Want) {
	for _, name := range slices.Sorted(maps.Keys(tr)) {
		list = append(list, fetch.Want{Path: name, Size: int64(len(tr[name])), Sum: sumOf(tr[name])})
	}
	return list
}

func sumOf(content string) closure.Sum {
	sum := sha256.Sum256([]byte(content))
	return closure.Sum{Hash: crypto.SHA256, Value: string(sum[:])}
}

func program(t testing.TB) *rsync.Program {
	t.Helper()
	peertest.Require(t, "rsync")
	p, err := rsync.Find(context.Background(), rsync.Options{AnyVersion: true})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func open(t testing.TB, url string, o fetch.Options) fetch.Source {
	t.Helper()
	if strings.HasPrefix(url, "rsync:") {
		o.Rsync = program(t)
	}
	s, err := fetch.Open(url, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// each yields the elements of a list, and no error.
func each(wants []fetch.Want) iter.Seq2[fetch.Want, error] {
	return func(yield func(fetch.Want, error) bool) {
		for _, w := range wants {
			if !yield(w, nil) {
				return
			}
		}
	}
}

// run runs a job to its end, and returns what it reported, each path once.
func run(t testing.TB, j fetch.Job, wants []fetch.Want) map[string]fetch.Result {
	t.Helper()
	results := make(map[string]fetch.Result)
	err := j.Fetch(t.Context(), each(wants), func(r fetch.Result) {
		if _, ok := results[r.Want.Path]; ok {
			t.Errorf("%q is reported twice", r.Want.Path)
		}
		results[r.Want.Path] = r
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(wants) {
		t.Errorf("%d of %d files are reported", len(results), len(wants))
	}
	return results
}

// check checks that all files of a tree have come, as they are.
func check(t testing.TB, folder string, tr tree, results map[string]fetch.Result) {
	t.Helper()
	for name, content := range tr {
		r := results[name]
		if r.Outcome != fetch.Fetched || r.Size != int64(len(content)) || r.SHA256 != sha256.Sum256([]byte(content)) || !r.ModTime.Equal(stamp()) {
			t.Errorf("%q: %s, %d bytes, %x, %v, %v", name, r.Outcome, r.Size, r.SHA256, r.ModTime, r.Err)
			continue
		}
		path := filepath.Join(folder, name)
		got, err := os.ReadFile(path)
		info, err2 := os.Lstat(path)
		if err != nil || err2 != nil || string(got) != content || !info.ModTime().Equal(stamp()) || info.Mode() != 0o644 {
			t.Errorf("%q: %d bytes of %v with mode %v: %v", name, len(got), info.ModTime(), info.Mode(), errors.Join(err, err2))
		}
	}
}
