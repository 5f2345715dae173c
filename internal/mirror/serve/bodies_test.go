package serve_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Short files that are asked for often are sent from memory, whole and in parts, until a
// file is taken out of service; long ones are not kept there.
func TestShortFilesInMemory(t *testing.T) {
	dir := t.TempDir()
	w := newWorldIn(t, dir, 0)
	short, long := strings.Repeat("0123456789", 100), strings.Repeat("x", 100_000)
	w.publish(map[string]string{"short.rpm": short, "long.rpm": long, "empty.rpm": ""})
	for range 8 {
		for path, want := range map[string]string{"short.rpm": short, "long.rpm": long, "empty.rpm": ""} {
			if a := w.get("/epel/" + path); a.status != http.StatusOK || a.body != want {
				t.Fatalf("%s: %d with %d bytes", path, a.status, len(a.body))
			}
		}
	}
	if got := w.site.InMemory(); got != int64(len(short)) {
		t.Errorf("%d bytes are in memory, want %d", got, len(short))
	}
	change := func(name string) { // in place, so that who reads the file sees it
		t.Helper()
		path := filepath.Join(dir, "projects/epel/current/tree", name)
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("changed"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	change("short.rpm")
	change("long.rpm")
	if a := w.get("/epel/short.rpm"); a.body != short {
		t.Errorf("the short one: %.20q", a.body)
	}
	if a := w.get("/epel/long.rpm"); !strings.HasPrefix(a.body, "changed") {
		t.Errorf("the long one: %.20q", a.body)
	}
	if a := w.get("/epel/short.rpm", "Range", "bytes=5-14"); a.status != http.StatusPartialContent || a.body != "5678901234" {
		t.Errorf("a part: %d %q", a.status, a.body)
	}
	if a := w.do(http.MethodHead, "/epel/short.rpm"); a.header.Get("Content-Length") != "1000" || a.body != "" {
		t.Errorf("HEAD: %v %q", a.header, a.body)
	}
	w.site.Forget()
	if a := w.get("/epel/short.rpm"); !strings.HasPrefix(a.body, "changed") || w.site.InMemory() != 0 {
		t.Errorf("it is forgotten: %.20q, %d bytes in memory", a.body, w.site.InMemory())
	}
}

// What is in memory has its bound, is given back to the byte, and is that of the
// generation, whoever asks meanwhile.
func TestMemoryIsBounded(t *testing.T) {
	const most = 20_000
	w := newWorldIn(t, t.TempDir(), most)
	text := func(round, i int) string { return strings.Repeat(fmt.Sprintf("%d.%d ", round, i), 100+i) }
	publish := func(round int) {
		files := make(map[string]string)
		for i := range 60 {
			files[fmt.Sprintf("%d/%d.rpm", round, i)] = text(round, i)
		}
		w.publish(files)
	}
	var filled atomic.Bool
	for round := range 3 {
		publish(round)
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				transport := new(http.Transport)
				defer transport.CloseIdleConnections()
				for range 400 {
					i := min(rand.IntN(60), rand.IntN(60))
					if a := w.with(transport, http.MethodGet, fmt.Sprintf("/epel/%d/%d.rpm", round, i)); a.body != text(round, i) {
						t.Errorf("file %d: %d with %d bytes: %.40q", i, a.status, len(a.body), a.body)
						return
					}
					held := w.site.InMemory()
					if held > most+8*1000 { // each of them may be asking for room
						t.Errorf("%d bytes are in memory", held)
						return
					}
					if held > most/2 {
						filled.Store(true)
					}
				}
			})
		}
		clients.Wait()
		w.site.CloseStale()
	}
	if !filled.Load() {
		t.Error("nothing is kept in memory")
	}
	w.site.Close()
	for deadline := time.Now().Add(time.Minute); w.site.InMemory() != 0; time.Sleep(time.Millisecond) { // the last answer may be under way
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are in memory at the end", w.site.InMemory())
		}
	}
}
