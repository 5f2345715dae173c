package catalogue

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"freshet/internal/sqldb"
)

// channel is the NOTIFY channel by which directors that share a PostgreSQL database tell
// each other of changes.
const channel = "freshet_director"

// pollEvery is how often it is looked for changes made by others.
const pollEvery = time.Second

// Run implements [Source]: it takes over what other processes change in the database. A
// database that does not answer is asked again.
func (s *Store) Run(ctx context.Context) error {
	hint := make(chan struct{}, 1)
	var listening sync.WaitGroup
	defer listening.Wait()
	if s.db.Engine() == sqldb.PostgreSQL {
		listening.Go(func() { s.listen(ctx, hint) })
	}
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	away := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-hint:
		}
		err := s.refresh(ctx)
		if (err != nil) != away && ctx.Err() == nil {
			away = err != nil
			if away {
				s.log.WarnContext(ctx, "the database of the catalogue does not answer: the catalogue stays as it is", slog.Any("error", err))
			} else {
				s.log.InfoContext(ctx, "the database of the catalogue answers again")
			}
		}
	}
}

// listen passes on notifications, and connects again after a pause when the connection
// breaks.
func (s *Store) listen(ctx context.Context, hint chan<- struct{}) {
	ticker := time.NewTicker(5 * pollEvery)
	defer ticker.Stop()
	for {
		// An error leaves polling, which needs no notifications.
		_ = s.db.Listen(ctx, channel, func(string) {
			select {
			case hint <- struct{}{}:
			default:
			}
		})
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
