package main

import (
	"bufio"
	"bytes"
	"context"
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
func warm(ctx context.Context, s *server, l load) error {
	c := client{addr: s.addr}
	for _, path := range l.paths {
		if err := c.do(ctx, requestFor(path, false)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return c.conn.Close()
}

// sample loads a server for a while.
func sample(ctx context.Context, s *server, l load, d time.Duration) (r result, err error) {
	requests := make([][]byte, len(l.paths))
	for i, path := range l.paths {
		requests[i] = requestFor(path, l.close)
	}
	var (
		wg    sync.WaitGroup
		begin = make(chan struct{})
		end   atomic.Bool
		count atomic.Int64
		mu    sync.Mutex
		times []time.Duration
		errs  []error
	)
	for i := range l.conns {
		wg.Go(func() {
			c := client{addr: s.addr, close: l.close}
			err := c.dial(ctx)
			<-begin
			mine := make([]time.Duration, 0, 1<<14)
			for n := i * len(requests) / l.conns; err == nil && !end.Load(); n++ {
				at := time.Now()
				if err = c.do(ctx, requests[n%len(requests)]); err == nil {
					mine = append(mine, time.Since(at))
					count.Add(1)
				}
			}
			if c.conn != nil {
				_ = c.conn.Close() // the sample is over
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, mine...)
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	machine, err := machineBusy()
	if err != nil {
		return r, err
	}
	own, err := selfCPU()
	if err != nil {
		return r, err
	}
	cpu, err := s.cpu()
	if err != nil {
		return r, err
	}
	at := time.Now()
	close(begin)
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	end.Store(true)
	wg.Wait()
	r.took = time.Since(at)
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return r, err
	}
	cpuAfter, err := s.cpu()
	if err != nil {
		return r, err
	}
	ownAfter, err := selfCPU()
	if err != nil {
		return r, err
	}
	machineAfter, err := machineBusy()
	if err != nil {
		return r, err
	}
	r.requests = count.Load()
	r.cpu = cpuAfter - cpu
	all := (machineAfter - machine) - r.cpu - (ownAfter - own)
	r.foreign = max(0, all.Seconds()/r.took.Seconds()/cpus())
	slices.Sort(times)
	if len(times) > 0 {
		r.p99 = times[len(times)*99/100]
	}
	return r, nil
}

// openIdle opens n connections, and sends one request on each.
func openIdle(ctx context.Context, s *server, n int) ([]net.Conn, error) {
	var conns []net.Conn
	br := bufio.NewReaderSize(nil, 64<<10)
	for range n {
		c := client{addr: s.addr, br: br}
		if err := c.do(ctx, requestFor(kilobyte, false)); err != nil {
			return conns, err
		}
		conns = append(conns, c.conn)
	}
	return conns, nil
}
