package fetch_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/nginxtest"
	"freshet/internal/rsync/rsynctest"
)

// servers are the programs that a tree is fetched from.
var servers = map[string]func(testing.TB, string) string{"rsync": rsynctest.Serve, "nginx": nginxtest.Serve}

// Files with whatever names come from real servers, whole and with their times. Of those
// that are not as wanted the reason is told, and they are not there.
func TestFetch(t *testing.T) {
	t.Parallel()
	good := tree{
		"plain": "p", "dir/with space": "s", "dir/ü%41?x=1#y": "odd", "dir/new\nline": "n", "dir/colon:a": "c", "empty": "",
		"dir/deep/er/file.rpm": strings.Repeat("rpm", 100_000), "-rf": "x", "#x": "y", "dir/\xff": "z", "dir/+~": "+",
	}
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream := tree{"flipped": "abcd", "longer": "abcdef", "unknown": "u", "secret": "s"}
			maps.Copy(upstream, good)
			from := upstream.write(t)
			if err := os.Chmod(filepath.Join(from, "secret"), 0); err != nil {
				t.Fatal(err)
			}
			wants := append(good.wants(),
				fetch.Want{Path: "flipped", Size: 4, Sum: sumOf("abcX")}, fetch.Want{Path: "longer", Size: 3},
				fetch.Want{Path: "absent", Size: 1}, fetch.Want{Path: "unknown", Size: -1}, fetch.Want{Path: "secret", Size: -1})
			j := fetch.Job{Folder: t.TempDir(), Sources: []fetch.Source{open(t, serve(t, from), fetch.Options{})}, Progress: new(fetch.Progress)}
			results := run(t, j, wants)
			good := tree{"unknown": "u"}
			for name, content := range upstream {
				if name != "flipped" && name != "longer" && name != "secret" {
					good[name] = content
				}
			}
			check(t, j.Folder, good, results)
			for name, want := range map[string]fetch.Outcome{"flipped": fetch.Wrong, "longer": fetch.Wrong, "absent": fetch.Absent, "secret": fetch.Denied} {
				r := results[name]
				if name == "secret" && os.Geteuid() != 0 {
					continue // the server may read what is its own
				}
				if r.Outcome != want || r.Err == nil || r.From == "" {
					t.Errorf("%s: %s from %q, %v, want %s", name, r.Outcome, r.From, r.Err, want)
				}
				if _, err := os.Lstat(filepath.Join(j.Folder, name)); !os.IsNotExist(err) {
					t.Errorf("%s is there: %v", name, err)
				}
			}
			if j.Progress.Files.Load() != int64(len(good)) || j.Progress.Problems.Load() != 4 || j.Progress.Received.Load() < 300_000 {
				t.Errorf("progress: %d files, %d bytes, %d problems", j.Progress.Files.Load(), j.Progress.Received.Load(), j.Progress.Problems.Load())
			}
			// Once more: what is there is looked at, and not fetched again.
			j.Progress = new(fetch.Progress)
			check(t, j.Folder, good, run(t, j, good.wants()))
			if n := j.Progress.Received.Load(); n > 20_000 {
				t.Errorf("%d bytes came a second time", n)
			}
		})
	}
}
