// Package desired follows what the control side desires of a mirror: it waits for newer
// versions, takes those that the pinned key has signed for this mirror, and keeps the last
// good one, which counts for as long as there is no other.
package desired

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/durable"
	"freshet/internal/pause"
)

// File is the name of the last good desired state in a folder: a [directorapi.SignedDesired]
// in JSON.
const File = "desired.json"

// maxFile bounds what is read of it.
const maxFile = 2 << 20

// Keep writes a signed desired state into a folder. It survives a crash when Keep returns.
func Keep(dir durable.Dir, signed directorapi.SignedDesired) error {
	text, err := json.Marshal(signed)
	if err == nil {
		err = dir.WriteFile(File, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the desired state: %w", err)
	}
	return nil
}

// Load reads the last good desired state of a mirror, checked like one that has just come. The zero value:
// there is none.
func Load(dir durable.Dir, key ed25519.PublicKey, mirror string) (d directorapi.Desired, err error) {
	f, err := dir.Root.Open(File)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	defer func() { _ = f.Close() }() // it was only read
	var signed directorapi.SignedDesired
	if err := json.NewDecoder(io.LimitReader(f, maxFile)).Decode(&signed); err != nil {
		return d, fmt.Errorf("%s: %w", File, err)
	}
	if d, err = signed.Open(key, mirror); err != nil {
		return d, fmt.Errorf("%s: %w", File, err)
	}
	return d, nil
}

// Why a desired state is refused that is signed for this mirror.
var (
	ErrOlder   = errors.New("it is older than the one that is followed: freshet director desired set --version makes a higher one")
	ErrDiffers = errors.New("it has the number of the one that is followed, and says something else: freshet director desired set --version makes a higher one")
)

// Options are what a [Follower] works with. Log may be left out.
type Options struct {
	API    *directorapi.Client
	Mirror string
	Key    ed25519.PublicKey
	// Dir is where the last good one is kept.
	Dir durable.Dir
	// Have is the one that is followed at the beginning, as [Load] returned it.
	Have directorapi.Desired
	// Refused says why Have could not be taken; nil: it was.
	Refused error
	// Take has the mirror work by settings. After an error it works as before.
	Take func(ctx context.Context, settings string) error
	Log  *slog.Logger
}

// State is how it is with the control side.
type State struct {
	// Version is the one that is followed, 0 without one; Made is when it was made.
	Version int64
	Made    time.Time
	// Refused is another one that is not taken, 0 without one; Why says why.
	Refused int64
	Why     string
	// Heard is when the control side last answered, or zero. Err is why it does not, or is not believed;
	// nil: it does and is.
	Heard time.Time
	Err   error
}

// Follower follows desired states. It is made by [New].
type Follower struct {
	o       Options
	have    directorapi.Desired
	unsaved *directorapi.SignedDesired
	told    directorapi.Applied
	toldAt  time.Time

	mu    sync.Mutex
	state State
}

// New returns a Follower that does nothing before Run.
func New(o Options) *Follower {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f := &Follower{o: o, have: o.Have, state: State{Version: o.Have.Version, Made: o.Have.Made}}
	if o.Refused != nil {
		f.have = directorapi.Desired{} // it is asked for once more
		f.state = State{Refused: o.Have.Version, Why: o.Refused.Error()}
	}
	return f
}

// State tells how it is. It may be called at any time.
func (f *Follower) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *Follower) note(change func(*State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state)
}

// Bounds of waits.
const (
	longPoll  = time.Minute
	timeout   = 30 * time.Second // of a request, besides longPoll
	minWait   = time.Second
	maxWait   = 5 * time.Minute
	tellEvery = 10 * time.Minute // also when nothing is new
)

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	wait := minWait
	for ctx.Err() == nil {
		err := f.round(ctx)
		if ctx.Err() != nil {
			return
		}
		f.noteErr(ctx, err)
		if err == nil {
			wait = minWait
		}
		// Mirrors that lost the control side together do not come back together.
		if !pause.For(ctx, wait/2+rand.N(wait)) {
			return
		}
		if err != nil {
			wait = min(2*wait, maxWait)
		}
	}
}

