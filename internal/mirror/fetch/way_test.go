package fetch_test

import (
	"os"
	"path/filepath"
	"testing"

	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/kindtest"
)

// What a transfer before has left, of a time when a file was a folder at the server or a folder was a
// file, is in the way of nothing.
func TestInTheWay(t *testing.T) {
	t.Parallel()
	good := tree{"a": "a file now", "b/x": "in a folder now", "c/d/e": "in a folder of a folder", "f": "like a"}
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := fetch.Job{Folder: t.TempDir(), Sources: []fetch.Source{open(t, serve(t, good.write(t)), fetch.Options{})}}
			for _, file := range []string{"a/x/y", "b", "c/d"} {
				kindtest.Put(t, filepath.Join(j.Folder, file), "as it was")
			}
			if err := os.MkdirAll(filepath.Join(j.Folder, "f/empty"), 0o755); err != nil {
				t.Fatal(err)
			}
			check(t, j.Folder, good, run(t, j, good.wants()))
		})
	}
}
