package edge

import (
	"errors"
	"io"
	"net/http"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
)

const (
	// maxMemory is the longest body of a memory.
	maxMemory = 64 << 10
	// negativeBytes bounds what all that are remembered take.
	negativeBytes = 16 << 20
	// memoryWithin is how long all who wait may wait for the body of a memory.
	memoryWithin = time.Second
)

// memory is a small answer held in memory: a missing file or an error.
type memory struct {
	status  int
	header  http.Header
	body    []byte
	arrived time.Time
	age     time.Duration
	// until is how long it counts as true, for what is remembered as missing.
	until time.Time
}

// weight is about what it takes, in bytes.
func (m *memory) weight() int64 {
	n := 512 + len(m.body)
	for name, values := range m.header {
		n += 64 + len(name)
		for _, value := range values {
			n += 16 + len(value)
		}
	}
	return int64(n)
}

// absent returns the answer that a file is not there, if it was given a moment
// ago.
func (e *Edge) absent(id diskcache.ID, now time.Time) (*memory, bool) {
	m, ok := e.negatives.get(id, now)
	return m, ok && now.Before(m.until)
}

// rememberAbsent keeps the answer that a file is not there as true for d, and
// longer for when the origin cannot be asked. purgeMu is held.
func (e *Edge) rememberAbsent(c *call, m *memory, now time.Time, d time.Duration) {
	kept := *m
	kept.until = now.Add(d)
	e.negatives.put(c.id, &kept, now, d+c.policy.AbsentOnError)
}

// errSlowBody ends a flight whose answer's body, which is not much wanted, does
// not come in time.
var errSlowBody = &upstream.Error{Reason: upstream.IdleTimeout, Err: errors.New("the body of an error takes too long")}

// remember reads a small answer into memory and closes it. A body that is
// longer, or not there in time, is left out.
func remember(f *flight, resp *http.Response, cc httpcache.Directives, got time.Time) (*memory, error) {
	late := time.AfterFunc(memoryWithin, func() { f.ctx.Cancel(errSlowBody) })
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxMemory+1))
	slow := !late.Stop()
	_ = resp.Body.Close() // read to the end, or given up
	header := httpcache.StoredHeader(resp.Header, cc)
	if err != nil || len(body) > maxMemory {
		body = nil
		delete(header, "Content-Type")
		delete(header, "Content-Encoding")
	}
	delete(header, "Content-Length")
	if f.call.policy.Ruled() {
		delete(header, "Set-Cookie") // as for what is stored
	}
	if slow {
		err = nil
	}
	return &memory{status: resp.StatusCode, header: header, body: body, arrived: got, age: httpcache.InitialAge(resp.Header, got, got)}, err
}
