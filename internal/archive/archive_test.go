package archive_test

import (
	"path/filepath"
	"testing"
	"time"

	"freshet/internal/archive"
	"freshet/internal/flatpak"
	"freshet/internal/peertest"
)

// The stock tools find nothing wrong with what we write.
func TestFsck(t *testing.T) {
	peertest.Require(t, "ostree")
	dir := filepath.Join(t.TempDir(), "repo")
	repo, err := archive.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	const ref = "app/org.example.App/x86_64/stable"
	meta := flatpak.Metadata{Kind: flatpak.App, Name: "org.example.App", Runtime: "org.example.P/x86_64/stable", SDK: "org.example.S/x86_64/stable", Command: "x"}
	files := []archive.File{{Path: "files/bin/x", Content: []byte("#!/bin/sh\n"), Executable: true}}
	if err := repo.CommitFlatpak(ref, meta, files, []string{"export"}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if out, err := peertest.Command(t, "ostree", "fsck", "--repo="+dir).CombinedOutput(); err != nil {
		t.Errorf("ostree fsck: %v\n%s", err, out)
	}
	out, err := peertest.Command(t, "ostree", "ls", "-R", "--repo="+dir, ref).CombinedOutput()
	if err != nil {
		t.Fatalf("ostree ls: %v\n%s", err, out)
	}
	want := "d00755 0 0      0 /\n-00644 0 0    113 /metadata\nd00755 0 0      0 /export\nd00755 0 0      0 /files\nd00755 0 0      0 /files/bin\n-00755 0 0     10 /files/bin/x\n"
	if string(out) != want {
		t.Errorf("ostree ls:\n%swant:\n%s", out, want)
	}
}
