package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"freshet/bench/measure"
)

// result is one sample.
type result struct {
	requests  int64
	took, cpu time.Duration
	p99       time.Duration
	foreign   float64 // share of the machine that others used
}

func requestFor(path string, closing bool) []byte {
	s := "GET " + path + " HTTP/1.1\r\nHost: files.example.org\r\nUser-Agent: bench\r\nAccept: */*\r\n"
	if closing {
		s += "Connection: close\r\n"
	}
	return []byte(s + "\r\n")
}

// get makes a request whose answer must be a 200.
func get(ctx context.Context, c *measure.Client, request []byte) error {
	status, _, err := c.Do(ctx, request)
	if err == nil && status != 200 {
		err = fmt.Errorf("answered with status %d", status)
	}
	return err
}

// warm asks for every path once.
func warm(ctx context.Context, s *server, paths []string) error {
	c := measure.Client{Addr: s.addr}
	for _, path := range paths {
		if err := get(ctx, &c, requestFor(path, false)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if c.Conn == nil {
		return nil
	}
	return c.Conn.Close()
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
	r.foreign = max(0, others.Seconds()/r.took.Seconds()/measure.CPUs())
	slices.Sort(run.times)
	if len(run.times) > 0 {
		r.p99 = run.times[len(run.times)*99/100]
	}
	return r, nil
}

// connection asks, one request after the other.
func (run *sampler) connection(ctx context.Context, s *server, i int, begin <-chan struct{}) {
	l := &run.load
	c := measure.Client{Addr: s.at(l.tls), TLS: l.tls, Close: l.close}
	err := c.Dial(ctx)
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
		if err = get(ctx, &c, run.requests[at%len(run.requests)]); err == nil {
			mine = append(mine, time.Since(asked))
		}
	}
	if c.Conn != nil {
		_ = c.Conn.Close() // the sample is over
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
	if m.machine, err = measure.MachineBusy(); err != nil {
		return m, err
	}
	if m.own, err = measure.OwnCPU(); err != nil {
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
		c := measure.Client{Addr: s.at(tls), TLS: tls, Reader: br}
		if err := get(ctx, &c, requestFor(kilobyte, false)); err != nil {
			return conns, err
		}
		conns = append(conns, c.Conn)
	}
	return conns, nil
}
