package peertest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// FreeAddr returns an address on loopback at which nobody listens, for a program that
// must be told where to. Its port is below those that systems give to connections and to
// listeners that do not ask for one, so that none of them comes before the program; and
// one process of tests gets each only once.
func FreeAddr(tb testing.TB) string {
	tb.Helper()
	const lowest, highest = 10_000, 32_000
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(highest-lowest))
		if _, given := givenAddrs.LoadOrStore(addr, true); given {
			continue
		}
		if ln, err := net.Listen("tcp", addr); err == nil { //nolint:noctx // it takes no time
			_ = ln.Close()
			return addr
		}
	}
	tb.Fatal("no port is free")
	return ""
}

// AwaitAddr returns when somebody listens at an address: a program that was started, and
// does not tell when it is ready.
func AwaitAddr(tb testing.TB, addr string) {
	tb.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if conn, err := net.DialTimeout("tcp", addr, limit); err == nil { //nolint:noctx // it has a limit
			_ = conn.Close()
			return
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // nothing tells
	}
	tb.Fatalf("nobody listens at %s", addr)
}

// givenAddrs are the addresses that FreeAddr returned.
var givenAddrs sync.Map
