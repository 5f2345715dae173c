package director_test

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// network is a memnet.Network, or [ports].
type network interface {
	Listen(name string) (net.Listener, error)
	DialContext(ctx context.Context, network, name string) (net.Conn, error)
}

// ports is a network of names on this machine's own address.
type ports struct {
	mu sync.Mutex
	at map[string]string // by name
}

// Listen opens a listener under a name.
func (p *ports) Listen(name string) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name = strings.TrimPrefix(name, "mem:")
	address := p.at[name]
	if address == "" {
		address = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	if p.at == nil {
		p.at = make(map[string]string)
	}
	p.at[name] = ln.Addr().String()
	return ln, nil
}

// DialContext connects to a name.
func (p *ports) DialContext(ctx context.Context, _, name string) (net.Conn, error) {
	p.mu.Lock()
	address := p.at[name]
	p.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// mood is how a mirror behaves as a whole.
type mood int

const (
	sound   mood = iota
	killed       // does not accept connections
	frozen       // accepts them, and is silent
	corrupt      // sends other bytes
	cut          // says the right length, and ends early
	login        // answers everything with a page
	failing      // 503
	moods
)

func (m mood) String() string {
	return [moods]string{"sound", "killed", "frozen", "corrupt", "cut", "login", "failing"}[m]
}

// lacks is how a sound mirror fails.
const lacks = "without it"

// simMirror is a mirror, or the origin.
type simMirror struct {
	name    string
	network network

	mu    sync.Mutex
	mood  mood
	since time.Time            // of the mood
	files map[string][]byte    // it has
	gone  map[string]time.Time // since when it does not have a file that it had
	thaw  chan struct{}        // closed when it is not frozen any more
	open  net.Listener
	conns map[net.Conn]struct{}
}

func newSimMirror(network network, name string) *simMirror {
	return &simMirror{
		name: name, network: network, files: make(map[string][]byte), gone: make(map[string]time.Time),
		thaw: make(chan struct{}), conns: make(map[net.Conn]struct{}), since: time.Now(), mood: killed,
	}
}

// be changes the mood.
func (m *simMirror) be(next mood) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mood == next {
		return nil
	}
	before := m.mood
	m.mood, m.since = next, time.Now()
	if before == frozen {
		close(m.thaw)
		m.thaw = make(chan struct{})
	}
	switch {
	case next == killed:
		err := m.open.Close()
		for c := range m.conns {
			_ = c.Close()
		}
		return err
	case before == killed:
		ln, err := m.network.Listen(m.name)
		if err != nil {
			return err
		}
		m.open = ln
		srv := &http.Server{Handler: m, ReadHeaderTimeout: time.Minute, ConnState: func(c net.Conn, s http.ConnState) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if s == http.StateClosed || s == http.StateHijacked {
				delete(m.conns, c)
			} else {
				m.conns[c] = struct{}{}
			}
		}}
		go func() { _ = srv.Serve(ln) }()
	}
	return nil
}

// hold gives it other files.
func (m *simMirror) hold(files map[string][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for p, b := range m.files {
		if !bytes.Equal(files[p], b) {
			m.gone[p] = now
		}
	}
	for p, b := range files {
		if !bytes.Equal(m.files[p], b) {
			delete(m.gone, p)
		}
	}
	m.files = files
}

// gives tells whether a client that asks for a file now gets these bytes, and if not, how
// it fails and since when.
func (m *simMirror) gives(p string, want []byte) (ok bool, how string, since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mood != sound {
		return false, m.mood.String(), m.since
	}
	if bytes.Equal(m.files[p], want) {
		return true, "", time.Time{}
	}
	return false, lacks, m.gone[p]
}

// ServeHTTP implements [http.Handler].
func (m *simMirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	mood, files, thaw := m.mood, m.files, m.thaw
	m.mu.Unlock()
	p := strings.TrimPrefix(r.URL.Path, "/distro/")
	switch mood { //nolint:exhaustive // the others have files
	case frozen:
		select {
		case <-thaw:
		case <-r.Context().Done():
		}
		return
	case login:
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprint(w, "<html><body>Please log in</body></html>")
		return
	case failing:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if p == "" || strings.HasSuffix(p, "/") {
		listing(w, p, files)
		return
	}
	body, ok := files[p]
	if !ok {
		http.NotFound(w, r)
		return
	}
	switch mood { //nolint:exhaustive // the others were answered, or are sound
	case corrupt:
		body = slices.Clone(files[p])
		body[len(body)/2] ^= 0x20
	case cut:
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body[:len(body)/2])
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("ETag", `"`+sumOf(body)[:16]+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// listing answers with the listing of a folder, as nginx makes it.
func listing(w http.ResponseWriter, dir string, files map[string][]byte) {
	names := make(map[string]int)
	for p, b := range files {
		rest, ok := strings.CutPrefix(p, dir)
		if !ok {
			continue
		}
		if name, _, deeper := strings.Cut(rest, "/"); deeper {
			names[name+"/"] = -1
		} else {
			names[name] = len(b)
		}
	}
	if len(names) == 0 {
		http.Error(w, "404", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/html")
	_, _ = fmt.Fprintf(w, "<html>\r\n<head><title>Index of /%s</title></head>\r\n<body>\r\n<h1>Index of /%[1]s</h1><hr><pre><a href=\"../\">../</a>\r\n", html.EscapeString(path.Clean(dir)))
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	for _, name := range sorted {
		size := "-"
		if names[name] >= 0 {
			size = fmt.Sprint(names[name])
		}
		_, _ = fmt.Fprintf(w, "<a href=\"%s\">%[1]s</a>%s 01-Mar-2026 12:00 %19s\r\n", name, strings.Repeat(" ", max(50-len(name), 1)), size)
	}
	_, _ = fmt.Fprint(w, "</pre><hr></body>\r\n</html>\r\n")
}
