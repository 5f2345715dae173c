package catalog_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freshet/internal/hub/catalog"
)

func TestExchangeIDToken(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		e := catalog.Exchange{Issuer: "https://a", ID: "1", Expires: w.Now().Add(time.Minute), Publisher: "p", Detail: "d\x00d"}

		// Of many at once one gets through.
		var won atomic.Int32
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				switch err := c.By("p: x (y)").ExchangeIDToken(ctx, e); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, catalog.ErrReplayed):
					t.Error(err)
				}
			})
		}
		group.Wait()
		equal(t, won.Load(), int32(1))
		entries := value(c.Audit(ctx, 0, 100))(t)
		equal(t, len(entries), 1)
		equal(t, []string{entries[0].Actor, entries[0].Action, entries[0].Object}, []string{"p: x (y)", "token.exchange", "publisher/p"})

		// The same id of another issuer is another token; those without an id are many.
		other := e
		other.Issuer = "https://b"
		must(t, c.ExchangeIDToken(ctx, other))
		other.ID = ""
		must(t, c.ExchangeIDToken(ctx, other))
		must(t, c.ExchangeIDToken(ctx, other))

		// It is remembered while it is good.
		w.advance(59 * time.Second)
		if err := c.ExchangeIDToken(ctx, e); !errors.Is(err, catalog.ErrReplayed) {
			t.Errorf("still good: %v", err)
		}
		w.advance(2 * time.Second)
		must(t, c.ExchangeIDToken(ctx, e))
	})
}
