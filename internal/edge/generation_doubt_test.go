package edge

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A file of a repository's name that is none, and a signature that was
// forgotten, are passed on when there is nothing better; what is better stays
// for its time.
func TestRootFilesThatDoNotFit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		key := newSigner(t)
		var version atomic.Int32
		files := newStatic(map[string]string{"/dists/sid/InRelease": "no such format", "/core.db": "a", "/core.db.sig": key.detached(t, "b")})
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Etag", fmt.Sprintf(`"%d"`, version.Load()))
			files.serve(rw, r)
		})
		for range 3 {
			if a := w.get("/dists/sid/InRelease"); a.status != 200 || a.body != "no such format" {
				t.Errorf("of another format: %d %q", a.status, a.body)
			}
			if a := w.get("/core.db"); a.status != 200 {
				t.Errorf("with a signature of something else: %d %s", a.status, a.body)
			}
			time.Sleep(5 * time.Minute)
		}

		// Good ones come, and then again such.
		good := "Suite: sid\nSHA256:\n " + strings.Repeat("0a", 32) + " 1 main/binary-amd64/Packages\n"
		version.Add(1)
		files.set("/dists/sid/InRelease", good)
		time.Sleep(3 * time.Minute)
		w.get("/dists/sid/InRelease")
		time.Sleep(5 * time.Second)
		if a := w.get("/dists/sid/InRelease"); a.body != good {
			t.Fatalf("a good one: %d %q", a.status, a.body)
		}
		version.Add(1)
		files.set("/dists/sid/InRelease", "<html>log in first</html>")
		for range 20 {
			time.Sleep(time.Hour)
			if a := w.get("/dists/sid/InRelease"); a.status != 200 || a.body != good {
				t.Fatalf("in the place of a good one: %d %q", a.status, a.body)
			}
		}
	})
}

// A publisher that removes the signature before it writes the new one: clients
// never see the file without it.
func TestSignatureComesLast(t *testing.T) {
	bubble(t, func(t *testing.T) {
		key := newSigner(t)
		files := newStatic(map[string]string{"/core.db": "1", "/core.db.sig": key.detached(t, "1")})
		var version atomic.Int32
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Etag", fmt.Sprintf(`"%d"`, version.Load()))
			files.serve(rw, r)
		})
		ask := func(want string) {
			t.Helper()
			db, sig := w.get("/core.db"), w.get("/core.db.sig")
			if db.body != want || sig.status != 200 {
				t.Errorf("%d %q, signature %d; want %q", db.status, db.body, sig.status, want)
			}
		}
		ask("1")
		version.Add(1)
		files.set("/core.db", "2")
		files.remove("/core.db.sig")
		time.Sleep(time.Minute) // it is asked for again only now
		for range 40 {
			time.Sleep(time.Second)
			ask("1")
		}
		version.Add(1)
		files.set("/core.db.sig", key.detached(t, "2"))
		time.Sleep(2 * time.Minute)
		w.get("/core.db")
		time.Sleep(5 * time.Second)
		ask("2")
	})
}
