// Package flatmanagertest plays the stock clients of flat-manager against a
// hub, for tests: the Python flat-manager-client on aiohttp and the Rust one on
// reqwest. It is written from their protocol alone. It writes requests byte by
// byte as they do (header names, their order, both multipart dialects, GETs with
// a body), does what they do with the answers (counts, states by number, exact
// texts, polling with scaled sleeps), and beyond that fails on every answer that
// departs from flat-manager's: missing or additional keys, wrong types, absent
// or foreign Location headers, log offsets that do not fit.
//
// It shares no code with the hub's own client, on purpose.
package flatmanagertest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"freshet/internal/pause"
)

// Dialect is a client that is played.
type Dialect int

// The dialects.
const (
	// Python is flat-manager-client on aiohttp 3.8 (captured from Debian 12's).
	Python Dialect = iota
	// Rust is flat-manager-client 0.5 on reqwest.
	Rust
)

func (d Dialect) String() string {
	if d == Rust {
		return "rust"
	}
	return "python"
}

// Options of a session. The zero value works.
type Options struct {
	// Dial opens connections; nil means TCP. It serves in-memory networks.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Second is how long a second of the clients' sleeps lasts; 2 ms if zero.
	Second time.Duration
	// Repo is the repository to create the build for; "stable" if empty.
	Repo string
	// AppID is the application of the build, ExtraIDs more that it may publish.
	AppID    string
	ExtraIDs []string
	// BuildLogURL goes into the build and its refs.
	BuildLogURL string
	// MinimalToken uploads with a token that can do nothing else.
	MinimalToken bool
	// NoDeltas leaves static deltas out.
	NoDeltas bool
	// EndOfLife and EndOfLifeRebase go into the commit.
	EndOfLife, EndOfLifeRebase string
	// TokenType goes into the commit.
	TokenType *int
	// WaitUpdate follows the job that updates the repository.
	WaitUpdate bool
}

// session is one run of a client. Like them it keeps one connection open.
type session struct {
	dialect Dialect
	opts    Options
	base    *url.URL
	token   string

	conn net.Conn
	r    *bufio.Reader

	retries int // answers and connections that had to be tried again
}

func newSession(d Dialect, baseURL, token string, opts Options) (*session, error) {
	base, err := url.Parse(baseURL)
	if err != nil {
		return nil, err
	}
	if base.Scheme != "http" || base.Host == "" || strings.Trim(base.Path, "/") != "" {
		return nil, fmt.Errorf("%s: want http://host:port", baseURL)
	}
	if opts.Second == 0 {
		opts.Second = 2 * time.Millisecond
	}
	if opts.Repo == "" {
		opts.Repo = "stable"
	}
	if opts.Dial == nil {
		opts.Dial = (&net.Dialer{}).DialContext
	}
	return &session{dialect: d, opts: opts, base: base, token: token}, nil
}

func (s *session) close() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// request is what differs between requests; headers go out in the order given.
type request struct {
	method  string
	path    string // with query
	headers []string
	body    []byte
	chunked bool // send the body in chunks, as for streams of unknown length
	token   string
}

// reply is a whole answer.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// maxReply bounds what is read of an answer, in bytes.
const maxReply = 64 << 20

