package versions

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/durable"
	"freshet/internal/inventory"
	"freshet/internal/memnet"
)

const (
	project = "fedora"
	pointer = "40/os/repodata/repomd.xml"
)

// contents are files by path.
type contents map[string]string

func digest(content string) sum { return sha256.Sum256([]byte(content)) }

// rpms is version n of a repository with these packages, whose content is their name.
// Metadata of all versions have the same names, as of createrepo_c --simple-md-filenames.
func rpms(n int, packages ...string) contents {
	c := make(contents)
	primary := "<metadata>"
	for _, p := range packages {
		c["40/os/Packages/"+p] = p
		primary += fmt.Sprintf(`<package type="rpm"><checksum type="sha256">%x</checksum><size package="%d"/><location href="Packages/%s"/></package>`, digest(p), len(p), p)
	}
	primary += "</metadata>" + strings.Repeat(" ", n)
	c["40/os/repodata/primary.xml"] = primary
	c[pointer] = fmt.Sprintf(`<repomd><revision>%d</revision><data type="primary"><checksum type="sha256">%x</checksum><size>%d</size><location href="repodata/primary.xml"/></data></repomd>`,
		n, digest(primary), len(primary))
	return c
}

// origin is a server of files that can be taken away.
type origin struct {
	mu    sync.Mutex
	files contents
	away  bool
	asked map[string]int // requests by path and status
	next  map[string]contents
}

// after makes the origin publish when it has sent a file.
func (o *origin) after(path string, c contents) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.next = map[string]contents{path: c}
}

func (o *origin) publish(c contents) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files = c
}

func (o *origin) leave(away bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.away = away
}

func (o *origin) count(path string, status int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[fmt.Sprint(path, " ", status)]
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/")
	content, ok := o.files[path]
	status := http.StatusOK
	etag := fmt.Sprintf(`"%x"`, digest(content))
	switch {
	case o.away:
		status = http.StatusBadGateway
	case !ok:
		status = http.StatusNotFound
	case r.Header.Get("If-None-Match") == etag:
		status = http.StatusNotModified
	}
	if o.asked == nil {
		o.asked = make(map[string]int)
	}
	o.asked[fmt.Sprint(path, " ", status)]++
	w.Header().Set("ETag", etag)
	w.WriteHeader(status)
	if status == http.StatusOK {
		_, _ = w.Write([]byte(content))
	}
	if next := o.next[path]; next != nil {
		o.files, o.next = next, nil
	}
}

// world is an origin, an inventory of mirrors, and who follows them.
type world struct {
	trust time.Duration // in listings
	*Versions
	t      *testing.T
	origin *origin
	inv    *inventory.Inventory
	dir    durable.Dir
	client *http.Client
	spec   directorapi.Repository

	mu    sync.Mutex
	scans []string // that were asked for

	stop func()
}

// newWorld begins in the bubble of a test.
func newWorld(t *testing.T) *world {
	t.Helper()
	var network memnet.Network
	w := &world{
		t: t, origin: &origin{}, inv: new(inventory.Inventory),
		client: &http.Client{Transport: &http.Transport{DialContext: network.DialContext}},
		spec:   directorapi.Repository{Path: "40/os/", Kind: directorapi.KindRPM},
	}
	ln, err := network.Listen("origin")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: w.origin}
	go func() { _ = server.Serve(ln) }()
	if w.dir, err = durable.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	w.start()
	t.Cleanup(func() {
		w.stop()
		w.client.CloseIdleConnections()
		_ = server.Close()
		_ = w.dir.Root.Close()
	})
	return w
}

// start begins to follow, as after a restart.
func (w *world) start() {
	w.t.Helper()
	v, err := Open(Options{
		Inventory: w.inv, Dir: w.dir, Trust: w.trust,
		Origin: &HTTPOrigin{Client: w.client, URLs: func(string) []string { return []string{"http://origin.mem/"} }},
		Hasten: func(mirror, project, why string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.scans = append(w.scans, mirror+" "+project+" "+why)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Versions = v
	v.SetCatalogue(&directorapi.Catalogue{Projects: []directorapi.Project{{Name: project, Repositories: []directorapi.Repository{w.spec}}}})
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error)
	go func() { done <- v.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

// restart ends and begins, as a director does.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

// list gives the inventory what somebody has; the origin is "".
func (w *world) list(name string, c contents) {
	w.t.Helper()
	h, err := w.inv.Holder(name)
	if err != nil {
		w.t.Fatal(err)
	}
	var seq iter.Seq2[inventory.Entry, error] = func(yield func(inventory.Entry, error) bool) {
		for _, p := range slices.Sorted(maps.Keys(c)) {
			if !yield(inventory.Entry{Path: p, Size: int64(len(c[p]))}, nil) {
				return
			}
		}
	}
	for range 2 { // the second of those that lack much counts
		if _, err = w.inv.Project(project).Replace(h, inventory.Listing{At: time.Now(), Entries: seq}); err == nil {
			return
		}
	}
	w.t.Fatal(err)
}

// saw tells which version a mirror shows.
func (w *world) saw(mirror string, c contents) {
	w.Saw(mirror, project, pointer, digest(c[pointer]), time.Now())
}

// holds makes a mirror have a version, in the inventory and by its pointer.
func (w *world) holds(mirror string, c contents) {
	w.t.Helper()
	w.list(mirror, c)
	w.saw(mirror, c)
}

// pass lets time go by, in which mirrors go on to show what they show.
func (w *world) pass(d time.Duration, showing map[string]contents) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(time.Until(end), 5*time.Minute))
		for mirror, c := range showing {
			w.saw(mirror, c)
		}
	}
	synctest.Wait()
}

// offered returns the mirrors of a path.
func (w *world) offered(path string) []string {
	w.t.Helper()
	set, mutable := w.Allowed(project, path)
	if !mutable {
		w.t.Errorf("%s is not mutable", path)
	}
	names := []string{}
	for h := range set.All() {
		names = append(names, w.inv.Name(h))
	}
	slices.Sort(names)
	return names
}

// want checks who is offered for the pointer.
func (w *world) want(when string, mirrors ...string) {
	w.t.Helper()
	if got := w.offered(pointer); !slices.Equal(got, append([]string{}, mirrors...)) {
		w.t.Errorf("%s: %v are offered, not %v", when, got, mirrors)
	}
}

// behind checks why a mirror is not offered.
func (w *world) behind(mirror string, want Reason) time.Time {
	w.t.Helper()
	why, since := w.Behind(mirror, project, pointer)
	if why != want {
		w.t.Errorf("%s is %s, not %s", mirror, why, want)
	}
	return since
}

// soon is enough for a look that was asked for.
func soon() {
	time.Sleep(2 * leastGap)
	synctest.Wait()
}
