// Package ramtest keeps the temporary files of tests in memory. A store tells
// the disk again and again to keep what it wrote, and on a disk with much to do
// tests would only wait for that: what it does to them, the loss of power, is
// nothing that they could try.
//
// It is imported by tests only.
package ramtest

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	// memory is the file system in memory that every Linux has.
	memory = "/dev/shm"
	// room is how much of it has to be free.
	room = 4 << 30
)

// Run is m.Run, for a TestMain, with the folders of [testing.T.TempDir] in memory.
// They are where they always are if there is too little of that, or if the
// environment names a folder in TMPDIR.
func Run(m *testing.M) int {
	dir, err := folder()
	if err != nil {
		fmt.Fprintln(os.Stderr, "temporary files are not in memory:", err)
		return m.Run()
	}
	if dir == "" {
		return m.Run()
	}
	defer func() { _ = os.RemoveAll(dir) }() // tests have removed theirs
	if err := os.Setenv("TMPDIR", dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// folder makes a folder in memory; "" if the environment names another.
func folder() (string, error) {
	if os.Getenv("TMPDIR") != "" {
		return "", nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(memory, &st); err != nil {
		return "", fmt.Errorf("look at %s: %w", memory, err)
	}
	if st.Type != unix.TMPFS_MAGIC || int64(st.Bavail)*st.Bsize < room {
		return "", fmt.Errorf("%s has too little room", memory)
	}
	return os.MkdirTemp(memory, "freshet-test-")
}
