package measure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Load is what is asked of a server.
type Load struct {
	Addr     string
	TLS      bool
	Requests [][]byte // each connection begins at another one
	Conns    int
	Close    bool // a connection for each request
	Once     bool // each request once, then it is over
	Rate     int  // requests/s at most; 0: as many as can be
	// Expected tells whether a status is a good answer; nil: 200 alone is.
	Expected func(status int) bool
}

// Sample is what came of a load.
type Sample struct {
	Usage
	Requests int64
	Bytes    int64           // of the bodies
	Times    []time.Duration // to the end of an answer, sorted
}

// Quantile is the time in which this part of the answers came.
func (s *Sample) Quantile(q float64) time.Duration {
	if len(s.Times) == 0 {
		return 0
	}
	return s.Times[min(len(s.Times)-1, int(float64(len(s.Times))*q))]
}

// Take loads a server, whose process is pid, for a while, or until every request
// was made. The work of the helpers, such as an origin, is not that of others.
func Take(ctx context.Context, l Load, d time.Duration, pid int, helpers ...int) (s Sample, err error) {
	run := sampler{load: l, begin: make(chan struct{}), close: make(chan struct{})}
	var wg sync.WaitGroup
	run.open.Add(l.Conns)
	run.busy.Add(l.Conns)
	for i := range l.Conns {
		wg.Go(func() { run.connection(ctx, i) })
	}
	run.open.Wait()
	before, err := ReadMeters(pid, helpers...)
	close(run.begin)
	if !l.Once {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		run.end.Store(true)
	}
	run.busy.Wait()
	after, errAfter := ReadMeters(pid, helpers...)
	close(run.close)
	wg.Wait()
	if err := errors.Join(append(run.errs, err, errAfter, ctx.Err())...); err != nil {
		return s, err
	}
	slices.Sort(run.times)
	return Sample{Usage: before.Until(after), Requests: int64(len(run.times)), Bytes: run.bytes, Times: run.times}, nil
}

// sampler is one load on one server.
type sampler struct {
	load Load
	next atomic.Int64 // of requests, if each is made once
	end  atomic.Bool

	open, busy   sync.WaitGroup // connections that are not open yet, and those that still ask
	begin, close chan struct{}

	mu    sync.Mutex
	times []time.Duration
	bytes int64
	errs  []error
}

// connection asks, one request after the other.
func (run *sampler) connection(ctx context.Context, i int) {
	l := &run.load
	c := Client{Addr: l.Addr, TLS: l.TLS, Close: l.Close}
	err := l.dial(ctx, &c, i)
	run.open.Done()
	var tick *time.Ticker
	if l.Rate > 0 {
		tick = time.NewTicker(time.Duration(l.Conns) * time.Second / time.Duration(l.Rate))
		defer tick.Stop()
	}
	<-run.begin
	mine := make([]time.Duration, 0, 1<<14)
	bytes := int64(0)
	for n := i * len(l.Requests) / l.Conns; err == nil && !run.end.Load(); n++ {
		at := n
		if l.Once {
			if at = int(run.next.Add(1)) - 1; at >= len(l.Requests) {
				break
			}
		}
		if tick != nil {
			<-tick.C
		}
		var length int64
		asked := time.Now()
		if length, err = l.ask(ctx, &c, l.Requests[at%len(l.Requests)]); err == nil {
			mine = append(mine, time.Since(asked))
			bytes += length
		}
	}
	run.busy.Done()
	<-run.close
	if c.Conn != nil {
		_ = c.Conn.Close() // the sample is over
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	run.times = append(run.times, mine...)
	run.bytes += bytes
	if err != nil {
		run.errs = append(run.errs, err)
	}
}

// dial connects, and asks once if the connection is to be kept: then the server
// has accepted it, and what that costs is not of the sample.
func (l *Load) dial(ctx context.Context, c *Client, i int) error {
	err := c.Dial(ctx)
	if err == nil && !l.Close && !l.Once {
		_, err = l.ask(ctx, c, l.Requests[(i+len(l.Requests)-1)%len(l.Requests)])
	}
	return err
}

func (l *Load) ask(ctx context.Context, c *Client, request []byte) (length int64, err error) {
	status, length, err := c.Do(ctx, request)
	if err == nil && status != http.StatusOK && (l.Expected == nil || !l.Expected(status)) {
		err = fmt.Errorf("answered with status %d", status)
	}
	return length, err
}

// Meters are what was used so far.
type Meters struct {
	at                            time.Time
	machine, own, server, helpers time.Duration
}

// Usage is what was used between two readings of the meters.
type Usage struct {
	Took, CPU time.Duration // CPU is the server's
	Foreign   float64       // share of the machine that others used
}

// ReadMeters reads what a server, and helpers, have used, and who else.
func ReadMeters(pid int, helpers ...int) (m Meters, err error) {
	if m.machine, err = MachineBusy(); err != nil {
		return m, err
	}
	if m.own, err = OwnCPU(); err != nil {
		return m, err
	}
	if m.server, err = CPU(pid); err != nil {
		return m, err
	}
	for _, helper := range helpers {
		used, err := CPU(helper)
		if err != nil {
			return m, err
		}
		m.helpers += used
	}
	m.at = time.Now()
	return m, nil
}

// Until is what was used from m to after.
func (m Meters) Until(after Meters) Usage {
	u := Usage{Took: after.at.Sub(m.at), CPU: after.server - m.server}
	others := (after.machine - m.machine) - u.CPU - (after.own - m.own) - (after.helpers - m.helpers)
	u.Foreign = max(0, others.Seconds()/u.Took.Seconds()/CPUs())
	return u
}

// Undisturbed takes a sample again while others use more than a share of the
// machine, up to four times more, and returns the last one: its Foreign tells.
func Undisturbed(foreign float64, take func() (Sample, error)) (s Sample, err error) {
	for range 5 {
		if s, err = take(); err != nil || s.Foreign <= foreign {
			break
		}
	}
	return s, err
}
