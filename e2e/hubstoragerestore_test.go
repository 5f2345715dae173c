package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"freshet/internal/peertest"
)

// pruned prunes until so many objects are gone from the bucket.
func (s *stored) pruned(objects int) {
	s.t.Helper()
	before := s.objects()
	eventually(s.t, "the objects of old versions go", time.Minute, func() error {
		run(s.t, "hub", "prune", "stable", "--hub", s.url, "--token-file", s.adminFile)
		if after := s.objects(); after > before-objects {
			return fmt.Errorf("%d objects in the bucket, %d before", after, before)
		}
		return nil
	})
}

// A hub gets back its directory, and later its database alone, as they were before a
// prune. What is published then is whole in the bucket too, also where it uses what the
// directory has and the prune had removed.
func TestStorageRestored(t *testing.T) {
	parallel(t)
	peertest.Require(t, "ostree")
	s := startStored(t)
	user := newClient(t)
	for version := 1; version <= 3; version++ {
		s.publish(version)
	}
	s.stop(syscall.SIGTERM)
	saved := filepath.Join(t.TempDir(), "saved")
	if err := os.CopyFS(saved, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	s.again()
	s.pruned(2 * 20)
	s.stop(syscall.SIGTERM)
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(s.dir, os.DirFS(saved)); err != nil {
		t.Fatal(err)
	}
	s.again()
	s.serves(3)
	if out := run(t, "hub", "fsck", filepath.Join(s.dir, "repos", "stable"), "--config", s.config); !strings.Contains(out, "sound") {
		t.Errorf("the directory is restored: %s", out)
	}
	s.publish(1) // the directory has its files
	s.sound(user)

	s.stop(syscall.SIGTERM)
	files, err := filepath.Glob(filepath.Join(s.dir, "hub.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no database: %v", err)
	}
	old := map[string][]byte{}
	for _, file := range files {
		if old[file], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	s.again()
	s.publish(4)
	s.pruned(20)
	s.stop(syscall.SIGTERM)
	if files, err = filepath.Glob(filepath.Join(s.dir, "hub.db*")); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	for file, data := range old {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.again()
	s.serves(4)
	s.publish(5)
	s.publish(2)
	s.sound(user)
}
