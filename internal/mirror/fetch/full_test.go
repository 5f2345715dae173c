package fetch_test

import (
	"strings"
	"testing"

	"freshet/internal/durable"
	"freshet/internal/mirror/fetch"

	"golang.org/x/sys/unix"
)

// A full disk ends a job, at once and with an error that says so, whichever source fills it.
func TestFull(t *testing.T) {
	t.Parallel()
	all := tree{"big": strings.Repeat("x", 3<<20), "small": "s"}
	from := all.write(t)
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "size=1m"); err != nil {
				t.Skipf("a small disk cannot be made: %v", err)
			}
			t.Cleanup(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
			s := open(t, serve(t, from), fetch.Options{})
			j := fetch.Job{Folder: folder, Sources: []fetch.Source{s, s}}
			err := j.Fetch(t.Context(), each(all.wants()), func(r fetch.Result) {
				if r.Want.Path == "big" {
					t.Errorf("big is %s: %v", r.Outcome, r.Err)
				}
			})
			if !durable.IsNoSpace(err) {
				t.Errorf("got %v, want that there is no space", err)
			}
		})
	}
}
