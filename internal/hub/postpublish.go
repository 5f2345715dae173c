package hub

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"freshet/internal/pause"
)

const (
	// minTellPause is the time between the first two attempts to run a
	// post-publish command; it doubles each time up to maxTellPause.
	minTellPause = time.Second
	maxTellPause = 10 * time.Minute
	// maxTellAttempts is after how many of them it is given up until the next
	// publish: after about two hours.
	maxTellAttempts = 20
	// maxTold bounds, in bytes, how much of the command's output is logged.
	maxTold = 4 << 10
)

// teller runs the post-publish command of a repository, beside everything else.
// Publishes that come while it runs are told of together, in one further run.
type teller struct {
	repo string
	due  chan struct{} // has room for one
}

func newTeller(repo string) *teller { return &teller{repo: repo, due: make(chan struct{}, 1)} }

// published says that there is something to tell; it never waits. A nil teller
// has nobody to tell.
func (t *teller) published() {
	if t == nil {
		return
	}
	select {
	case t.due <- struct{}{}:
	default: // it is known already
	}
}

// tell runs the command for each publish until stop ends; one under way may go on
// as long as ctx allows.
func (s *server) tell(ctx, stop context.Context, t *teller) {
	for {
		select {
		case <-stop.Done():
			return
		case <-t.due:
		}
		wait := minTellPause
		for attempt := 1; !s.tellOnce(ctx, t.repo, attempt) && attempt < maxTellAttempts; attempt++ {
			if !pause.For(stop, wait) {
				return
			}
			wait = min(2*wait, maxTellPause)
		}
	}
}

// tellOnce runs the command, and reports whether it went well.
func (s *server) tellOnce(ctx context.Context, repo string, attempt int) bool {
	var output tail
	err := s.runPostPublish(ctx, repo, &output)
	if err == nil {
		s.metrics.told.WithLabelValues(repo, "ok").Inc()
		return true
	}
	s.metrics.told.WithLabelValues(repo, "failed").Inc()
	if ctx.Err() == nil {
		s.log.ErrorContext(ctx, "post-publish command", slog.String("repo", repo), slog.Int("attempt", attempt),
			slog.Any("error", err), slog.String("output", output.String()))
	}
	return false
}

func (s *server) runPostPublish(ctx context.Context, repo string, output io.Writer) error {
	dir, err := filepath.Abs(s.repoDir(repo))
	if err != nil {
		return err
	}
	serial, err := s.catalog.Head(ctx)
	if err != nil {
		return err
	}
	command := s.command(repo, slices.Concat(s.cfg.Repos[repo].Hooks.PostPublish, []string{repo, dir}), envNumber(envSerial, serial))
	return command.Run(ctx, output)
}

// tail keeps the last bytes that are written to it.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-maxTold):]
	return len(p), nil
}

func (t *tail) String() string { return strings.ToValidUTF8(strings.TrimSpace(string(t.text)), "") }
