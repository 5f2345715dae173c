package mirror

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/pause"
)

// herald tells one mirror downstream of one project.
type herald struct {
	project, base string
	key           ed25519.PrivateKey
	http          *http.Client
	log           *slog.Logger
	news          chan struct{}
}

// Bounds of the wait until a mirror that was not reached is told again.
const (
	minHeraldWait = time.Second
	maxHeraldWait = 5 * time.Minute
	heraldTimeout = 30 * time.Second
)

// newHeralds makes those of all projects. Each of them has something to tell: what was
// published before a restart may not have been told of.
func newHeralds(cfg Config, client *http.Client, log *slog.Logger) (map[string][]*herald, error) {
	if cfg.TriggerKey == "" {
		return nil, nil //nolint:nilnil // no mirror is told
	}
	key, err := mirrorapi.ReadTriggerKey(cfg.TriggerKey)
	if err != nil {
		return nil, err
	}
	heralds := make(map[string][]*herald)
	for name, p := range cfg.Projects {
		for _, base := range p.Downstream {
			h := &herald{project: name, base: base, key: key, http: client, log: log.With(slog.String("project", name), slog.String("mirror", base)), news: make(chan struct{}, 1)}
			h.nudge()
			heralds[name] = append(heralds[name], h)
		}
	}
	return heralds, nil
}

// nudge says that there is something to tell.
func (h *herald) nudge() {
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// cry tells directors and the mirrors downstream of all projects, and hears what upstreams
// tell, until ctx ends.
func (s *settings) cry(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { s.crier.Run(ctx) })
	all.Go(func() { s.listener.Run(ctx) })
	for _, list := range s.heralds {
		for _, h := range list {
			all.Go(func() { h.run(ctx) })
		}
	}
}

// run tells the mirror whenever there is something new, and again and again while it is away.
func (h *herald) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.news:
		}
		failed := false
		for wait := minHeraldWait; ; wait = min(2*wait, maxHeraldWait) {
			err := h.tell(ctx)
			if err == nil {
				if failed {
					h.log.InfoContext(ctx, "a mirror downstream is told again")
				}
				break
			}
			if ctx.Err() != nil {
				return
			}
			if refused, ok := errors.AsType[*mirrorapi.Error](err); ok && refused.Status < http.StatusInternalServerError {
				h.log.ErrorContext(ctx, "a mirror downstream refuses what it is told: see its triggers", slog.Any("error", err))
				break
			}
			if !failed {
				failed = true
				h.log.WarnContext(ctx, "a mirror downstream cannot be told; it is tried again", slog.Any("error", err))
			}
			if !pause.Until(ctx, h.news, wait) {
				return
			}
		}
	}
}

func (h *herald) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, heraldTimeout)
	defer cancel()
	client := mirrorapi.Client{Base: h.base, HTTP: h.http}
	_, err := client.SignTrigger(ctx, mirrorapi.Trigger{Project: h.project, Sent: time.Now().UTC()}, h.key)
	return err
}
