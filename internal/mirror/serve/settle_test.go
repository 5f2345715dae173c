package serve_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"freshet/internal/durable"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/serve"
)

// What belongs together comes from one generation, over a switch, by whatever connections
// and in whatever order a client asks for it, and however long it takes; and who begins
// anew gets what is new. A line is "ADDRESS:PORT PROGRAM METHOD PATH VERSION", with a "+" behind
// the port of a connection that is not the first with it, "switch",
// "kill" and start again, or a time that passes.
func TestSettling(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		// zypper looks at the pointer, asks for the signature and the key over another
		// connection, and then for the pointer.
		"zypper": `
			a:1 zypp HEAD repomd.xml 1
			a:2 zypp GET repomd.xml.asc 1
			switch
			a:2 zypp GET repomd.xml.key 1
			50s
			a:2 zypp GET repomd.xml 1
			a:2 zypp GET primary.xml 1
			a:3 zypp HEAD repomd.xml 2
			a:4 zypp GET repomd.xml.asc 2
			a:4 zypp GET repomd.xml 2`,
		"zypper, whose connection was closed meanwhile": `
			a:1 zypp GET repomd.xml.asc 1
			a:1 zypp GET repomd.xml.key 1
			switch
			50s
			a:2 zypp GET repomd.xml 1
			a:3 zypp GET repomd.xml.asc 2
			a:4 zypp GET repomd.xml 2`,
		// dnf has a connection for each file, and does all twice.
		"dnf": `
			a:1 dnf GET repomd.xml 1
			switch
			50s
			a:2 dnf GET repomd.xml.asc 1
			a:3 dnf GET repomd.xml 2
			switch
			a:4 dnf GET repomd.xml.asc 2
			a:5 dnf GET repomd.xml 3
			a:6 dnf GET repomd.xml.asc 3`,
		"longer after the switch than anybody needs": `
			a:1 dnf GET repomd.xml 1
			switch
			3m
			a:2 dnf GET repomd.xml.asc 2
			a:1 dnf GET primary.xml 2`,
		"two behind one address": `
			a:1 dnf GET repomd.xml 1
			switch
			1s
			a:2 dnf GET repomd.xml 1
			a:3 dnf GET repomd.xml.asc 1
			a:4 dnf GET repomd.xml.asc 1
			a:5 dnf GET repomd.xml 2
			a:6 dnf GET repomd.xml.asc 2`,
		"two behind one address, each with a connection": `
			a:1 zypp GET repomd.xml.asc 1
			a:2 zypp GET repomd.xml.asc 1
			a:2 zypp GET repomd.xml 1
			switch
			a:3 zypp GET repomd.xml.asc 1
			50s
			a:3 zypp GET repomd.xml 1
			a:1 zypp GET repomd.xml 1
			a:4 zypp GET repomd.xml.asc 2`,
		"two programs behind one address": `
			a:1 curl GET repomd.xml 1
			switch
			50s
			a:2 dnf GET repomd.xml 2
			a:3 dnf GET repomd.xml.asc 2
			a:4 curl GET repomd.xml.asc 1`,
		"who never looks at signatures gets what is new": `
			a:1 yum GET repomd.xml 1
			switch
			11s
			a:2 yum GET repomd.xml 2
			a:3 yum GET repomd.xml 2`,
		"who asks again over the same connection too": `
			a:1 curl GET repomd.xml 1
			switch
			a:1 curl GET repomd.xml.key 1
			a:1 curl GET repomd.xml 2
			a:1 curl GET repomd.xml.key 2`,
		"a port that is used again": `
			a:1 ostree GET primary.xml 1
			switch
			50s
			a:2 ostree GET repomd.xml 2
			a:2 ostree GET repomd.xml.asc 2
			a:1+ ostree GET repomd.xml 2
			a:1+ ostree GET repomd.xml.asc 2
			a:1 ostree GET repomd.xml 1`,
		"nothing is signed": `
			a:1 apk GET APKINDEX.tar.gz 1
			switch
			a:2 apk GET APKINDEX.tar.gz 2
			a:2 apk GET APKINDEX.tar.gz 2`,
		"two repositories in one go": `
			a:1 pacman GET core.db 1
			switch
			a:2 pacman GET extra.db 1
			a:2 pacman GET core.db.sig 1
			a:1 pacman GET extra.db.sig 1
			a:3 pacman GET core.db 2`,
		"a kill before the switch": `
			a:1 zypp HEAD repomd.xml 1
			a:2 zypp GET repomd.xml.asc 1
			kill
			b:1 dnf GET repomd.xml 1
			kill
			switch
			a:3 zypp GET repomd.xml.key 1
			a:4 zypp GET repomd.xml 1
			a:4 zypp GET primary.xml 1
			a:5 zypp GET repomd.xml.asc 2
			b:2 dnf GET repomd.xml.asc 1`,
		"a kill behind the switch": `
			a:1 dnf GET repomd.xml 1
			switch
			b:1 dnf GET repomd.xml 2
			kill
			50s
			a:2 dnf GET primary.xml 1
			a:2 dnf GET repomd.xml.asc 1
			b:2 dnf GET repomd.xml.asc 2
			a:3 dnf GET repomd.xml 2`,
		"long behind a kill": `
			a:1 dnf GET repomd.xml 1
			switch
			kill
			5m
			a:2 dnf GET repomd.xml.asc 2`,
		"behind a proxy": `
			a:0 zypp HEAD repomd.xml 1
			a:0 zypp GET repomd.xml.asc 1
			switch
			20s
			a:0 zypp GET repomd.xml 1
			a:0 zypp GET repomd.xml.asc 2
			a:0 zypp GET repomd.xml 2`,
		"others are not concerned": `
			a:1 dnf GET repomd.xml 1
			switch
			b:1 dnf GET repomd.xml 2
			b:2 dnf GET repomd.xml.asc 2
			a:2 dnf GET repomd.xml.asc 1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSettling(t)
			for line := range strings.Lines(strings.TrimSpace(script)) {
				s.step(strings.TrimSpace(line))
			}
		})
	}
}

// Who has begun with a generation goes on with it over a kill at whatever moment, also when
// nobody has had the time to write notes.
func TestKilledAtOnce(t *testing.T) {
	t.Parallel()
	s := newSettling(t)
	for i := range 60 {
		version := s.version
		s.step(fmt.Sprintf("a:1 program-%d GET repomd.xml %d", i, version))
		s.start() // the former one writes its notes when it gets to that
		s.step("switch")
		s.step(fmt.Sprintf("a:2 program-%d GET repomd.xml.asc %d", i, version))
	}
}

// What is gone with a generation is there for whoever may have read of it, by whatever name
// he comes, and not for longer.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	s := newSettling(t)
	s.step("a:1 flatpak GET repomd.xml 1")
	s.world.publish(map[string]string{"repodata/repomd.xml": "repodata/repomd.xml 2"})
	s.step("a:2 libostree GET repomd.xml.asc 1")
	s.step("b:1 other GET repomd.xml.asc 1")
	s.passed += 3 * time.Minute
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/epel/repodata/repomd.xml.asc", nil)
	w := httptest.NewRecorder()
	if s.site.ServeHTTP(w, r); w.Code != http.StatusNotFound {
		t.Errorf("long after the switch: %d %q", w.Code, w.Body)
	}
}

// settling is a site with a clock of its own.
type settling struct {
	*testing.T
	world   *world
	state   durable.Dir
	site    *serve.Site
	passed  time.Duration
	version int
	ends    map[string]*net.TCPAddr // of connections
}

func newSettling(t *testing.T) *settling {
	s := &settling{T: t, world: newWorld(t), ends: make(map[string]*net.TCPAddr)}
	var err error
	if s.state, err = durable.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.state.Root.Close() })
	s.start()
	s.next()
	return s
}

func (s *settling) start() {
	s.Helper()
	site, err := serve.New(serve.Options{State: s.state, Now: func() time.Time { return time.Now().Add(s.passed) }})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(site.Close)
	site.Show([]*generation.Project{s.world.epel}, nil)
	s.site = site
}

func (s *settling) next() {
	s.version++
	files := make(map[string]string)
	for _, name := range []string{
		"repodata/repomd.xml", "repodata/repomd.xml.asc", "repodata/repomd.xml.key", "repodata/primary.xml",
		"APKINDEX.tar.gz", "core.db", "core.db.sig", "extra.db", "extra.db.sig",
	} {
		files[name] = fmt.Sprintf("%s %d", name, s.version)
	}
	s.world.publish(files)
}

func (s *settling) step(line string) {
	s.Helper()
	switch line {
	case "switch":
		s.next()
		return
	case "kill":
		s.site.EndNotes() // what is noted is noted by then, most likely
		s.start()
		return
	}
	if d, err := time.ParseDuration(line); err == nil {
		s.passed += d
		return
	}
	var from, program, method, path string
	var version int
	if _, err := fmt.Sscan(line, &from, &program, &method, &path, &version); err != nil {
		s.Fatalf("%q: %v", line, err)
	}
	if strings.HasSuffix(path, ".xml") || strings.Contains(path, ".xml.") {
		path = "repodata/" + path
	}
	if s.ends[from] == nil {
		s.ends[from] = new(net.TCPAddr)
	}
	ctx := context.WithValue(s.Context(), http.LocalAddrContextKey, s.ends[from])
	r := httptest.NewRequestWithContext(ctx, method, "/epel/"+path, nil)
	r.RemoteAddr = strings.NewReplacer("a:", "[2001:db8::a]:", "b:", "[2001:db8::b]:", "+", "").Replace(from)
	r.Header.Set("User-Agent", program)
	w := httptest.NewRecorder()
	s.site.ServeHTTP(w, r)
	want := fmt.Sprintf("%s %d", path, version)
	if method == http.MethodHead {
		want = ""
	}
	if got := w.Body.String(); got != want {
		s.Errorf("%s: got %q", line, got)
	}
}