// once sends the request on the open connection, or a new one, and reads the
// answer.
func (s *session) once(ctx context.Context, req request) (reply, error) {
	if s.conn == nil {
		addr := s.base.Host
		if s.base.Port() == "" {
			addr = net.JoinHostPort(s.base.Hostname(), "80")
		}
		conn, err := s.opts.Dial(ctx, "tcp", addr)
		if err != nil {
			return reply{}, err
		}
		s.conn, s.r = conn, bufio.NewReader(conn)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	answer, keep, err := s.exchange(req)
	if err != nil || !keep {
		s.close()
	}
	if err != nil && ctx.Err() != nil {
		return answer, context.Cause(ctx)
	}
	return answer, err
}

func (s *session) exchange(req request) (answer reply, keep bool, err error) {
	written := make(chan error, 1)
	conn := s.conn
	data := s.encode(req)
	go func() { // an answer may come before everything is sent
		_, err := conn.Write(data)
		written <- err
	}()
	res, err := http.ReadResponse(s.r, &http.Request{Method: req.method})
	if err != nil {
		_ = conn.Close()
		return reply{}, false, errors.Join(fmt.Errorf("%s %s: %w", req.method, req.path, err), <-written)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxReply+1))
	if err != nil {
		_ = conn.Close()
		return reply{}, false, errors.Join(fmt.Errorf("%s %s: read answer: %w", req.method, req.path, err), <-written)
	}
	if len(body) > maxReply {
		return reply{}, false, fmt.Errorf("%s %s: answer exceeds %d bytes", req.method, req.path, maxReply)
	}
	if res.Close {
		_ = conn.Close()
	}
	sent := <-written
	return reply{res.StatusCode, res.Header, body}, !res.Close && sent == nil, nil
}

// encode is the request as bytes.
func (s *session) encode(req request) []byte {
	token := req.token
	if token == "" {
		token = s.token
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", req.method, req.path)
	line := func(text string) { b.WriteString(text + "\r\n") }
	switch s.dialect {
	case Python:
		line("Host: " + s.base.Host)
		line("Authorization: Bearer " + token)
		for _, h := range req.headers {
			if !strings.HasPrefix(h, "Content-Type: ") || strings.Contains(strings.Join(req.headers, "\n"), "Content-Encoding") {
				line(h)
			}
		}
		line("Accept: */*")
		line("Accept-Encoding: gzip, deflate")
		line("User-Agent: Python/3.11 aiohttp/3.8.4")
		s.framing(line, req)
		for _, h := range req.headers { // aiohttp adds those it derives from the body at the end
			if strings.HasPrefix(h, "Content-Type: ") && !strings.Contains(strings.Join(req.headers, "\n"), "Content-Encoding") {
				line(h)
			}
		}
	case Rust: // reqwest writes names in lower case
		for _, h := range req.headers {
			name, value, _ := strings.Cut(h, ": ")
			line(strings.ToLower(name) + ": " + value)
		}
		line("authorization: Bearer " + token)
		line("accept: */*")
		line("accept-encoding: gzip")
		line("host: " + s.base.Host)
		s.framing(func(text string) { line(strings.ToLower(text)) }, req)
	}
	line("")
	if !req.chunked {
		b.Write(req.body)
		return b.Bytes()
	}
	const chunk = 8 << 10
	for rest := req.body; len(rest) > 0; {
		n := min(len(rest), chunk)
		fmt.Fprintf(&b, "%X\r\n", n)
		b.Write(rest[:n])
		line("")
		rest = rest[n:]
	}
	b.WriteString("0\r\n\r\n")
	return b.Bytes()
}

func (s *session) framing(line func(string), req request) {
	switch {
	case req.chunked:
		line("Transfer-Encoding: chunked")
	case len(req.body) > 0 || req.method == http.MethodPost:
		line(fmt.Sprintf("Content-Length: %d", len(req.body)))
	}
}

// patience is how long, in the clients' seconds, server errors and refused
// connections are tried again.
const patience = 300

// do is once with the clients' repetition.
func (s *session) do(ctx context.Context, req request) (reply, error) {
	waited := 0
	for pause := 1; ; pause = min(2*pause, 60) {
		answer, err := s.once(ctx, req)
		if ctx.Err() != nil {
			return answer, context.Cause(ctx)
		}
		if err == nil && answer.status < 500 {
			return answer, nil
		}
		if waited += pause; waited > patience {
			if err == nil {
				err = fmt.Errorf("%s %s: %w", req.method, req.path, answer.problem())
			}
			return answer, err
		}
		s.retries++
		if err := s.sleep(ctx, pause); err != nil {
			return answer, err
		}
	}
}

// sleep waits for so many of the clients' seconds.
func (s *session) sleep(ctx context.Context, seconds int) error {
	if !pause.For(ctx, time.Duration(seconds)*s.opts.Second) {
		return context.Cause(ctx)
	}
	return nil
}
