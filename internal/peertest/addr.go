package peertest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
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

// givenAddrs are the addresses that FreeAddr returned.
var givenAddrs sync.Map
