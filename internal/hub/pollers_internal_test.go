package hub

import (
	"fmt"
	"testing"
)

// No client takes more than its share of the places, and all together no more
// than there are; a place that is left is free again.
func TestPollers(t *testing.T) {
	var p pollers
	enter := func(addr string) func() {
		t.Helper()
		leave, ok := p.enter(pollerKey(addr))
		if !ok {
			t.Fatalf("no place for %s", addr)
		}
		return leave
	}
	full := func(addr string) {
		t.Helper()
		if _, ok := p.enter(pollerKey(addr)); ok {
			t.Fatalf("one more place for %s", addr)
		}
	}
	for _, client := range [][]string{
		{"192.0.2.1:1", "192.0.2.1:2", "[::ffff:192.0.2.1]:3"},
		{"[2001:db8::1]:1", "[2001:db8::2%eth0]:1", "[2001:db8:0:0:ffff::]:9"},
		{"edge.mem"},
	} {
		var leave []func()
		for i := range maxPollersOfOne {
			leave = append(leave, enter(client[i%len(client)]))
		}
		for _, addr := range client {
			full(addr)
		}
		leave[0]()
		enter(client[0])
		full(client[0])
	}
	enter("192.0.2.2:1")
	enter("[2001:db8:0:1::1]:1")
	for i := 0; p.all < maxPollers; i++ {
		defer enter(fmt.Sprintf("198.51.%d.%d:1", i/256, i%256))()
	}
	full("203.0.113.1:1")
}
