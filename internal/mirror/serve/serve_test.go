package serve_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/autoindex"
	"freshet/internal/durable"
	"freshet/internal/h1"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/serve"
	"freshet/internal/page/pagetest"
	"freshet/internal/ramtest"
	"freshet/internal/role"
)

func TestMain(m *testing.M) { os.Exit(ramtest.Run(m)) }

var epoch = time.Unix(1767225600, 0).UTC()

// world is a mirror that serves one project, by the loop that serves the public.
type world struct {
	t     testing.TB
	store *generation.Store
	epel  *generation.Project
	site  *serve.Site
	base  string
	asked chan string // the first requests for files
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldIn(t, t.TempDir(), 0)
}

// newWorldIn is newWorld with its store in a folder, and so many bytes of files in memory.
func newWorldIn(t testing.TB, dir string, memory int64) *world {
	t.Helper()
	store, err := generation.Open(t.Context(), dir, generation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	epel, err := store.Project("epel", nil)
	if err != nil {
		t.Fatal(err)
	}
	empty, err := store.Project("later", nil)
	if err != nil {
		t.Fatal(err)
	}
	access := role.NewAccess("mirror", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	asked := make(chan string, 16)
	site, err := serve.New(serve.Options{Object: store.Object, Memory: memory, Access: access, Asked: func(project, path string) {
		select {
		case asked <- project + " " + path:
		default:
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	site.Show([]*generation.Project{epel, empty}, nil)
	t.Cleanup(site.Close)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	srv := h1.Server{Handler: site, HTTP: role.NewServer(ctx, access.Wrap(site), slog.New(slog.DiscardHandler))}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &world{t, store, epel, site, "http://" + ln.Addr().String(), asked}
}

// publish switches to a generation of these files; "-> x" is a link to x.
func (w *world) publish(files map[string]string) *generation.Generation {
	w.t.Helper()
	st, err := w.epel.Stage(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for path, data := range files {
		if target, ok := strings.CutPrefix(data, "-> "); ok {
			err = st.Symlink(path, target)
		} else {
			temp := durable.TempName()
			if err = os.WriteFile(filepath.Join(st.Incoming(), temp), []byte(data), 0o600); err == nil {
				_, err = st.Place(generation.File{Path: path, Size: int64(len(data)), ModTime: epoch}, temp)
			}
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	g, err := st.Commit(w.t.Context(), generation.Meta{Reason: "test"})
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

type answer struct {
	status int
	header http.Header
	body   string
}

// get asks, without following redirects.
func (w *world) get(path string, fields ...string) answer {
	return w.do(http.MethodGet, path, fields...)
}

func (w *world) do(method, path string, fields ...string) answer {
	w.t.Helper()
	return w.with(http.DefaultTransport, method, path, fields...)
}

func (w *world) with(rt http.RoundTripper, method, path string, fields ...string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.base+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := rt.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

const large = 200_000

func tree() map[string]string {
	return map[string]string{
		"repodata/repomd.xml":  "<repomd>one</repomd>",
		"Packages/a-1.rpm":     strings.Repeat("a", large),
		"Packages/b-1.rpm":     "b",
		"index.html":           "<p>of the project</p>",
		"page.xml":             "<x/>",
		"latest":               "-> Packages",
		"dangling":             "-> nowhere",
		"out":                  "-> ../../../../../../etc",
		"odd/a:b % #?\n é.txt": "odd",
		"odd/\xff\xfe":         "no UTF-8",
		"odd/<b>.sig":          "sig",
	}
}

func TestFiles(t *testing.T) {
	w := newWorld(t)
	w.publish(tree())
	for range 3 { // the first is not at hand, the others are
		a := w.get("/epel/Packages/a-1.rpm")
		if a.status != http.StatusOK || a.body != strings.Repeat("a", large) {
			t.Fatalf("%d with %d bytes", a.status, len(a.body))
		}
		for name, want := range map[string]string{
			"Content-Type": "application/x-rpm", "Accept-Ranges": "bytes", "Content-Length": "200000",
			"Last-Modified": epoch.Format(http.TimeFormat), "Etag": `"6955b900-30d40"`, "X-Content-Type-Options": "nosniff",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if a.header.Get("Date") == "" {
			t.Error("no Date")
		}
	}
	cases := map[string]struct {
		fields []string
		status int
		size   int
	}{
		"a part":         {[]string{"Range", "bytes=10-19"}, http.StatusPartialContent, 10},
		"the end":        {[]string{"Range", "bytes=-5"}, http.StatusPartialContent, 5},
		"beyond":         {[]string{"Range", "bytes=200000-"}, http.StatusRequestedRangeNotSatisfiable, -1},
		"the same":       {[]string{"If-None-Match", `"6955b900-30d40"`}, http.StatusNotModified, 0},
		"not newer":      {[]string{"If-Modified-Since", epoch.Format(http.TimeFormat)}, http.StatusNotModified, 0},
		"going on":       {[]string{"Range", "bytes=199999-", "If-Range", `"6955b900-30d40"`}, http.StatusPartialContent, 1},
		"of another one": {[]string{"Range", "bytes=199999-", "If-Range", `"x"`}, http.StatusOK, large},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			a := w.get("/epel/Packages/a-1.rpm", c.fields...)
			if a.status != c.status || c.size >= 0 && len(a.body) != c.size {
				t.Errorf("%d with %d bytes, want %d with %d", a.status, len(a.body), c.status, c.size)
			}
		})
	}
	if a := w.do(http.MethodHead, "/epel/Packages/a-1.rpm"); a.status != http.StatusOK || a.header.Get("Content-Length") != "200000" || a.body != "" {
		t.Errorf("HEAD: %d, %v", a.status, a.header)
	}
}

// Whoever wants to know is told of each request for a file, answered at once or not, there
// or not.
func TestAsked(t *testing.T) {
	w := newWorld(t)
	w.publish(tree())
	for _, path := range []string{"/epel/Packages/a-1.rpm", "/epel/Packages/a-1.rpm", "/epel/Packages/a-1.rpm", "/epel/Packages/", "/epel/objects/none", "/nobody/x"} {
		w.get(path)
	}
	for _, want := range []string{"epel Packages/a-1.rpm", "epel Packages/a-1.rpm", "epel Packages/a-1.rpm", "epel objects/none"} {
		if got := <-w.asked; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if len(w.asked) > 0 {
		t.Errorf("more: %s", <-w.asked)
	}
}

func TestNothingElseIsReachable(t *testing.T) {
	w := newWorld(t)
	w.publish(tree())
	st, err := w.epel.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	if err := os.WriteFile(filepath.Join(st.Incoming(), "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, reason := range map[string]serve.Reason{
		"/epel/none":                             serve.NotFound,
		"/epel/dangling":                         serve.NotFound,
		"/epel/out/passwd":                       serve.NotFound,
		"/epel/out/":                             serve.NotFound,
		"/epel/../../etc/passwd":                 serve.NoProject,
		"/epel/%2e%2e/%2e%2e/etc/passwd":         serve.NoProject,
		"/epel/..%2fstaging%2fincoming%2fsecret": serve.NoProject,
		"/epel/page.xml/":                        serve.NotFound,
		"/epel/page.xml/x":                       serve.NotFound,
		"/epel/a%00b":                            serve.NotFound,
		"/lock":                                  serve.NoProject,
		"/objects/":                              serve.NoProject,
		"/.freshet/x":                            serve.NotFound,
	} {
		for _, accept := range []string{"text/html,*/*;q=0.8", "*/*"} {
			a := w.get(path, "Accept", accept)
			if a.status != http.StatusNotFound || a.header.Get(role.ReasonHeader) != string(reason) || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %d %q, want %q", path, a.status, a.header, reason)
			}
			if accept == "*/*" {
				if n := len(a.body); n == 0 || n > 100 || strings.Contains(a.body, "<") { // what is longer than the smallest object is an error of its own for ostree
					t.Errorf("%s: %q for a program", path, a.body)
				}
				continue
			}
			if problems := pagetest.Problems(a.body); problems != nil {
				t.Errorf("%s: %v", path, problems)
			}
		}
	}
	if a := w.get("/later/x"); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("before the first sync: %d", a.status)
	}
	if a := w.do(http.MethodPost, "/epel/page.xml"); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") == "" {
		t.Errorf("POST: %d", a.status)
	}
	for _, path := range []string{"/epel/./page.xml", "/epel//page.xml", "//epel/Packages/../page.xml"} {
		if a := w.get(path); a.status != http.StatusOK || a.body != "<x/>" {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}

func TestByHash(t *testing.T) {
	w := newWorld(t)
	w.publish(tree())
	sum := sha256.Sum256([]byte("<x/>"))
	hash := hex.EncodeToString(sum[:])
	a := w.get("/.freshet/by-hash/sha256/" + hash)
	if a.status != http.StatusOK || a.body != "<x/>" || a.header.Get("Etag") != `"`+hash+`"` {
		t.Errorf("%d %q %v", a.status, a.body, a.header)
	}
	if a := w.get("/.freshet/by-hash/sha256/"+hash, "Range", "bytes=1-1"); a.body != "x" {
		t.Errorf("a part: %q", a.body)
	}
	for name, status := range map[string]int{
		strings.Repeat("0", 64): http.StatusNotFound, strings.ToUpper(hash): http.StatusBadRequest,
		hash[1:]: http.StatusBadRequest, hash + "0": http.StatusBadRequest, "": http.StatusBadRequest,
	} {
		if a := w.get("/.freshet/by-hash/sha256/" + name); a.status != status {
			t.Errorf("%q: %d, want %d", name, a.status, status)
		}
	}
}

// Every link of a listing leads to what it says, whatever the names, for programs that
// read HTML as for those that read JSON.
func TestListings(t *testing.T) {
	w := newWorld(t)
	w.publish(tree())
	for _, page := range []string{"/", "/epel/", "/epel/odd/", "/epel/Packages/?C=M&O=D"} {
		a := w.get(page)
		if problems := pagetest.Problems(a.body); problems != nil || a.status != http.StatusOK {
			t.Errorf("%s: %d %q", page, a.status, problems)
		}
		pagetest.Policy(t, pagetest.Page{Path: page, Status: a.status, Header: a.header, Body: a.body})
	}
	for folder, want := range map[string][]string{
		"/epel/":          {"Packages/", "index.html", "latest/", "odd/", "page.xml", "repodata/"},
		"/epel/latest/":   {"a-1.rpm", "b-1.rpm"},
		"/epel/odd/":      {"<b>.sig", "a:b % #?\n é.txt", "\xff\xfe"},
		"/epel/Packages/": {"a-1.rpm", "b-1.rpm"},
	} {
		for _, accept := range []string{"text/html", "application/json"} {
			a := w.get(folder, "Accept", accept)
			if a.status != http.StatusOK {
				t.Fatalf("%s: %d", folder, a.status)
			}
			base, err := url.Parse(w.base + folder)
			if err != nil {
				t.Fatal(err)
			}
			entries, err := autoindex.Parse(strings.NewReader(a.body), a.header.Get("Content-Type"), base)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				name := e.Name
				if e.Folder {
					name += "/"
				}
				got = append(got, name)
			}
			slices.Sort(got)
			if accept == "application/json" && folder == "/epel/odd/" {
				checkHrefs(t, w, folder, a.body)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s as %s: %q, want %q", folder, accept, got, want)
			}
		}
	}
	if a := w.get("/epel/Packages"); a.status != http.StatusMovedPermanently || a.header.Get("Location") != "./Packages/" {
		t.Errorf("a folder without a slash: %d %q", a.status, a.header.Get("Location"))
	}
	a := w.get("/epel/Packages/?C=S&O=D&format=json")
	if i, j := strings.Index(a.body, "a-1.rpm"), strings.Index(a.body, "b-1.rpm"); i < 0 || j < i {
		t.Errorf("by size: %s", a.body)
	}
	tag := w.get("/epel/").header.Get("Etag")
	if a := w.get("/epel/", "If-None-Match", tag); a.status != http.StatusNotModified || tag == "" {
		t.Errorf("the same listing: %d %q", a.status, tag)
	}
}

func checkHrefs(t *testing.T, w *world, folder, body string) {
	t.Helper()
	var entries []struct {
		Href string
		Size int
	}
	if err := json.Unmarshal([]byte(body), &entries); err != nil {
		t.Fatal(err)
	}
	if len(entries) != 3 {
		t.Errorf("%d entries", len(entries))
	}
	for _, e := range entries {
		if a := w.get(folder + e.Href); a.status != http.StatusOK || len(a.body) != e.Size {
			t.Errorf("%s: %d with %d bytes, want %d", e.Href, a.status, len(a.body), e.Size)
		}
	}
}

// What a later generation has not any more is served from the older one; what is
// replaced by it never is; an index goes with the pointer that a client has read.
func TestSwitch(t *testing.T) {
	w := newWorld(t)
	old := tree()
	old["repodata/other.xml"], old["repodata/repomd.xml.asc"], old["Packages/again-1.rpm"] = "one", "of one", "built once"
	w.publish(old)
	before := w.get("/epel/Packages/b-1.rpm").header
	settled := &http.Transport{}
	defer settled.CloseIdleConnections()
	if a := w.with(settled, http.MethodGet, "/epel/repodata/repomd.xml"); a.body != "<repomd>one</repomd>" {
		t.Fatal(a.body)
	}
	w.with(settled, http.MethodGet, "/epel/repodata/repomd.xml.key") // there is none
	w.publish(map[string]string{
		"repodata/repomd.xml": "<repomd>two</repomd>", "repodata/other.xml": "two", "repodata/repomd.xml.asc": "of two", "Packages/b-1.rpm": "b", "Packages/c-1.rpm": "c", "page.xml": "<y/>",
		"Packages/again-1.rpm": "built again",
	})
	rebuilt := func(want string) {
		t.Helper()
		for range 2 { // the second might come from where files are kept open
			if a := w.with(settled, http.MethodGet, "/epel/Packages/again-1.rpm"); a.body != want {
				t.Errorf("a package that was built again: %q, want %q", a.body, want)
			}
		}
	}
	rebuilt("built once")
	if a := w.with(settled, http.MethodGet, "/epel/repodata/repomd.xml.key"); a.status != http.StatusNotFound {
		t.Errorf("it looks for a key again: %d", a.status)
	}
	single := &http.Transport{DisableKeepAlives: true}
	if a := w.with(single, http.MethodGet, "/epel/repodata/repomd.xml.asc"); a.body != "of one" {
		t.Errorf("the signature, over a connection of its own: %q", a.body)
	}
	after := w.get("/epel/Packages/b-1.rpm").header
	for _, name := range []string{"Etag", "Last-Modified"} {
		if before.Get(name) != after.Get(name) {
			t.Errorf("%s: %q, then %q", name, before.Get(name), after.Get(name))
		}
	}
	for path, want := range map[string]string{
		"/epel/Packages/a-1.rpm": strings.Repeat("a", large), "/epel/Packages/c-1.rpm": "c",
	} {
		if a := w.get(path); a.status != http.StatusOK || a.body != want {
			t.Errorf("%s: %d %.20q, want %.20q", path, a.status, a.body, want)
		}
	}
	if a := w.get("/epel/Packages/"); strings.Contains(a.body, "a-1.rpm") {
		t.Error("the listing has a file of an older generation")
	}
	if a := w.with(settled, http.MethodGet, "/epel/repodata/other.xml"); a.body != "one" {
		t.Errorf("a client that has read the pointer of the former generation reads %q", a.body)
	}
	if a := w.with(settled, http.MethodGet, "/epel/repodata/repomd.xml"); a.body != "<repomd>two</repomd>" {
		t.Errorf("it asks for the pointer again and gets %q", a.body)
	}
	if a := w.with(settled, http.MethodGet, "/epel/repodata/other.xml"); a.body != "two" {
		t.Errorf("then it reads %q", a.body)
	}
	rebuilt("built again")
	if a := w.with(settled, http.MethodGet, "/epel/page.xml"); a.body != "<y/>" {
		t.Errorf("a file that nothing names: %q", a.body)
	}
}

func TestStamps(t *testing.T) {
	w := newWorld(t)
	w.publish(tree())
	for _, text := range []string{"1", "2", "3"} {
		if err := w.epel.Stamp("lastsync.txt", []byte(text)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if a := w.get("/epel/lastsync.txt"); a.body != text {
				t.Errorf("%q, want %q", a.body, text)
			}
		}
	}
}

// Files that are open are served to many clients at once, and closed when they are many.
func TestManyFiles(t *testing.T) {
	w := newWorld(t)
	files := make(map[string]string)
	for i := range 300 {
		files[filepath.Join("pool", string(rune('a'+i%26)), strings.Repeat("x", i/26+1))] = strings.Repeat("y", i)
	}
	w.publish(files)
	errs := make(chan string, 8)
	for n := range 8 {
		go func() {
			for path, data := range files {
				resp, err := http.Get(w.base + "/epel/" + path)
				if err != nil {
					errs <- err.Error()
					return
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || !bytes.Equal(body, []byte(data)) {
					errs <- path
					return
				}
				if n == 0 {
					w.site.Show([]*generation.Project{w.epel}, nil) // closes all
				}
			}
			errs <- ""
		}()
	}
	for range 8 {
		if e := <-errs; e != "" {
			t.Error(e)
		}
	}
}
