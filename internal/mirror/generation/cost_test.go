package generation_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"freshet/internal/mirror/generation"
)

// costEnv is how many files the generation of TestCost has; 200,000 is the acceptance check.
const costEnv = "FRESHET_GENERATION_FILES"

// figuresEnv, when set, has times compared with what is promised.
const figuresEnv = "FRESHET_FIGURES"

// One generation more, of the same files, takes little of the disk: its folders, its
// manifest, and names.
func TestCost(t *testing.T) {
	files := 10_000
	if text := os.Getenv(costEnv); text != "" {
		var err error
		if files, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if os.Getenv(costEnv) != "" { // in memory folders take no room
		var err error
		if dir, err = os.MkdirTemp("/var/tmp", "freshet-cost-"); err != nil { //nolint:usetesting // TempDir is in memory
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	p := filledStore(t, dir, files, generation.Options{UnlinksPerSecond: 1 << 30})
	before := usage(t, dir)
	began := time.Now()
	if _, err := again(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	after := usage(t, dir)
	inodes, bytes := after.inodes-before.inodes, after.bytes-before.bytes
	t.Attr("generation", fmt.Sprintf("%d files in %.2f s, %.1f MB, %d inodes", files, took.Seconds(), float64(bytes)/1e6, inodes))
	most := int64(200 * files)
	if os.Getenv(costEnv) == "" {
		most += 1 << 20 // what does not depend on the number of files
	}
	if bytes > most {
		t.Errorf("it takes %d bytes, more than %d", bytes, most)
	}
	if inodes > 2000 {
		t.Errorf("it takes %d inodes", inodes)
	}
	if most := 25 * time.Microsecond * time.Duration(files); took > most && os.Getenv(figuresEnv) != "" {
		t.Errorf("it took %v, more than %v", took, most)
	}
	if _, err := p.Retire(t.Context(), -time.Hour); err != nil {
		t.Fatal(err)
	}
	const own = 4 // files and folders of the store: that of what is being removed, for instance
	if left := usage(t, dir); left.inodes > before.inodes+own || left.bytes > before.bytes+1<<20 {
		t.Errorf("when it has gone, %d inodes and %d bytes are left over", left.inodes-before.inodes, left.bytes-before.bytes)
	}
}
