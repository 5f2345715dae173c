package engine_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"freshet/internal/mirror/kind"
	"freshet/internal/rsync/rsynctest"
)

// filesEnv is how many files the tree of TestMany has; 300,000 is the acceptance check.
const filesEnv = "FRESHET_ENGINE_FILES"

// That nothing is new in a large tree is known from one small file; and when all of it is
// looked at, memory is little.
func TestMany(t *testing.T) {
	files := 8_000
	if text := os.Getenv(filesEnv); text != "" {
		var err error
		if files, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	up := t.TempDir()
	old := time.Unix(1_700_000_000, 0)
	for i := range files {
		name := filepath.Join(up, fmt.Sprintf("pool/%03d", i%499), fmt.Sprintf("a-package-of-the-distribution-with-a-name-%07d.rpm", i))
		if i < 499 {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(name, []byte(strconv.Itoa(i)), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(up, "lastupdate"), "1")
	if err := os.Chtimes(filepath.Join(up, "lastupdate"), old, old); err != nil {
		t.Fatal(err)
	}
	c := child{
		Store: filepath.Join(t.TempDir(), "store"), URL: rsynctest.Serve(t, up),
		Config: kind.Config{Format: kind.Plain, Probe: []string{"lastupdate"}},
	}
	step := func(what, want string) {
		began := time.Now()
		_, result, memory := c.measure(t)
		t.Logf("%s: %s in %s, %d MB", what, result, time.Since(began).Round(time.Millisecond), memory>>20)
		if result != want {
			t.Errorf("%s: %s, want %s", what, result, want)
		}
		if most := int64(40<<20 + 200*files); memory > most && what != "first" && !raced {
			t.Errorf("%s: it takes %d bytes of memory, more than %d", what, memory, most)
		}
	}
	step("first", "published")
	step("forced", "unchanged")
	c.Probe = true
	step("probed", "unchanged")
	c.Probe = false
	put(t, filepath.Join(up, "pool/001/new"), "new")
	step("one new", "published")
}
