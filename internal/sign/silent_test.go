package sign

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// silentSocket is one on which somebody listens who never says anything.
func silentSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent-") //nolint:usetesting // t.TempDir makes names that are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "S"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = listener.Close()
		_ = os.RemoveAll(dir)
	})
	return filepath.Join(dir, "S")
}
