package watchdog_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/memnet"
	"freshet/internal/pause"
	"freshet/internal/watchdog"
)

// serve starts a server in the bubble and returns a client for it.
func serve(t *testing.T, handler http.HandlerFunc) *http.Client {
	t.Helper()
	var network memnet.Network
	l, err := network.Listen("mem:server")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler}
	go func() { _ = s.Serve(l) }()
	transport := &http.Transport{DialContext: network.DialContext}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = s.Close()
	})
	return &http.Client{Transport: transport}
}

// get reads an answer, and says when it had it, or an error.
func get(ctx context.Context, t *testing.T, client *http.Client, think time.Duration) (text string, took time.Duration, err error) {
	t.Helper()
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://server.mem/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := watchdog.Do(client, req, time.Minute, 10*time.Second)
	if err != nil {
		return "", time.Since(begin), err
	}
	defer res.Body.Close()
	var b strings.Builder
	for buffer := make([]byte, 1); ; {
		n, err := res.Body.Read(buffer)
		b.Write(buffer[:n])
		if errors.Is(err, io.EOF) {
			return b.String(), time.Since(begin), nil
		}
		if err != nil {
			return b.String(), time.Since(begin), err
		}
		pause.For(ctx, think)
	}
}

// say writes words, each after a time.
func say(words string, every time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for word := range strings.FieldsSeq(words) {
			if !pause.For(r.Context(), every) {
				return
			}
			_, _ = io.WriteString(w, word)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func TestDo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		think time.Duration // between two reads
		text  string
		took  time.Duration
		says  string // the error
	}{
		"slow and steady":       {serve: say("a b c d e f g h i j", 9*time.Second), text: "abcdefghij", took: 90 * time.Second},
		"begins late":           {serve: say("a", 59*time.Second), text: "a", took: 59 * time.Second},
		"never begins":          {serve: say("a", time.Hour), took: time.Minute, says: "nothing came for 1m0s"},
		"stops":                 {serve: say("a b", 11*time.Second), text: "a", took: 21 * time.Second, says: "nothing came for 10s"},
		"the caller takes time": {serve: say("ab", time.Second), think: time.Minute, text: "ab", took: 2*time.Minute + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				text, took, err := get(t.Context(), t, serve(t, c.serve), c.think)
				if text != c.text || took != c.took || (err != nil) != (c.says != "") {
					t.Errorf("%q after %v, %v; want %q after %v", text, took, err, c.text, c.took)
				}
				if err != nil && (!errors.Is(err, watchdog.ErrSilent) || !strings.Contains(err.Error(), c.says)) {
					t.Errorf("%v; want %q", err, c.says)
				}
			})
		})
	}
}

// Who ends the request himself hears his own cause, before the answer and in its body.
func TestCause(t *testing.T) {
	t.Parallel()
	for name, every := range map[string]time.Duration{"before the answer": 50 * time.Second, "in its body": 4 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				why := errors.New("enough")
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(5*time.Second, func() { cancel(why) })
				_, took, err := get(ctx, t, serve(t, say("a b c", every)), 0)
				if took != 5*time.Second || !errors.Is(err, why) || errors.Is(err, watchdog.ErrSilent) {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}
