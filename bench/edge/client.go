package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"time"

	"freshet/bench/measure"
)

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

// sample loads a server for a while, or until every path was asked for.
func sample(ctx context.Context, s *server, l load, d time.Duration) (measure.Sample, error) {
	if l.h2 != nil {
		return sampleH2(ctx, s, l)
	}
	asked := measure.Load{Addr: s.at(l.tls), TLS: l.tls, Conns: l.conns, Close: l.close, Once: l.once, Rate: l.rate}
	for _, path := range l.paths {
		asked.Requests = append(asked.Requests, requestFor(path, l.close))
	}
	return measure.Take(ctx, asked, d, s.cmd.Process.Pid, s.helpers(l)...)
}

// helpers are the processes that work for the server under a load.
func (s *server) helpers(l load) []int {
	if !l.origin || s.origin == nil {
		return nil
	}
	return []int{s.origin.cmd.Process.Pid}
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
