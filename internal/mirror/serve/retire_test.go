package serve_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	// retiredEnv is how many files are removed in TestServesWhileRetiring.
	retiredEnv = "FRESHET_RETIRED_FILES"
	// figuresEnv, when set, has times compared with what is promised.
	figuresEnv = "FRESHET_FIGURES"
)

// While an old generation is removed at the pace of the store, clients are served as fast
// as when it is not.
func TestServesWhileRetiring(t *testing.T) {
	retired, dir := 500, t.TempDir()
	if text := os.Getenv(retiredEnv); text != "" {
		var err error
		if retired, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
		if dir, err = os.MkdirTemp("/var/tmp", "freshet-retire-"); err != nil { //nolint:usetesting // TempDir is in memory, and this on a disk
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	w := newWorldIn(t, dir, 0)
	files := make(map[string]string)
	for i := range clientFiles {
		files[keptPath(i)] = fmt.Sprintf("kept %d", i)
	}
	kept := files
	files = make(map[string]string, len(kept)+retired)
	for i := range retired {
		files[fmt.Sprintf("gone/%03d/%d.rpm", i/100, i)] = fmt.Sprintf("gone %d", i)
	}
	maps.Copy(files, kept)
	w.publish(files)
	w.publish(kept)

	enough := time.Duration(retired) * 2 * time.Millisecond // as long as it takes to remove their names
	w.latencies(t, enough/4)                                // opens files
	before := w.latencies(t, enough)
	removed := make(chan error, 1)
	go func() {
		_, err := w.epel.Retire(t.Context(), 0)
		removed <- err
	}()
	busy := w.latencies(t, enough)
	if err := <-removed; err != nil {
		t.Fatal(err)
	}
	after := w.latencies(t, enough)
	if a := w.get("/epel/gone/000/1.rpm"); a.status != http.StatusNotFound {
		t.Errorf("a file of what was removed: %d", a.status)
	}
	idle := max(p99(before), p99(after))
	t.Attr("p99", fmt.Sprintf("%v while %d files are removed, %v and %v before and after", p99(busy), retired, p99(before), p99(after)))
	if p99(busy) > 2*idle && os.Getenv(figuresEnv) != "" {
		t.Errorf("the p99 is %v, more than twice %v", p99(busy), idle)
	}
}

// clientFiles is how many files clients ask for.
const clientFiles = 500

func keptPath(i int) string { return fmt.Sprintf("kept/%02d/%d.rpm", i/50, i) }

func p99(sorted []time.Duration) time.Duration {
	return sorted[len(sorted)*99/100].Round(time.Microsecond)
}

// latencies asks for small files for a while, over a few connections that are mostly idle,
// and returns how long answers took, sorted.
func (w *world) latencies(t *testing.T, long time.Duration) []time.Duration {
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			transport := new(http.Transport)
			defer transport.CloseIdleConnections()
			var took []time.Duration
			for i, end := c, time.Now().Add(long); time.Now().Before(end); i += 7 {
				began := time.Now()
				if err := w.fetch(t, transport, keptPath(i%clientFiles)); err != nil {
					t.Error(err)
					return
				}
				took = append(took, time.Since(began))
				time.Sleep(time.Millisecond)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
	}
	wg.Wait()
	slices.Sort(all)
	return all
}

func (w *world) fetch(t *testing.T, transport *http.Transport, path string) error {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.base+"/epel/"+path, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s, %w", path, resp.Status, err)
	}
	return nil
}
