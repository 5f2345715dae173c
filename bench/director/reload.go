package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	"freshet/bench/measure"
)

// measureReloads exchanges the snapshot and has all files read anew, while there are
// some requests, and prints how long that took, the slowest request meanwhile, and
// what is in memory afterwards.
func measureReloads(ctx context.Context, cfg config, w *world, servers []*server, out io.Writer) error {
	s := servers[0]
	m := cases(w)[0]
	l := m.load(s)
	l.Conns, l.Rate = 16, 2000
	var took, slowest []float64
	name, at := "a.proto", uint64(firstTime)
	for n := range cfg.reloads {
		got, err := measure.Undisturbed(cfg.foreign, func() (measure.Sample, error) {
			if at == firstTime {
				name, at = "b.proto", secondTime
			} else {
				name, at = "a.proto", firstTime
			}
			reloaded := make(chan error, 1)
			var d time.Duration
			go func() {
				var err error
				d, err = reload(ctx, w, s, name, at)
				reloaded <- err
			}()
			got, err := measure.Take(ctx, l, 3*time.Second, s.cmd.Process.Pid)
			if errReload := <-reloaded; err == nil {
				err = errReload
			}
			took = append(took, d.Seconds())
			return got, err
		})
		if err != nil {
			return fmt.Errorf("reload %d: %w", n+1, err)
		}
		slowest = append(slowest, got.Quantile(1).Seconds()*1e3)
	}
	<-time.After(settled) // what was used before is given back beside the requests
	bytes, err := measure.Memory(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	measure.Most(out, "reload-s", measure.Median(took), 2)
	measure.Most(out, "reload-slowest-ms", measure.Median(slowest), 50)
	measure.Most(out, fmt.Sprintf("memory-after-%d-reloads-MB", cfg.reloads), float64(bytes)/1e6, 200)
	return nil
}

// settled is how long after a reload memory is looked at.
const settled = 2 * time.Second

// reload has a server read its files, and returns how long it took until answers
// were made of the new ones.
func reload(ctx context.Context, w *world, s *server, name string, at uint64) (time.Duration, error) {
	if err := w.use(name); err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return 0, err
	}
	wanted := fmt.Sprintf("# database creation time: %d\n", at)
	for time.Since(begin) < time.Minute {
		text, err := fetch(ctx, "http://"+s.addr+"/mirrorlist?time=1&"+w.anyRepository())
		if err != nil {
			return 0, err
		}
		if strings.Contains(text, wanted) {
			return time.Since(begin), nil
		}
		<-time.After(10 * time.Millisecond)
	}
	return 0, fmt.Errorf("no answer of %s says %q, a minute after SIGHUP", s.name, wanted)
}

// anyRepository is a query for a repository of the world.
func (w *world) anyRepository() string {
	for key := range w.snapshot.Repositories() {
		repo, arch, _ := strings.Cut(key, "+")
		return "repo=" + repo + "&arch=" + arch
	}
	return ""
}

func fetch(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}
