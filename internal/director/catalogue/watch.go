package catalogue

import (
	"context"
	"log/slog"
	"sync"
	"time"
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
	listening.Go(func() { s.db.Hints(ctx, channel, 5*pollEvery, hint) })
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
