package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/quic-go/quic-go/http3"
)

// over makes all further requests go by HTTP/2 or HTTP/3, as "h2" or "h3" says.
func (s *seeing) over(proto string) {
	s.t.Helper()
	config := &tls.Config{RootCAs: s.roots, NextProtos: []string{proto}}
	addr := s.listening(map[string]string{"h2": "https", "h3": "h3"}[proto])
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.base = "https://localhost:" + port
	if proto == "h3" {
		tr := &http3.Transport{TLSClientConfig: config, DisableCompression: true}
		s.t.Cleanup(func() { _ = tr.Close() })
		s.client = &http.Client{Transport: tr}
		return
	}
	tr := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DisableCompression: true}
	s.t.Cleanup(tr.CloseIdleConnections)
	s.client = &http.Client{Transport: tr}
}

// listening is the address of the listener for the protocol.
func (s *seeing) listening(protocol string) string {
	s.t.Helper()
	m := regexp.MustCompile(`msg=listening on=(\S+) protocol=` + protocol + `\n`).FindStringSubmatch(s.text.String())
	if m == nil {
		s.t.Fatalf("nobody listens for %s:\n%s", protocol, s.text)
	}
	return m[1]
}

// exchange is an answer that was begun. Who leaves calls leave.
type exchange struct {
	resp  *http.Response
	leave context.CancelFunc
}

// open sends a request by [seeing.client] and returns what it did not wait for.
func (s *seeing) open(method, path string, fields ...string) (wait func() (exchange, error), leave context.CancelFunc) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Host = "h"
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	type result struct {
		resp *http.Response
		err  error
	}
	done := make(chan result, 1)
	go func() {
		resp, err := s.client.Do(req)
		done <- result{resp, err}
	}()
	return func() (exchange, error) {
		r := <-done
		if r.err != nil {
			cancel()
			return exchange{}, fmt.Errorf("%s %s: %w", method, path, r.err)
		}
		return exchange{r.resp, cancel}, nil
	}, cancel
}

// beginOver is begin for HTTP/2 and HTTP/3.
func (s *seeing) beginOver(method, path string, fields ...string) func() int {
	s.t.Helper()
	wait, _ := s.open(method, path, fields...)
	x, err := wait()
	if err != nil {
		s.t.Error(err)
		return func() int { return 0 }
	}
	return func() int {
		defer x.leave()
		return s.finish(x.resp.Body, x.resp, method+" "+path)
	}
}

// leavesOver is leaves for HTTP/2 and HTTP/3.
func (s *seeing) leavesOver(path string, fields ...string) {
	s.t.Helper()
	wait, _ := s.open("GET", path, fields...)
	x, err := wait()
	if err != nil {
		s.t.Error(err)
		return
	}
	if _, err := io.ReadFull(x.resp.Body, make([]byte, 1000)); err != nil {
		s.t.Errorf("leaves %s: %v", path, err)
	}
	x.leave()
	_ = x.resp.Body.Close()
	s.gone.Add(1)
}

// withTLS is what a client must know of the listeners with TLS.
type withTLS struct {
	roots  *x509.CertPool
	text   *lockedBuffer // the log of the edge
	client *http.Client  // nil: raw connections without TLS
	base   string
}
