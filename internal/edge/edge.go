package edge

import (
	"context"
	"net/http"

	"freshet/internal/role"
)

// Edge is a caching front: a handler with a store and its followers.
type Edge struct {
	cfg Config
}

// New opens the store and prepares to serve. Close gives it up.
func New(ctx context.Context, cfg Config, env role.Env) (*Edge, error) {
	if err := check(cfg); err != nil {
		return nil, err
	}
	return &Edge{cfg: cfg.WithDefaults()}, nil
}

func (e *Edge) Follow(ctx context.Context) error { <-ctx.Done(); return nil }
func (e *Edge) Close() error                     { return nil }
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	http.Error(w, "not yet", http.StatusServiceUnavailable)
}
