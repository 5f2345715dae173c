package catalogue

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/director/remote"
	"freshet/internal/durable"
	"freshet/internal/pause"
)

// FollowConfig says which catalogue is followed.
type FollowConfig struct {
	// From is the URL of another director's admin listener or of a file, or the path of
	// a file.
	From string
	// Token is shown to the other director; empty: none is.
	Token string
	// Keep is the file in which the last good catalogue is kept; its folder must exist.
	// Empty: it is not kept.
	Keep string
	// Every is how often it is asked; 0: 30 seconds. A director is asked at once again,
	// and answers when there is something new.
	Every time.Duration
	// HTTP makes the requests; nil stands for http.DefaultClient.
	HTTP *http.Client
	// Log is told of changes, and of what goes wrong. Nil: nobody is.
	Log *slog.Logger
}

// Follower is a catalogue that others change. All methods may be called concurrently.
type Follower struct {
	published

	cfg  FollowConfig
	from *remote.Resource
	// version is that of what was fetched last.
	version remote.Version
	// last is the text that was fetched last, and wrong what is wrong with it.
	last  [sha256.Size]byte
	wrong error

	mu     sync.Mutex
	status FollowStatus
}

// FollowStatus tells how current a follower is.
type FollowStatus struct {
	// From is what is followed.
	From string
	// Good is when it was last seen that the catalogue is the current one.
	Good time.Time
	// Err is why that was not so since; nil: it is.
	Err error
}

// followEvery is the default of FollowConfig.Every.
const followEvery = 30 * time.Second

// Follow reads the catalogue for the first time: if it cannot be had, as it was kept. It
// fails if there is neither.
func Follow(ctx context.Context, cfg FollowConfig) (*Follower, error) {
	if cfg.Every <= 0 {
		cfg.Every = followEvery
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Follower{cfg: cfg}
	f.status.From = cfg.From
	var err error
	f.from, err = remote.New(remote.Options{From: cfg.From, Path: directorapi.CataloguePath, Token: cfg.Token, HTTP: cfg.HTTP})
	if err != nil {
		return nil, fmt.Errorf("follow catalogue: %w", err)
	}
	kept := f.readKept()
	_, err = f.step(ctx)
	if f.edition.Load() == nil {
		return nil, fmt.Errorf("follow catalogue: %w", errors.Join(err, kept))
	}
	return f, nil
}

// Run implements [Source].
func (f *Follower) Run(ctx context.Context) error {
	for {
		pausing := f.cfg.Every
		if waited, err := f.step(ctx); err == nil && waited {
			pausing = 0
		}
		if !pause.For(ctx, pausing) {
			return nil
		}
	}
}

// Close implements [Source].
func (*Follower) Close() error { return nil }

// Status returns how current the catalogue is.
func (f *Follower) Status() FollowStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// step asks once, and takes over what is new.
func (f *Follower) step(ctx context.Context) (waited bool, err error) {
	text, waited, err := f.fetch(ctx)
	if ctx.Err() != nil {
		return waited, ctx.Err()
	}
	if sum := sha256.Sum256(text); err == nil && text != nil && sum != f.last {
		f.last, f.wrong = sum, f.take(ctx, text)
	}
	if err == nil {
		err = f.wrong
	}
	f.note(ctx, err)
	return waited, err
}

// fetch returns the text, or nil if it is the one that was fetched last. It may wait for
// a change; waited is true if it has.
func (f *Follower) fetch(ctx context.Context) (text []byte, waited bool, err error) {
	answer, err := f.from.Get(ctx, f.version)
	if err != nil || answer.Body == nil {
		return nil, answer.Waited, err
	}
	defer func() { _ = answer.Body.Close() }() // what is left is not wanted
	if text, err = bounded(f.cfg.From, answer.Body); err == nil {
		f.version = answer.Version
	}
	return text, answer.Waited && err == nil, err
}

// note keeps how it went, and tells of a change of that.
func (f *Follower) note(ctx context.Context, err error) {
	f.mu.Lock()
	before := f.status.Err
	f.status.Err = err
	if err == nil {
		f.status.Good = time.Now()
	}
	f.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		f.cfg.Log.WarnContext(ctx, "the catalogue that is followed cannot be had: the last good one is used",
			slog.String("from", f.cfg.From), slog.Any("error", err))
	case err == nil && before != nil:
		f.cfg.Log.InfoContext(ctx, "the catalogue that is followed can be had again", slog.String("from", f.cfg.From))
	}
}

