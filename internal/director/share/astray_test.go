package share_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/orders"
	"freshet/internal/director/share"
	"freshet/internal/inventory"
)

// Two directors behind one name know each other's editions not: the whole is sent each
// time, and so it is not asked for without a pause.
func TestTwoBehindOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var follower inventory.Inventory
		leaders := make([]inventory.Inventory, 2)
		handlers := make([]http.Handler, len(leaders))
		token, hash := control.NewToken("fd_")
		w.token = token
		desk, err := orders.Open(orders.Config{Clients: map[string]orders.ClientConfig{
			"other": {Token: hash, Allow: []string{directorapi.RightRead}},
		}}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		for i := range leaders {
			list(t, &leaders[i], "", 100)
			mux := http.NewServeMux()
			share.NewServer(ctx, desk, &leaders[i]).Register(mux.Handle)
			handlers[i] = mux
		}
		var mu sync.Mutex
		asked := 0
		w.listen("balancer", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked++
			n := asked
			mu.Unlock()
			if n > 1000 { // otherwise time would never go on
				<-r.Context().Done()
				return
			}
			handlers[n%len(handlers)].ServeHTTP(rw, r)
		}), end)
		w.follow("http://balancer.mem", &follower)
		time.Sleep(time.Hour)
		w.has("after an hour", &follower, map[string]int{"": 100})
		mu.Lock()
		defer mu.Unlock()
		if asked < 60 || asked > 200 {
			t.Errorf("asked %d times in an hour", asked)
		}
	})
}

// What had lost most files, and was put right, is not believed when it loses them again.
func TestShrunkTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var full, little, follower inventory.Inventory
		list(t, &full, "", 100)
		list(t, &little, "", 10)
		var mu sync.Mutex
		now := &full
		w.listen("web", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			etag := strconv.Quote(fmt.Sprintf("%p", now))
			rw.Header().Set("ETag", etag)
			if r.Header.Get("If-None-Match") == etag {
				rw.WriteHeader(http.StatusNotModified)
				return
			}
			if err := now.Write(rw); err != nil {
				t.Error(err)
			}
		}), func() {})
		become := func(v *inventory.Inventory, d time.Duration) {
			t.Helper()
			mu.Lock()
			now = v
			mu.Unlock()
			time.Sleep(d)
			w.has("meanwhile", &follower, map[string]int{"": 100})
		}
		w.follow("http://web.mem/copy/inventory", &follower)
		become(&full, time.Minute)
		become(&little, 10*time.Minute)
		become(&full, 7*24*time.Hour)
		become(&little, 50*time.Minute)
	})
}
