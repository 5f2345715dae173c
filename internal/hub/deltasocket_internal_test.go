package hub

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/auth"
)

// The token of a worker that stays connected is looked at again and again, and right
// after its end.
func TestWatchToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var revoked atomic.Bool
		good := func(expires time.Time) func() error {
			return func() error {
				switch {
				case revoked.Load():
					return &auth.TokenError{Message: "revoked"}
				case time.Now().Unix() > expires.Unix():
					return &auth.TokenError{Message: "expired"}
				}
				return errors.New("the database is away")
			}
		}
		expires := begun.Add(90 * time.Second)
		err := watchToken(t.Context(), expires, good(expires))
		if took := time.Since(begun); err == nil || err.Message != "expired" || took < 90*time.Second || took > 92*time.Second {
			t.Errorf("after %s: %v", took, err)
		}
		expires = begun.Add(10 * time.Hour)
		time.AfterFunc(5*time.Minute, func() { revoked.Store(true) })
		begun = time.Now()
		err = watchToken(t.Context(), expires, good(expires))
		if took := time.Since(begun); err == nil || err.Message != "revoked" || took > 5*time.Minute+socketTokenCheck {
			t.Errorf("after %s: %v", took, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		revoked.Store(false)
		if err := watchToken(ctx, expires, good(expires)); err != nil {
			t.Errorf("gone: %v", err)
		}
	})
}
