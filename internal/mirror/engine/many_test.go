package engine_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/kindtest"
	"freshet/internal/rsync/rsynctest"
)

// filesEnv is how many files the tree of TestMany has; 300,000 is the acceptance check.
const filesEnv = "FRESHET_ENGINE_FILES"

// figuresEnv, when set, has times compared with what is promised.
const figuresEnv = "FRESHET_FIGURES"

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
	kindtest.Put(t, filepath.Join(up, "lastupdate"), "1")
	if err := os.Chtimes(filepath.Join(up, "lastupdate"), old, old); err != nil {
		t.Fatal(err)
	}
	c := child{
		Store: filepath.Join(t.TempDir(), "store"), URL: rsynctest.Serve(t, up),
		Config: kind.Config{Format: kind.Plain, Probe: []string{"lastupdate"}},
	}
	step := func(what, want string, promised time.Duration) {
		began := time.Now()
		told := c.tell(t)
		took := time.Since(began)
		t.Attr(what, fmt.Sprintf("%s in %.2f s, %d MB, the rsync beside it %d MB", told.Result, took.Seconds(), told.Memory/1e6, told.RsyncMemory/1e6))
		if told.Result != want {
			t.Errorf("%s: %s, want %s", what, told.Result, want)
		}
		if promised == 0 {
			return
		}
		if most := int64(40e6 + 200*files); told.Memory+told.RsyncMemory > most && !raced {
			t.Errorf("%s: it takes %d bytes of memory and rsync %d, more than %d together", what, told.Memory, told.RsyncMemory, most)
		}
		if took > promised && os.Getenv(figuresEnv) != "" {
			t.Errorf("%s took %v, more than %v", what, took, promised)
		}
		if walked := slices.Contains(told.Steps, mirrorapi.StepList); walked == c.Probe {
			t.Errorf("%s: it made the steps %v", what, told.Steps)
		}
	}
	step("first", "published", 0)
	step("forced", "unchanged", 10*time.Second)
	c.Probe = true
	step("probed", "unchanged", time.Second)
	c.Probe = false
	kindtest.Put(t, filepath.Join(up, "pool/001/new"), "new")
	step("one-new", "published", 0)
}
