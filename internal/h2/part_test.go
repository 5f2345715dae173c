package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// When another process takes over, clients get whole what was written for them and lies in
// the buffers of their system or of ours, however late they read it, and with it the word
// that the connection ends, which they answer.
func TestDrainOfSlowClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	var begun, ended sync.WaitGroup
	asleep := make(chan struct{})
	for _, target := range []string{"/memory/3000000", "/file/0/3000000", "/slow/much"} {
		for range 3 {
			begun.Add(1)
			ended.Go(func() {
				begin := sync.OnceFunc(begun.Done)
				defer begin()
				c := &http.Client{Transport: &http.Transport{
					TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, DisableCompression: true,
					DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
						conn, err := new(net.Dialer).DialContext(ctx, network, addr)
						return &sleeper{Conn: conn, begin: begin, asleep: asleep}, err
					},
				}}
				defer c.CloseIdleConnections()
				resp, err := c.Get(w.url + target)
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if err != nil || !bytes.Equal(got, w.content.Bytes[:len(got)]) || len(got) < 3000000 {
					t.Errorf("%s: %d bytes, %v", target, len(got), err)
				}
			})
		}
	}
	begun.Wait()
	stopped := make(chan error, 1)
	go func() { stopped <- w.stop() }()
	time.Sleep(3 * time.Second) // longer than clients have when serving just ends
	close(asleep)
	ended.Wait()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// sleeper is a connection whose client falls asleep when it has read some, until asleep is
// closed.
type sleeper struct {
	net.Conn
	read   int
	begin  func()
	asleep <-chan struct{}
}

func (s *sleeper) Read(p []byte) (int, error) {
	if s.read > 1<<20 {
		s.begin()
		<-s.asleep
	}
	n, err := s.Conn.Read(p)
	s.read += n
	return n, err
}

// A request is answered that was on its way when serving ended, and the first of its
// connection: its client is told afterwards.
func TestDrainOfNewClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		fresh, greeted, quiet := w.dial(t), w.begin(t), w.begin(t)
		synctest.Wait()
		begun := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- w.stop() }()
		synctest.Wait()
		for i, r := range []*raw{greeted, fresh} {
			if len(r.away) > 0 || r.over() {
				t.Fatalf("told %v before its first request", r.away)
			}
			time.Sleep(time.Second / 2)
			if r == fresh {
				r.write(preface)
				r.must(r.fr.WriteSettings())
			}
			r.get(1, fmt.Sprintf("/memory/%d", 11*(i+1)))
			synctest.Wait()
			if len(r.data[1]) != 11*(i+1) || len(r.away) != 1 || r.away[0] != http2.ErrCodeNo {
				t.Fatalf("%d bytes, told %v", len(r.data[1]), r.away)
			}
			r.must(r.fr.WritePing(true, [8]byte([]byte(leavePing))))
			synctest.Wait()
			if !r.over() {
				t.Error("the connection goes on")
			}
		}
		if err := <-ended; err != nil || time.Since(begun) > 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		<-quiet.got
		if len(quiet.away) != 2 {
			t.Errorf("who asked nothing was told %v", quiet.away)
		}
	})
}
