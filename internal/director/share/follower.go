package share

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/directorapi"
	"freshet/internal/director/remote"
	"freshet/internal/inventory"
	"freshet/internal/pause"
)

// Options say which inventory is followed. From and Inventory are needed.
type Options struct {
	// From is the URL of another director's admin listener or of a file, or the path of
	// a file.
	From string
	// Token is shown to the other director; empty: none is.
	Token string
	// Inventory is what is kept like that, and may know something already.
	Inventory *inventory.Inventory
	// Every is how often what is no director is asked; 0: 30 seconds.
	Every time.Duration
	// HTTP makes the requests; nil stands for http.DefaultClient.
	HTTP *http.Client
	// Log is told of changes, and of what goes wrong. Nil: nobody is.
	Log *slog.Logger
	// Metrics is where metrics are registered. Nil: nowhere.
	Metrics prometheus.Registerer
}

// Follower keeps an inventory like another one. Doubt may be called by any goroutine, the
// rest by one.
type Follower struct {
	o       Options
	from    *remote.Resource
	version remote.Version // of what was taken last
	replica *inventory.Replica
	good    prometheus.Gauge

	failed  int       // in a row
	why     string    // the last time
	shrunk  time.Time // since when what comes lacks most
	afresh  int       // how many times in a row all of it came, and not what has changed
	another chan struct{}
}

const (
	defaultEvery = 30 * time.Second
	// After a failure it is asked again after firstRetry, and then less and less often:
	// up to lastRetry if nobody answers, and dearRetry if what comes is of no use.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	dearRetry  = 5 * time.Minute
	// patience is for how long what has suddenly lost most files is not believed: a
	// director that has lost its state has scanned all by then.
	patience = time.Hour
	// maxLength bounds what is read, in bytes; 16 million files are about that long.
	maxLength = 2 << 30
)

// NewFollower returns one that has asked for nothing yet. The error says what is wrong with
// From.
func NewFollower(o Options) (*Follower, error) {
	if o.Every <= 0 {
		o.Every = defaultEvery
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	from, err := remote.New(remote.Options{
		From: o.From, Path: directorapi.InventoryPath, Query: url.Values{"changes": {"true"}}, Token: o.Token, HTTP: o.HTTP,
	})
	if err != nil {
		return nil, fmt.Errorf("follow inventory: %w", err)
	}
	f := &Follower{
		o: o, from: from, replica: inventory.NewReplica(o.Inventory), another: make(chan struct{}, 1),
		good: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "freshet_director_inventory_followed_timestamp_seconds",
			Help: "When the inventory that is followed was last seen to be the current one, in seconds since 1970; 0: never.",
		}),
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(f.good)
	}
	return f, nil
}

// Doubt says that a mirror seems not to have a file, which it is not offered for until it
// was listed anew.
func (f *Follower) Doubt(project string, h inventory.Holder, path string) {
	f.replica.Doubt(project, h, path)
}

// Whole yields when an edition was taken as a whole, which is worth being written down.
func (f *Follower) Whole() <-chan struct{} { return f.another }

// Once asks once, such as before anything is served. The error is why there is no newer
// state; it is logged as well.
func (f *Follower) Once(ctx context.Context) error {
	_, err := f.step(ctx)
	return err
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	for {
		waited, err := f.step(ctx)
		if !pause.For(ctx, f.pause(waited, err)) {
			return
		}
	}
}

// pause is how long it is to the next request.
func (f *Follower) pause(waited bool, err error) time.Duration {
	switch {
	case err == nil && waited && f.afresh < 2: // otherwise several directors answer by one name
		return 0
	case err == nil:
		return f.o.Every
	}
	most := lastRetry
	if useless(err) {
		most = dearRetry
	}
	d := min(firstRetry<<min(max(f.failed-1, 0), 16), most)
	return d*3/4 + rand.N(d/2)
}

// useless tells whether something came that is of no use, as it will the next time.
func useless(err error) bool {
	return errors.Is(err, inventory.ErrFormat) || errors.Is(err, inventory.ErrShrunk)
}

// step asks once, and takes over what is new.
func (f *Follower) step(ctx context.Context) (waited bool, err error) {
	answer, err := f.from.Get(ctx, f.version)
	switch {
	case err != nil:
	case answer.Body != nil:
		err = f.take(ctx, answer)
	default:
		f.shrunk, f.afresh = time.Time{}, 0
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	f.note(ctx, err)
	return answer.Waited, err
}

// take makes what came the inventory.
func (f *Follower) take(ctx context.Context, answer remote.Answer) error {
	defer func() { _ = answer.Body.Close() }() // what is left is not wanted
	begin := time.Now()
	body := &io.LimitedReader{R: answer.Body, N: maxLength}
	force := !f.shrunk.IsZero() && time.Since(f.shrunk) >= patience
	whole, err := f.replica.Take(body, answer.Version.ETag, force)
	if err != nil && body.N == 0 {
		err = fmt.Errorf("%w: longer than %d bytes", inventory.ErrFormat, int64(maxLength))
	}
	switch {
	case errors.Is(err, inventory.ErrShrunk):
		if f.shrunk.IsZero() {
			f.shrunk = begin
		}
		return err
	case err != nil:
		f.version = remote.Version{} // all of it, the next time
		return err
	}
	f.version, f.shrunk = answer.Version, time.Time{}
	level := slog.LevelDebug
	f.afresh++
	if !whole {
		f.afresh = 0
	} else {
		level = slog.LevelInfo
		select {
		case f.another <- struct{}{}:
		default:
		}
	}
	f.o.Log.Log(ctx, level, "inventory taken over", slog.String("from", f.o.From), slog.Bool("whole", whole),
		slog.Int64("bytes", maxLength-body.N), slog.Duration("took", time.Since(begin)))
	return nil
}

// note keeps how it went, and tells of a change of that.
func (f *Follower) note(ctx context.Context, err error) {
	if err == nil {
		f.good.SetToCurrentTime()
		if f.failed > 0 {
			f.o.Log.InfoContext(ctx, "the inventory that is followed can be had again", slog.String("from", f.o.From))
		}
		f.failed, f.why = 0, ""
		return
	}
	f.failed++
	if why := err.Error(); why != f.why {
		f.why = why
		f.o.Log.WarnContext(ctx, "the inventory that is followed cannot be had: what is known is used",
			slog.String("from", f.o.From), slog.Any("error", err))
	}
}
