// Package origintest has origins for benchmarks.
package origintest

import (
	"net"
	"testing"
)

// Canned answers each request that comes in one piece with the same bytes, and
// allocates nothing for it. It listens at addr as long as the benchmark runs.
func Canned(tb testing.TB, answer []byte) (addr string) {
	tb.Helper()
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() }) // it ends the loop below
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go repeat(conn, answer)
		}
	}()
	return ln.Addr().String()
}

func repeat(conn net.Conn, answer []byte) {
	defer func() { _ = conn.Close() }() // it has ended
	buf := make([]byte, 4096)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}