// noteErr tells when the control side goes and comes.
func (f *Follower) noteErr(ctx context.Context, err error) {
	before := f.State().Err
	f.note(func(s *State) {
		s.Err = err
		if err == nil || isAnswer(err) {
			s.Heard = time.Now()
		}
	})
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		f.o.Log.WarnContext(ctx, "what is desired of the mirror cannot be followed: the last good state goes on", slog.Any("error", err))
	case err == nil && before != nil:
		f.o.Log.InfoContext(ctx, "what is desired of the mirror is followed again")
	}
}

func isAnswer(err error) bool {
	_, ok := errors.AsType[*directorapi.Error](err)
	return ok
}

// IsRevoked reports whether an error says that the mirror's token is good no longer.
func IsRevoked(err error) bool {
	e, ok := errors.AsType[*directorapi.Error](err)
	return ok && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden)
}

// round waits for one newer version, takes it, and says so.
func (f *Follower) round(ctx context.Context) error {
	f.save(ctx)
	if err := f.tell(ctx); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, longPoll+timeout)
	defer cancel()
	signed, err := f.o.API.FollowDesired(bounded, f.o.Mirror, max(f.have.Version, f.State().Refused), longPoll)
	if err != nil || signed == nil {
		return err
	}
	if err := f.take(ctx, *signed); err != nil {
		return err
	}
	return f.tell(ctx)
}

// take takes over a desired state, or refuses it. The error is of the control side; what this mirror cannot
// take is none.
func (f *Follower) take(ctx context.Context, signed directorapi.SignedDesired) error {
	d, err := signed.Open(f.o.Key, f.o.Mirror)
	if err != nil {
		return err
	}
	log := f.o.Log.With(slog.Int64("version", d.Version))
	switch {
	case d.Version < f.have.Version:
		return fmt.Errorf("version %d: %w", d.Version, ErrOlder)
	case d.Version == f.have.Version && d.Settings != f.have.Settings:
		return fmt.Errorf("version %d: %w", d.Version, ErrDiffers)
	case d.Version == f.have.Version:
		return nil
	}
	if err := f.o.Take(ctx, d.Settings); err != nil {
		f.note(func(s *State) { s.Refused, s.Why = d.Version, err.Error() })
		log.ErrorContext(ctx, "what is desired of the mirror cannot be taken: the state before goes on", slog.Any("error", err))
		return nil //nolint:nilerr // as documented
	}
	f.have, f.unsaved = d, &signed
	f.note(func(s *State) { s.Version, s.Made, s.Refused, s.Why = d.Version, d.Made, 0, "" })
	log.InfoContext(ctx, "what is desired of the mirror is taken over", slog.String("by", d.By))
	f.save(ctx)
	return nil
}

// save keeps what was taken over, now or at the next round.
func (f *Follower) save(ctx context.Context) {
	if f.unsaved == nil {
		return
	}
	if err := Keep(f.o.Dir, *f.unsaved); err != nil {
		f.o.Log.ErrorContext(ctx, "after a restart an older desired state would be followed", slog.Any("error", err))
		return
	}
	f.unsaved = nil
}

// maxWhy bounds what is told of why a version is refused.
const maxWhy = 4000

// tell says what is followed, if that is news or was told long ago.
func (f *Follower) tell(ctx context.Context) error {
	st := f.State()
	now := directorapi.Applied{Version: st.Version, Refused: st.Refused, Why: st.Why}
	if len(now.Why) > maxWhy {
		now.Why = now.Why[:maxWhy] + "…"
	}
	if now == f.told && time.Since(f.toldAt) < tellEvery {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := f.o.API.TellApplied(ctx, f.o.Mirror, now)
	if err == nil {
		f.told, f.toldAt = now, time.Now()
	}
	return err
}