// take makes a text the current catalogue, and keeps it.
func (f *Follower) take(ctx context.Context, text []byte) error {
	c, err := Parse(text)
	if err != nil {
		return err
	}
	if now := f.edition.Load(); now != nil && c.ID != "" && c.ETag() == now.catalogue.ETag() {
		return nil
	}
	f.publish(c)
	f.cfg.Log.InfoContext(ctx, "catalogue taken over", slog.String("from", f.cfg.From), slog.Int64("serial", c.Serial),
		slog.Int("projects", len(c.Projects)), slog.Int("mirrors", len(c.Mirrors)))
	if f.cfg.Keep == "" {
		return nil
	}
	if err := writeFile(f.cfg.Keep, c); err != nil {
		f.cfg.Log.ErrorContext(ctx, "the catalogue that is followed is not kept for the next start", slog.Any("error", err))
	}
	return nil
}

// readKept makes the catalogue that was kept the current one. The error is why there is
// none.
func (f *Follower) readKept() error {
	if f.cfg.Keep == "" {
		return errors.New("none is kept from before")
	}
	c, err := ReadFile(f.cfg.Keep)
	if err != nil {
		return fmt.Errorf("none is kept from before: %w", err)
	}
	f.publish(c)
	return nil
}

// Parse reads a catalogue that Check finds nothing wrong with; otherwise the error is an
// [*InvalidError]. Keys that nobody knows come from a newer version, and are left out.
func Parse(text []byte) (*directorapi.Catalogue, error) {
	var c directorapi.Catalogue
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("not a catalogue in JSON: %w", err)
	}
	sorted(&c)
	if problems := Check(&c); len(problems) > 0 {
		return nil, &InvalidError{problems}
	}
	return &c, nil
}

// maxText bounds a catalogue in JSON, in bytes.
const maxText = 64 << 20

// ReadFile reads a catalogue as [Parse] does.
func ReadFile(name string) (*directorapi.Catalogue, error) {
	text, err := readBounded(name)
	if err != nil {
		return nil, err
	}
	c, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

func readBounded(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	return bounded(name, file)
}

// bounded reads all of a catalogue.
func bounded(name string, r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxText+1))
	if err == nil && len(text) > maxText {
		err = fmt.Errorf("%s: has more than %d bytes", name, maxText)
	}
	return text, err
}

// Format is a catalogue in JSON, to be read by people as well.
func Format(c *directorapi.Catalogue) ([]byte, error) {
	text, err := json.MarshalIndent(c, "", "  ")
	return append(text, '\n'), err
}

// writeFile replaces a file by a catalogue, as a whole.
func writeFile(name string, c *directorapi.Catalogue) error {
	text, err := Format(c)
	if err != nil {
		return err
	}
	dir, err := durable.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Root.Close() }() // nothing is written through it any more
	return dir.WriteFile(filepath.Base(name), text, 0o600)
}

// Where says which catalogue a director has.
type Where struct {
	// Setting is "" for the SQLite file Database, "sqlite:…" or "postgres://…" for a
	// database, and otherwise a URL or a file to follow, with Keep to keep the last
	// good one in.
	Setting        string
	Database, Keep string
	Token          string
	HTTP           *http.Client
	Log            *slog.Logger
}

// OpenSource opens the catalogue of a director, to be changed or to be followed.
func OpenSource(ctx context.Context, w Where) (Source, error) {
	scheme, _, _ := strings.Cut(w.Setting, ":")
	switch {
	case w.Setting == "", scheme == "sqlite", scheme == "postgres", scheme == "postgresql":
		return Open(ctx, Config{DSN: w.Setting, Path: w.Database, Log: w.Log})
	}
	return Follow(ctx, FollowConfig{From: w.Setting, Token: w.Token, Keep: w.Keep, HTTP: w.HTTP, Log: w.Log})
}
