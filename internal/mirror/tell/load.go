package tell

import (
	"context"
	"log/slog"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/pause"
)

const (
	// loadEvery is how often a director is told how busy the mirror is: it believes that for
	// five minutes. loadTime is how long that may take.
	loadEvery = 30 * time.Second
	loadTime  = 10 * time.Second
)

// runLoads tells a director how busy the mirror is, until ctx ends. What could not be told is
// not told later: then it is something else.
func (w *ward) runLoads(ctx context.Context) {
	failed := false
	for pause.For(ctx, loadEvery) {
		load, known := w.o.Load()
		if !known {
			continue
		}
		err := w.tellLoad(ctx, load)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil && !failed:
			w.o.Log.WarnContext(ctx, "a director is not told how busy the mirror is; it is tried again", slog.String("director", w.director.Name), slog.Any("error", err))
		case err == nil && failed:
			w.o.Log.InfoContext(ctx, "a director is told again how busy the mirror is", slog.String("director", w.director.Name))
		}
		failed = err != nil
	}
}

func (w *ward) tellLoad(ctx context.Context, load float64) error {
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	return w.director.API.Report(ctx, directorapi.Reports{Reports: []directorapi.Report{{Mirror: w.director.Mirror, What: "load", Load: load}}})
}
