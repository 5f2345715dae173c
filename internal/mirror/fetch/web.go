package fetch

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"freshet/internal/watchdog"
)

const (
	defaultConnections = 6
	defaultAgent       = "freshet-mirror"
	maxRedirects       = 5
	bufferSize         = 64 << 10
	idleTime           = time.Minute // of a connection that nobody uses
	headerLimit        = 64 << 10
	maxRetryAfter      = time.Minute
	siblingSilence     = 10 * time.Second
)

// webSource is a server of HTTP.
type webSource struct {
	url    string
	root   *url.URL
	o      Options
	client *http.Client
	slots  chan struct{} // one for each request that is under way
	byHash bool          // files have the names of their hashes: it is a sibling
	server *address
}

func openWeb(u *url.URL, text string, o Options) *webSource {
	n := cmp.Or(o.Connections, defaultConnections)
	root := *u
	root.Path = strings.TrimRight(root.Path, "/") + "/"
	root.RawPath = strings.TrimRight(u.EscapedPath(), "/") + "/"
	s := &webSource{url: text, root: &root, o: o, slots: make(chan struct{}, n), server: new(address)}
	s.client = &http.Client{
		Transport: &http.Transport{
			DialContext:     s.dial,
			TLSClientConfig: o.TLS, TLSHandshakeTimeout: dialLimit, ForceAttemptHTTP2: false,
			MaxIdleConnsPerHost: n, IdleConnTimeout: idleTime, DisableCompression: true,
			MaxResponseHeaderBytes: headerLimit, ReadBufferSize: bufferSize,
		},
		CheckRedirect: mayRedirect,
	}
	return s
}

// OpenSibling opens the mirror at a base URL as a source of files by their SHA-256, which
// it has whatever project they are of.
func OpenSibling(base string, o Options) (Source, error) {
	if err := Check(base); err != nil {
		return nil, err
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "rsync" {
		return nil, fmt.Errorf("%s: siblings speak http or https", base)
	}
	o.Silence = cmp.Or(o.Silence, siblingSilence)
	s := openWeb(u, base, o)
	s.byHash = true
	return s, nil
}

var errRedirect = errors.New("it redirects to where nobody wants to go")

// address is that of a server.
type address struct {
	dialed atomic.Pointer[string] // as it is connected to; nil: it never was
	inside atomic.Int32           // where it is, an [inside]
}

// inside says how far inside the networks of the mirror an address is.
type inside int32

const (
	outside inside = iota
	nearby         // in a private network, or another one that is not of the Internet
	onLink         // where clouds tell machines their secrets, for instance
	here           // on the machine itself
)

func insideOf(addr net.Addr) inside {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return outside // of a network in the process, whose names nobody else knows
	}
	ip := tcp.AddrPort().Addr().Unmap()
	shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10) // RFC 6598
	switch {
	case ip.IsLoopback(), ip.IsUnspecified():
		return here
	case ip.IsLinkLocalUnicast():
		return onLink
	case ip.IsPrivate(), !ip.IsGlobalUnicast(), shared.Contains(ip):
		return nearby
	}
	return outside
}

// dial connects to the server, or to one that it redirects to. That must not lie further
// inside than the server does: what somebody outside redirects to would be published.
func (s *webSource) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := s.o.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	where := insideOf(c.RemoteAddr())
	s.server.dialed.CompareAndSwap(nil, &addr) // who redirects was asked before
	switch {
	case addr == *s.server.dialed.Load():
		s.server.inside.Store(int32(where))
	case where > inside(s.server.inside.Load()):
		return nil, errors.Join(fmt.Errorf("%w: to %s, at %s", errRedirect, addr, c.RemoteAddr()), c.Close())
	}
	return c, nil
}

// mayRedirect follows redirects a few times, and never from https to http. Nobody else gets
// the token.
func mayRedirect(r *http.Request, via []*http.Request) error {
	if r.URL.Host != via[0].URL.Host {
		r.Header.Del("Authorization")
	}
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("%w: more than %d times", errRedirect, maxRedirects)
	case r.URL.Scheme != "http" && r.URL.Scheme != "https",
		via[len(via)-1].URL.Scheme == "https" && r.URL.Scheme != "https":
		return fmt.Errorf("%w: %s", errRedirect, r.URL.Redacted())
	}
	return nil
}

func (s *webSource) URL() string { return s.url }

// ByHashPath is where a mirror has a file of this SHA-256, below its base URL.
func ByHashPath(sum [32]byte) string { return ".freshet/by-hash/sha256/" + hex.EncodeToString(sum[:]) }

// of is the URL of a file.
func (s *webSource) of(w Want) *url.URL {
	if sum, ok := w.Sum.SHA256(); ok && s.byHash {
		return s.below(ByHashPath(sum))
	}
	return s.below(w.Path)
}

