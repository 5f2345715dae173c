package rsync

import (
	"errors"
	"os"
	"testing"
	"time"
)

// Who has left the group of rsync, and keeps its output open, keeps nobody waiting once it
// is over.
func TestOutputIsOver(t *testing.T) {
	t.Parallel()
	var r running
	theirs, err := r.openOutput()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = theirs.Close() }()
	defer r.closeAll()
	if _, err := theirs.WriteString("line\n"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if n, err := r.out.Read(b); err != nil || string(b[:n]) != "line\n" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	time.AfterFunc(time.Millisecond, func() { r.out.over.Store(true) })
	if n, err := r.out.Read(b); !errors.Is(err, errOver) {
		t.Errorf("%q, %v, want that it is over", b[:n], err)
	}
}

// What was begun leaves nothing open, whether it could be or not.
func TestStartLeavesNothing(t *testing.T) {
	before := descriptors(t)
	for range 10 {
		p := &Program{path: "/nowhere/rsync"}
		if _, err := p.start(t.Context(), process{}); err == nil {
			t.Fatal("there is no such program")
		}
		p.path = "/bin/true"
		r, err := p.start(t.Context(), process{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
	}
	if after := descriptors(t); after > before+2 { // those of the runtime
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
