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
