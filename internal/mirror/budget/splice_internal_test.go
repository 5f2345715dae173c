package budget

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"testing"

	"freshet/internal/pause"

	"golang.org/x/sys/unix"
)

// passes sends some megabytes through a connection of a share, while something else happens, and
// compares what arrives.
func passes(t *testing.T, s *Share, meanwhile func(ctx context.Context)) {
	t.Helper()
	server, in := pair(t)
	out, client := pair(t)
	sent := make([]byte, 16<<20+17)
	_, _ = rand.NewChaCha8([32]byte{}).Read(sent)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if meanwhile != nil {
		go meanwhile(ctx)
	}
	go func() {
		_, _ = io.Copy(server, bytes.NewReader(sent))
		_ = server.Close()
	}()
	came := make(chan [32]byte)
	go func() {
		hash := sha256.New()
		_, _ = io.Copy(hash, client)
		came <- [32]byte(hash.Sum(nil))
	}()
	var counter atomic.Int64
	n, err := io.Copy(out, s.Conn(in, &counter))
	_ = out.Close()
	if want := int64(len(sent)); n != want || err != nil || counter.Load() != want {
		t.Errorf("%d bytes, %d counted, %v, want %d", n, counter.Load(), err, want)
	}
	if <-came != sha256.Sum256(sent) {
		t.Error("something else has arrived")
	}
	_ = errors.Join(in.Close(), client.Close())
}

// The limit comes and goes, and nothing is lost.
func TestLimitComesAndGoes(t *testing.T) {
	t.Parallel()
	s := New(0).Share(1)
	passes(t, s, func(ctx context.Context) {
		for i := int64(0); pause.For(ctx, 100_000); i++ {
			s.Limit(i % 2 << 30)
		}
	})
}

// Without a pipe it is copied. It is not parallel: there are no descriptors left.
func TestNoPipe(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	server, in := pair(t)
	out, client := pair(t)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(server, "some")
	_ = server.Close()
	n, err := io.Copy(out, New(0).Share(1).Conn(in))
	if back := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); back != nil {
		t.Fatal(back)
	}
	_ = out.Close()
	if got, _ := io.ReadAll(client); n != 4 || err != nil || string(got) != "some" {
		t.Errorf("%d bytes, %v, %q", n, err, got)
	}
	_ = errors.Join(in.Close(), client.Close())
}

// What the kernel does not splice is known from an error, and from nothing else.
func TestNoSplice(t *testing.T) {
	t.Parallel()
	server, in := pair(t)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	from, err := in.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	p := pipe{in: int(null.Fd()), from: from}
	if _, err := p.fill(); !errors.Is(err, errNoSplice) {
		t.Errorf("between what is no pipe: %v", err)
	}
	_ = errors.Join(server.Close(), in.Close(), null.Close())
}
