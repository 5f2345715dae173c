package rsync_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"freshet/internal/rsync"
	"freshet/internal/rsync/rsynctest"
)

// A listing that never ends ends when rsync has taken what it may of memory, though it has not written
// a line.
func TestEndlessListing(t *testing.T) {
	t.Parallel()
	names := func(yield func(string) bool) {
		for i := 0; yield(fmt.Sprintf("%012d%s", i, strings.Repeat("x", 200))); i++ {
		}
	}
	url := rsynctest.Lie{Names: names}.Serve(t)
	n := 0
	var failed error
	for _, err := range find(t).List(t.Context(), rsync.Listing{URL: url, MaxEntries: 1000}) {
		if failed = err; err == nil {
			n++
		}
	}
	if failed == nil || n > 0 || !strings.Contains(failed.Error(), "(22)") {
		t.Errorf("%d entries, %v", n, failed)
	}
}

// Of a file that is longer than it should be no more is written than may be.
func TestTooLongFile(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	lie := rsynctest.Lie{
		Names:   slices.Values([]string{"a"}),
		Content: slices.Values(slices.Repeat([][]byte{make([]byte, 32<<10)}, 3*most/(32<<10))),
	}
	for _, partial := range []bool{false, true} {
		tr := rsync.Transfer{URL: lie.Serve(t), Folder: t.TempDir(), EndSize: most, Partial: partial}
		came, wrong, err := fetch(t, tr, "a")
		if err == nil || len(came) > 0 || len(wrong) > 0 {
			t.Errorf("came %q, wrong %v, %v", came, wrong, err)
		}
		if err := filepath.WalkDir(tr.Folder, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			if info, err := e.Info(); err != nil || info.Size() > most {
				t.Errorf("%s has %d bytes, %v", path, info.Size(), err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
}
