package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"freshet/api/hubapi"
)

// The flags of the README lead clients to the edge, not past it: the file that
// users give to flatpak names the edge, and so does what it leads to.
func TestPublicURL(t *testing.T) {
	parallel(t)
	work := t.TempDir()
	addr := freeAddr(t)
	hub := startHub(t, filepath.Join(work, "hub"), "", "", "--public-url", "http://"+addr)
	edge := startEdge(t, filepath.Join(work, "edge"), addr, hub.url)
	repo := edge.url + hubapi.RepoPath("stable")
	file := string(get(t, repo+"stable.flatpakrepo", 200))
	if !strings.Contains(file, "\nUrl="+strings.TrimSuffix(repo, "/")) {
		t.Errorf("clients are led elsewhere than to %s:\n%s", repo, file)
	}
	if strings.Contains(file, hub.url) {
		t.Errorf("the file names the hub:\n%s", file)
	}
}
