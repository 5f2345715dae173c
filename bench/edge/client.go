package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// result is one sample.
type result struct {
	requests  int64
	took, cpu time.Duration
	p99       time.Duration
	foreign   float64 // share of the machine that others used
}

// client is one connection that asks, reads, and asks again.
type client struct {
	addr  string
	tls   bool
	close bool
	conn  net.Conn
	br    *bufio.Reader
	buf   []byte
}

func requestFor(path string, closing bool) []byte {
	s := "GET " + path + " HTTP/1.1\r\nHost: files.example.org\r\nUser-Agent: bench\r\nAccept: */*\r\n"
	if closing {
		s += "Connection: close\r\n"
	}
	return []byte(s + "\r\n")
}

func (c *client) dial(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	if c.tls {
		// The key exchange that all servers here have: hybrid ones with ML-KEM,
		// which the edge agrees to and older OpenSSL does not know, cost a third
		// more.
		conn = tls.Client(conn, &tls.Config{
			InsecureSkipVerify: true, //nolint:gosec // the time is measured, not the trust
			NextProtos:         []string{"http/1.1"}, CurvePreferences: []tls.CurveID{tls.X25519},
		})
	}
	c.conn = conn
	if c.br == nil {
		c.br = bufio.NewReaderSize(conn, 64<<10)
	}
	c.br.Reset(conn)
	return nil
}

// do sends a request and reads its answer.
func (c *client) do(ctx context.Context, request []byte) error {
	if c.conn == nil {
		if err := c.dial(ctx); err != nil {
			return err
		}
	}
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	length, err := c.head()
	if err != nil {
		return err
	}
	if err := c.discard(length); err != nil {
		return err
	}
	if c.close {
		_ = c.conn.Close() // read to its end
		c.conn = nil
	}
	return nil
}

// head reads the head of an answer that must be a 200 with a length.
func (c *client) head() (length int64, err error) {
	line, err := c.br.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return 0, fmt.Errorf("answered %q", line)
	}
	length = -1
	for {
		if line, err = c.br.ReadSlice('\n'); err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		const name = "Content-Length: "
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(line[len(name):])), 10, 64); err != nil {
				return 0, err
			}
		}
	}
	if length < 0 {
		return 0, errors.New("an answer without length")
	}
	return length, nil
}

func (c *client) discard(n int64) error {
	k, err := c.br.Discard(int(min(n, int64(c.br.Buffered()))))
	read := int64(k)
	if c.buf == nil && read < n {
		c.buf = make([]byte, 256<<10)
	}
	for err == nil && read < n {
		k, err = c.conn.Read(c.buf[:min(n-read, int64(len(c.buf)))])
		read += int64(k)
	}
	if errors.Is(err, io.EOF) && read < n {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// warm asks for every path once.
func warm(ctx context.Context, s *server, paths []string) error {
	c := client{addr: s.addr}
	for _, path := range paths {
		if err := c.do(ctx, requestFor(path, false)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if c.conn == nil {
		return nil
	}
	return c.conn.Close()
}

// sampler is one load on one server.
type sampler struct {
	load     load
	requests [][]byte
	next     atomic.Int64 // of requests, if each is made once
	end      atomic.Bool

	mu    sync.Mutex
	times []time.Duration
	errs  []error
}

// sample loads a server for a while, or until every path was asked for.
func sample(ctx context.Context, s *server, l load, d time.Duration) (r result, err error) {
	if l.h2 != nil {
		return sampleH2(ctx, s, l)
	}
	run := sampler{load: l}
	for _, path := range l.paths {
		run.requests = append(run.requests, requestFor(path, l.close))
	}
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range l.conns {
		wg.Go(func() { run.connection(ctx, s, i, begin) })
	}
	before, err := readMeters(s)
	if err != nil {
		return r, err
	}
	close(begin)
	if !l.once {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		run.end.Store(true)
	}
	wg.Wait()
	after, err := readMeters(s)
	if err := errors.Join(append(run.errs, err, ctx.Err())...); err != nil {
		return r, err
	}
	r.took = after.at.Sub(before.at)
	r.cpu = after.server - before.server
	r.requests = int64(len(run.times))
	others := (after.machine - before.machine) - r.cpu - (after.own - before.own)
	if l.origin { // the origin works as well
		others -= after.origin - before.origin
	}
	r.foreign = max(0, others.Seconds()/r.took.Seconds()/cpus())
	slices.Sort(run.times)
	if len(run.times) > 0 {
		r.p99 = run.times[len(run.times)*99/100]
	}
	return r, nil
}

// connection asks, one request after the other.
func (run *sampler) connection(ctx context.Context, s *server, i int, begin <-chan struct{}) {
	l := &run.load
	c := client{addr: s.at(l.tls), tls: l.tls, close: l.close}
	err := c.dial(ctx)
	var tick *time.Ticker
	if l.rate > 0 {
		tick = time.NewTicker(time.Duration(l.conns) * time.Second / time.Duration(l.rate))
		defer tick.Stop()
	}
	<-begin
	mine := make([]time.Duration, 0, 1<<14)
	for n := i * len(run.requests) / l.conns; err == nil && !run.end.Load(); n++ {
		at := n
		if l.once {
			if at = int(run.next.Add(1)) - 1; at >= len(run.requests) {
				break
			}
		}
		if tick != nil {
			<-tick.C
		}
		asked := time.Now()
		if err = c.do(ctx, run.requests[at%len(run.requests)]); err == nil {
			mine = append(mine, time.Since(asked))
		}
	}
	if c.conn != nil {
		_ = c.conn.Close() // the sample is over
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	run.times = append(run.times, mine...)
	if err != nil {
		run.errs = append(run.errs, err)
	}
}

// meters are what was used so far.
type meters struct {
	at                           time.Time
	machine, own, server, origin time.Duration
}

func readMeters(s *server) (m meters, err error) {
	if m.machine, err = machineBusy(); err != nil {
		return m, err
	}
	if m.own, err = selfCPU(); err != nil {
		return m, err
	}
	if m.server, err = s.cpu(); err != nil {
		return m, err
	}
	if s.origin != nil {
		if m.origin, err = s.origin.cpu(); err != nil {
			return m, err
		}
	}
	m.at = time.Now()
	return m, nil
}

// openIdle opens n connections, and sends one request on each.
func openIdle(ctx context.Context, s *server, n int, tls bool) ([]net.Conn, error) {
	var conns []net.Conn
	br := bufio.NewReaderSize(nil, 64<<10)
	for range n {
		c := client{addr: s.at(tls), tls: tls, br: br}
		if err := c.do(ctx, requestFor(kilobyte, false)); err != nil {
			return conns, err
		}
		conns = append(conns, c.conn)
	}
	return conns, nil
}
