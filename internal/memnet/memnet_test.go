package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestHTTPOverMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Network
		ln, err := n.Listen("mem:hub")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Hour) // fake time: the test does not wait
			_, _ = io.WriteString(w, "from "+r.Host)
		})}
		go func() { _ = srv.Serve(ln) }()
		tr := &http.Transport{DialContext: n.Dialer((&net.Dialer{}).DialContext)}
		resp, err := (&http.Client{Transport: tr}).Get("http://hub.mem/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if string(body) != "from hub.mem" {
			t.Errorf("body %q", body)
		}
		tr.CloseIdleConnections()
		_ = srv.Close()
	})
}

func TestRefused(t *testing.T) {
	var n Network
	if _, err := n.DialContext(context.Background(), "tcp", "nobody.mem:80"); !errors.Is(err, ErrRefused) {
		t.Errorf("dial to nobody: %v", err)
	}
	ln, err := n.Listen("mem:a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen("a"); err == nil {
		t.Error("the same name was given twice")
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.DialContext(context.Background(), "tcp", "a.mem:80"); !errors.Is(err, ErrRefused) {
		t.Errorf("dial to a closed listener: %v", err)
	}
	if _, err := n.Listen("mem:a"); err != nil {
		t.Errorf("the name was not free after Close: %v", err)
	}
}

func TestHandles(t *testing.T) {
	for addr, want := range map[string]bool{"hub.mem": true, "hub.mem:80": true, "example.org:80": false, "mem": false, "127.0.0.1:1": false} {
		if got := Handles(addr); got != want {
			t.Errorf("Handles(%q) = %v", addr, got)
		}
	}
}
