package doors_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"freshet/internal/doors"
	"freshet/internal/memnet"
	"freshet/internal/role"
)

// open opens doors in a network in memory, or says why not.
func open(t *testing.T, network *memnet.Network, listen string) (*doors.Doors, error) {
	t.Helper()
	env := role.Env{Listen: func(_ context.Context, addr string) (net.Listener, error) { return network.Listen(addr) }}
	l := doors.Listeners{Listen: listen}.WithDefaults()
	return l.Open(t.Context(), doors.Options{Role: "test", Env: env.WithDefaults()})
}

// Where one address cannot be had, none is kept.
func TestAllOrNone(t *testing.T) {
	network := new(memnet.Network)
	taken, err := network.Listen("mem:taken")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, network, "mem:one, mem:two, mem:taken"); err == nil {
		t.Fatal("an address that is taken was opened")
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"mem:one", "mem:two", "mem:taken"} {
		ln, err := network.Listen(addr)
		if err != nil {
			t.Errorf("%s is still open: %v", addr, err)
			continue
		}
		_ = ln.Close()
	}
}

// Every listener leads to the same server. When it is told to stop it takes nobody new,
// and answers whom it has begun to answer.
func TestJoinedAndDrained(t *testing.T) {
	network := new(memnet.Network)
	d, err := open(t, network, "mem:one, mem:two")
	if err != nil {
		t.Fatal(err)
	}
	if tcp, udp := d.Addrs(); len(tcp) != 2 || len(udp) != 0 {
		t.Fatalf("the doors are %v and %v", tcp, udp)
	}
	begun, finish := make(chan struct{}), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- d.Serve(ctx, doors.Inside{All: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			begun <- struct{}{}
			<-finish
			_, _ = io.WriteString(w, "whole")
		})})
	}()
	client := &http.Client{Transport: &http.Transport{DialContext: network.DialContext, DisableKeepAlives: true}}
	answers := make(chan error, 2)
	for _, host := range []string{"one", "two"} {
		go func() { answers <- ask(t.Context(), client, "http://"+host+".mem/") }()
	}
	<-begun
	<-begun
	stop()
	for {
		c, err := network.DialContext(t.Context(), "", "one.mem")
		if err != nil {
			break // it is closed
		}
		_ = c.Close()
	}
	close(finish)
	for range 2 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func ask(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && string(body) != "whole" {
		err = errors.New("the answer is " + string(body))
	}
	return err
}
