package fetch_test

import (
	"slices"
	"strings"
	"testing"

	"freshet/internal/mirror/fetch"
	"freshet/internal/rsync/rsynctest"
)

// A server of rsync that sends a file without end is given up.
func TestEndlessFile(t *testing.T) {
	t.Parallel()
	endless := func(yield func([]byte) bool) {
		for piece := make([]byte, 32<<10); yield(piece); {
		}
	}
	s := open(t, rsynctest.Lie{Names: slices.Values([]string{"a"}), Content: endless}.Serve(t), fetch.Options{Scratch: t.TempDir()})
	_, err := s.Read(t.Context(), "a", 1<<20, fetch.Validator{})
	if err == nil || !strings.Contains(err.Error(), "it sends more than it has told of") {
		t.Errorf("it is read: %v", err)
	}
}
