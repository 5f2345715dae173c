package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"freshet/api/watchapi"
	"freshet/internal/pause"
)

const (
	// firstWait and maxWait are between two tries of a batch.
	firstWait = time.Second
	maxWait   = 5 * time.Minute
	// pushTime is how long one may take.
	pushTime = 2 * time.Minute
	// lookAgain is how often it is looked for batches of a process that had the spool.
	lookAgain = 30 * time.Second
)

// deliver delivers batches, from the oldest on.
func (e *Emitter) deliver(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		b, ok := e.spool.Next()
		if !ok {
			if !pause.Until(ctx, e.spool.News(), lookAgain) {
				return
			}
			continue
		}
		ack, err := e.push(ctx, b.ID, b.Body)
		answer, said := errors.AsType[*watchapi.Error](err)
		switch {
		case err == nil:
			if failures > 0 {
				e.o.Log.InfoContext(ctx, "the watch takes telemetry again", slog.Int("batches", e.spool.Stat().Batches))
			}
			failures = 0
			e.spool.Done(b)
			e.metrics.delivered(ack)
			continue
		case ctx.Err() != nil:
			return
		case said && answer.Final():
			e.o.Log.ErrorContext(ctx, "the watch refuses a batch of telemetry for good: it is set aside",
				slog.String("batch", b.String()), slog.String("reason", answer.Reason), slog.Any("error", err))
			e.spool.Refuse(b, answer.Reason)
			e.metrics.batches.WithLabelValues("refused").Inc()
			continue
		}
		if failures++; failures == 1 {
			e.o.Log.WarnContext(ctx, "the watch does not take telemetry: it waits in the spool", slog.Any("error", err))
		}
		e.metrics.batches.WithLabelValues("failed").Inc()
		wait := min(firstWait<<min(failures-1, 10), maxWait)
		wait = wait/2 + rand.N(wait/2)
		if said {
			wait = max(wait, answer.After)
		}
		if !pause.Until(ctx, nil, wait) {
			return
		}
	}
}

// push delivers a batch, with the token as it is now.
func (e *Emitter) push(ctx context.Context, id watchapi.ID, body []byte) (watchapi.Ack, error) {
	ctx, cancel := context.WithTimeout(ctx, pushTime)
	defer cancel()
	client := e.client
	if e.o.TokenFile != "" {
		token, err := os.ReadFile(e.o.TokenFile)
		if err != nil {
			return watchapi.Ack{}, fmt.Errorf("token of the watch: %w", err)
		}
		client.Token = strings.TrimSpace(string(token))
	}
	return client.Push(ctx, id, body)
}
