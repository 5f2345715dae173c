package scan

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/inventory"
	"freshet/internal/rsync"
)

// BenchmarkRescan scans a mirror of a million files in which nothing has changed, whose
// rsync is a program that has the listing ready.
func BenchmarkRescan(b *testing.B) {
	const folders, each = 10_000, 100
	dir := b.TempDir()
	listing := filepath.Join(dir, "listing")
	f, err := os.Create(listing)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, "drwxr-xr-x        4096 2026/11/21 21:07:29 .")
	for i := range folders {
		for j := range each {
			fmt.Fprintf(w, "-rw-r--r-- %11d 2026/11/21 21:07:29 releases/40/Everything/x86_64/os/Packages/%05d/package-name-%d-1.2.3-4.fc40.x86_64.rpm\n", i*each+j, i, j)
		}
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	program := filepath.Join(dir, "rsync")
	script := "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'rsync  version 3.5.0'; exit; }\nexec cat " + listing + "\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		b.Fatal(err)
	}
	s := New(Options{
		Inventory: new(inventory.Inventory), Catalogue: newShelf(new(directorapi.Catalogue)), Rsync: rsync.Options{Path: program},
	})
	scan := func(mirror string) {
		t := target{key: key{mirror, "p"}, how: directorapi.HowRsync, source: "rsync://mirror.example/m/"}
		if _, err := s.scan(b.Context(), t, new(memo)); err != nil {
			b.Fatal(err)
		}
	}
	scan("")
	scan("m")
	b.ResetTimer()
	for b.Loop() {
		scan("m")
	}
}