// below is the URL of a path of the tree, whose names are bytes.
func (s *webSource) below(path string) *url.URL {
	u := *s.root
	names := strings.Split(path, "/")
	for i, name := range names {
		names[i] = url.PathEscape(name)
	}
	u.RawPath = s.root.RawPath + strings.Join(names, "/")
	u.Path = s.root.Path + path
	return &u
}

// Read reads a file by a conditional request.
func (s *webSource) Read(ctx context.Context, name string, limit int64, v Validator) (File, error) {
	header := make(http.Header)
	switch {
	case v.ETag != "":
		header.Set("If-None-Match", v.ETag)
	case !v.ModTime.IsZero():
		header.Set("If-Modified-Since", v.ModTime.UTC().Format(http.TimeFormat))
	}
	a, err := s.ask(ctx, http.MethodGet, s.below(name), header)
	if err != nil {
		return File{}, answered(ctx, err)
	}
	defer a.close()
	if a.StatusCode == http.StatusNotModified {
		return File{Same: true, Validator: v}, nil
	}
	if a.StatusCode != http.StatusOK {
		return File{}, answered(ctx, a.unexpected())
	}
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(a, limit+1))
	switch {
	case err != nil:
		return File{}, fmt.Errorf("%w: read %s: %w", ErrUnreachable, a.url, err)
	case n > limit:
		return File{}, answered(ctx, fmt.Errorf("%s has more than %d bytes", a.url, limit))
	}
	return File{Data: b.Bytes(), Validator: Validator{ETag: a.Header.Get("ETag"), ModTime: a.modTime(), Size: n}}, nil
}

// answer is what a server answered; it is to be closed.
type answer struct {
	*http.Response
	url     string
	release func()
}

// ask sends a request when one of the connections is free. The error is [ErrUnreachable],
// or [fs.ErrNotExist] or [fs.ErrPermission] if the server says so; then there is no answer.
func (s *webSource) ask(ctx context.Context, method string, u *url.URL, header http.Header) (*answer, error) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	release := func() { <-s.slots }
	if err := s.show(header); err != nil {
		release()
		return nil, err
	}
	res, err := s.send(ctx, method, u, header) //nolint:bodyclose // the answer closes it
	if err == nil {
		a := &answer{Response: res, url: u.Redacted(), release: release}
		if err = a.refusal(); err == nil {
			return a, nil
		}
		a.close()
		return nil, err
	}
	release()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, errRedirect):
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
}

func (s *webSource) send(ctx context.Context, method string, u *url.URL, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	req.Header.Set("User-Agent", cmp.Or(s.o.UserAgent, defaultAgent))
	req.Header.Set("Accept-Encoding", "identity")
	return watchdog.Do(s.client, req, s.o.silence(), s.o.silence())
}

// show adds the token, if there is one. It stays here when a server redirects to another.
func (s *webSource) show(header http.Header) error {
	if s.o.Token == nil {
		return nil
	}
	token, err := s.o.Token()
	if err != nil {
		return fmt.Errorf("%w: the token for %s: %w", ErrUnreachable, s.root.Redacted(), err)
	}
	header.Set("Authorization", "Bearer "+token)
	return nil
}

// Read reads the body, which must not stop flowing.
func (a *answer) Read(p []byte) (int, error) { return a.Body.Read(p) }

func (a *answer) close() {
	_ = a.Body.Close() // it was only read
	a.release()
}

// refusal is the error of an answer that is neither a success nor one to a condition.
func (a *answer) refusal() error {
	said := fmt.Errorf("%s answers %s", a.url, a.Status)
	switch code := a.StatusCode; {
	case code == http.StatusNotFound, code == http.StatusGone:
		return fmt.Errorf("%w: %w", said, fs.ErrNotExist)
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusUnavailableForLegalReasons:
		return fmt.Errorf("%w: %w", said, fs.ErrPermission)
	case code == http.StatusTooManyRequests, code >= 500:
		return &busyError{said: said, after: retryAfter(a.Header)}
	case code == http.StatusRequestedRangeNotSatisfiable, code == http.StatusNotModified, code >= 200 && code < 300:
		return nil
	}
	return said
}

func (a *answer) unexpected() error { return fmt.Errorf("%s answers %s", a.url, a.Status) }

// modTime is the time of the file, zero if it is not told.
func (a *answer) modTime() time.Time {
	t, err := http.ParseTime(a.Header.Get("Last-Modified"))
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// busyError is an answer that may be another one later.
type busyError struct {
	said  error
	after time.Duration
}

func (e *busyError) Error() string   { return e.said.Error() }
func (e *busyError) Unwrap() []error { return []error{e.said, ErrUnreachable} }

// retryAfter is how long a server asks to wait, within limits (RFC 9110 §10.2.3).
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(strings.TrimSpace(h.Get("Retry-After")))
	if err != nil {
		return 0 // a date, or nothing
	}
	return min(max(0, time.Duration(seconds)*time.Second), maxRetryAfter)
}
