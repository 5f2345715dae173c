package hub

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
	"freshet/internal/sign"
)

// A key that is away, and a disk that is full while a job is done, make the
// queue wait: no job is lost, none overtakes another, and all can be seen to
// wait.
func TestQueueWaitsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		c, err := catalog.Open(ctx, catalog.Config{Path: filepath.Join(t.TempDir(), "hub.db")})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		s := &server{
			catalog: c, log: slog.New(slog.DiscardHandler), stopping: ctx,
			metrics: newMetrics(prometheus.NewRegistry()), queues: make(map[string]*queue),
		}
		var unplugged, full atomic.Bool
		q := s.newQueue("stable", nil)
		q.ready = func(context.Context) error {
			if unplugged.Load() {
				return &sign.KeyError{Key: "abc", Reason: "is unplugged", Away: true}
			}
			return nil
		}
		s.queues["stable"] = q
		var jobs []int64
		for range 3 {
			job, err := c.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobRepublish, Repo: "stable"})
			if err != nil {
				t.Fatal(err)
			}
			jobs = append(jobs, job.ID)
		}
		see := func(reason string) {
			t.Helper()
			job, err := s.jobFrom(ctx, jobs[2], 0)
			if err != nil || job.Status != hubapi.JobNew || !strings.HasPrefix(job.WaitsFor, reason) || reason == "" && job.WaitsFor != "" {
				t.Errorf("job %+v, %v, waits for %q", job, err, reason)
			}
			for _, one := range waitReasons() {
				var gauge dto.Metric
				if err := s.metrics.waits.WithLabelValues("stable", one).Write(&gauge); err != nil {
					t.Fatal(err)
				}
				if on := gauge.GetGauge().GetValue() == 1; on != (one == reason) {
					t.Errorf("metric of %s is %v", one, on)
				}
			}
		}

		// after passes time, and waits for what the worker begins at its end.
		after := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}

		unplugged.Store(true)
		var done []int64
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.work(ctx, ctx, catalog.JobFilter{Repo: "stable"}, q, func(_ context.Context, job *catalog.Job) error {
				if full.Load() && job.ID == jobs[1] {
					return fmt.Errorf("stage: %w", syscall.ENOSPC)
				}
				if done = append(done, job.ID); job.ID == jobs[0] {
					full.Store(true)
				}
				q.resume()
				return c.FinishJob(ctx, job.Claim(), nil)
			})
		}()
		after(time.Hour)
		if len(done) > 0 {
			t.Errorf("done without the key: %v", done)
		}
		see(waitsForKey)
		unplugged.Store(false)
		after(maxQueuePause + 2*gatePoll)
		if !slices.Equal(done, jobs[:1]) {
			t.Errorf("with the key, without room: done %v of %v", done, jobs)
		}
		see(waitsForSpace)
		after(time.Hour)
		full.Store(false)
		after(maxQueuePause + 2*gatePoll)
		if !slices.Equal(done, jobs) {
			t.Errorf("with room: done %v of %v", done, jobs)
		}
		if now, err := s.jobFrom(ctx, jobs[1], 0); err != nil || now.Status != hubapi.JobEnded || strings.Count(now.Log, "Waiting for space: ") != 1 {
			t.Errorf("job %+v, %v", now, err)
		}
		if w := s.waiting("stable"); w != "" {
			t.Errorf("waits for %s still", w)
		}
		stop()
		<-ended
	})
}

func TestWaitReason(t *testing.T) {
	for want, err := range map[string]error{
		waitsForKey:   fmt.Errorf("sign: %w", &sign.KeyError{Away: true}),
		waitsForSpace: fmt.Errorf("write: %w", syscall.EDQUOT),
		"":            fmt.Errorf("sign: %w", &sign.KeyError{Reason: "has expired"}),
	} {
		if got := waitReason(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
