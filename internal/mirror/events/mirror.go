package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/pause"
)

// mirror is a project of another mirror, of which it is followed which generation it
// serves.
type mirror struct {
	*ward
	l          *Listener
	root, host string
}

// generation is the content of the file for how far a mirror was followed.
type generation struct {
	Upstream   string `json:"upstream"`
	Generation string `json:"generation"`
}

const (
	// absent is when somebody is asked again who has no such project, or is no mirror.
	absent = 2 * time.Minute
	// hurried is the pause after an answer with nothing new that came before its time.
	hurried = 5 * time.Second
	// patience is how long an answer may be behind its time.
	patience = 20 * time.Second
	// maxName is how long the name of a generation may be.
	maxName = 128
)

func (m *mirror) run(ctx context.Context) {
	log := m.l.o.Log.With(slog.String("project", m.project), slog.String("mirror", m.root))
	client := &mirrorapi.Client{Base: m.root, HTTP: m.l.o.HTTP}
	known, err := m.load()
	if err != nil {
		log.WarnContext(ctx, "it is not known how far the mirror was followed: the project is looked at", slog.Any("error", err))
	}
	failures, wait := 0, time.Duration(0) // the first answer comes at once
	for ctx.Err() == nil {
		asked := time.Now()
		head, err := ask(ctx, client, m.path, known, wait)
		if err == nil && head.Generation != known {
			err = m.changed(ctx, head, log)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failures++
			wait = 0
			pause.For(ctx, m.trouble(ctx, err, failures, log))
			continue
		}
		if failures > 0 {
			log.InfoContext(ctx, "the mirror tells of changes again")
		}
		failures = 0
		m.set(mirrorapi.FollowFollowing, nil)
		m.at(head.Generation, 0)
		if head.Generation == known && wait > 0 && time.Since(asked) < min(wait, hurried) {
			pause.For(ctx, hurried) // it has too many followers to hold answers back
		}
		if head.Generation != known && !pause.For(ctx, pace) {
			return
		}
		known, wait = head.Generation, pollWait
	}
}

func ask(ctx context.Context, client *mirrorapi.Client, project, after string, wait time.Duration) (mirrorapi.Head, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+patience)
	defer cancel()
	head, err := client.Head(ctx, project, after, wait)
	if name := head.Generation; err == nil && (name == "" || len(name) > maxName) {
		err = fmt.Errorf("the answer names no generation: %.200q", name)
	}
	return head, err
}

// changed has the project synced.
func (m *mirror) changed(ctx context.Context, head mirrorapi.Head, log *slog.Logger) error {
	if _, err := m.l.o.Sync(m.project, m.host, false); err != nil {
		return err
	}
	m.counted()
	log.InfoContext(ctx, "the mirror serves another generation", slog.String("generation", head.Generation))
	return m.save(head.Generation)
}

// trouble notes that the mirror is not followed, and returns how long to wait.
func (m *mirror) trouble(ctx context.Context, err error, failures int, log *slog.Logger) time.Duration {
	state, wait := mirrorapi.FollowAway, backOff(failures)
	if answer, ok := errors.AsType[*mirrorapi.Error](err); ok && answer.Status == http.StatusNotFound {
		state, wait = mirrorapi.FollowNoLog, absent
		err = fmt.Errorf("%s has no project %q that can be followed: %w", m.root, m.path, err)
	}
	m.set(state, err)
	if failures == 1 {
		log.WarnContext(ctx, "the mirror does not tell of changes: the project is synced as its schedule says", slog.Any("error", err))
	}
	return wait
}

func (m *mirror) load() (known string, err error) {
	text, err := m.l.o.State.Root.ReadFile(m.file())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	var g generation
	if err == nil {
		err = json.Unmarshal(text, &g)
	}
	if err != nil || g.Upstream != m.st.Upstream {
		return "", err
	}
	return g.Generation, nil
}

func (m *mirror) save(known string) error {
	text, err := json.Marshal(generation{m.st.Upstream, known})
	if err == nil {
		err = m.l.o.State.WriteFile(m.file(), append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("keep how far %s was followed: %w", m.st.Upstream, err)
	}
	return nil
}

func (m *mirror) file() string { return stateFile(m.project + " " + m.st.Upstream) }
