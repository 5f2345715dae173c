package handover

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// tcp is what opens sockets in tests.
func tcp(ctx context.Context, addr string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", addr)
}

// A socket goes on listening when its listener is closed: who comes meanwhile is served
// by the next one.
func TestSocketsOutliveListeners(t *testing.T) {
	var s Sockets
	defer s.Close()
	first, err := s.Listen(t.Context(), "127.0.0.1:0", tcp)
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.Listen(t.Context(), "127.0.0.1:0", tcp)
	if err != nil {
		t.Fatal(err)
	}
	if first.Addr().String() == other.Addr().String() {
		t.Fatal("a socket that is in use was given to another")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	client, err := net.DialTimeout("tcp", first.Addr().String(), time.Minute)
	if err != nil {
		t.Fatal("refused while nobody listens:", err)
	}
	defer client.Close()
	again, err := s.Listen(t.Context(), "127.0.0.1:0", func(context.Context, string) (net.Listener, error) {
		return nil, errors.New("opened anew")
	})
	if err != nil {
		t.Fatal(err)
	}
	if again.Addr().String() != first.Addr().String() {
		t.Fatalf("listens on %v instead of %v", again.Addr(), first.Addr())
	}
	conn, err := again.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("here")); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if got, err := io.ReadAll(client); err != nil || string(got) != "here" {
		t.Errorf("%q, %v", got, err)
	}
	_ = again.Close()
	if names := s.CloseIdle(); len(names) != 1 || names[0] != "127.0.0.1:0" {
		t.Errorf("closed: %q", names)
	}
	if _, err := net.DialTimeout("tcp", first.Addr().String(), time.Minute); err == nil {
		t.Error("it listens still")
	}
	s.Close()
	if _, err := s.Listen(t.Context(), "127.0.0.1:0", tcp); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listening afterwards: %v", err)
	}
}

// Sockets that a service manager gives are found by what they are bound to.
func TestSocketsByAddress(t *testing.T) {
	var s Sockets
	defer s.Close()
	for _, addr := range []string{"127.0.0.1:0", "[::]:0"} {
		ln, err := tcp(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := duplicate(ln)
		if err != nil {
			t.Fatal(err)
		}
		want := ln.Addr().String()
		_ = ln.Close()
		if err := s.take(fd, "http"); err != nil {
			t.Fatal(err)
		}
		ask := strings.TrimPrefix(want, "[::]")
		if ln, err = s.Listen(t.Context(), ask, tcp); err != nil {
			t.Fatalf("%s: %v", ask, err)
		}
		if ln.Addr().String() != want {
			t.Errorf("%s: got %v, want %v", ask, ln.Addr(), want)
		}
	}
}

// What is no listening socket of TCP is refused.
func TestTakeOther(t *testing.T) {
	ln, err := net.Listen("unix", "@freshet-test-take")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	fd, err := duplicate(ln)
	if err != nil {
		t.Fatal(err)
	}
	if err := new(Sockets).take(fd, "x"); err == nil {
		t.Error("a unix socket was taken")
	}
}
