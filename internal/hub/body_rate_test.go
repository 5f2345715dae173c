package hub

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// paced hands out one piece in every interval.
type paced struct {
	pieces, size int
	interval     time.Duration
}

func (r *paced) Read(p []byte) (int, error) {
	if r.pieces == 0 {
		return 0, io.EOF
	}
	r.pieces--
	<-time.After(r.interval)
	return copy(p, bytes.Repeat([]byte("x"), r.size)), nil
}

// TestSlowBodies ends bodies that move, but would take forever.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body paced
		slow bool
	}{
		"a byte now and then":           {paced{100, 1, 20 * time.Second}, true},
		"less than a kilobyte a second": {paced{100, 900, time.Second}, true},
		"a little more":                 {paced{100, 1100, time.Second}, false},
		"short":                         {paced{2, 1, 20 * time.Second}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := httptest.NewRequest("POST", "/", &c.body)
				body, err := openBody(httptest.NewRecorder(), r, 1<<30)
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.Copy(io.Discard, body)
				if errors.Is(err, os.ErrDeadlineExceeded) != c.slow || !c.slow && err != nil {
					t.Errorf("after %d pieces: %v", 100-c.body.pieces, err)
				}
			})
		})
	}
}
