package hub

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/hub/upkeep"
)

// scrubPause is the time after which a scrub goes on that could not read.
const scrubPause = time.Minute

// scrubMetrics say how far the scrubs are.
type scrubMetrics struct {
	objects, oldest *prometheus.GaugeVec
	damaged         *prometheus.CounterVec
}

func newScrubMetrics(reg prometheus.Registerer) *scrubMetrics {
	m := &scrubMetrics{
		objects: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "freshet_hub_scrub_objects",
			Help: "Objects that the scrub of a repository has read since it was first configured.",
		}, []string{"repo"}),
		oldest: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "freshet_hub_scrub_oldest_timestamp_seconds",
			Help: "Since when every object of a repository has been read at least once; 0 while some never were.",
		}, []string{"repo"}),
		damaged: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_hub_scrub_damaged_total",
			Help: "Damaged objects that the scrub of a repository has met, by whether they were repaired (yes or no): alert on no.",
		}, []string{"repo", "repaired"}),
	}
	reg.MustRegister(m.objects, m.oldest, m.damaged)
	return m
}

// scrub reads the objects of a repository over and over until stop ends.
func (s *server) scrub(stop context.Context, repo string) {
	cfg := s.cfg.Repos[repo]
	log := s.log.With(slog.String("repo", repo))
	opt := upkeep.ScrubOptions{
		Rate: int64(cfg.ScrubRate),
		Found: func(p upkeep.Problem) {
			repaired := "no"
			if p.Repaired {
				repaired = "yes"
			}
			s.metrics.scrub.damaged.WithLabelValues(repo, repaired).Inc()
			log.ErrorContext(stop, "a published object is damaged", slog.String("path", p.Path), slog.String("error", p.Error),
				slog.Bool("repaired", p.Repaired), slog.Bool("quarantined", p.Apart), slog.String("failure", p.Failure))
			if p.Repaired {
				s.repaired(stop, repo)
			}
		},
		Round: func(state upkeep.ScrubState) {
			s.metrics.scrub.objects.WithLabelValues(repo).Set(float64(state.Objects))
			if oldest := state.Oldest(); !oldest.IsZero() {
				s.metrics.scrub.oldest.WithLabelValues(repo).Set(float64(oldest.Unix()))
			}
		},
	}
	if copied := s.copyOf(repo); copied != nil {
		opt.Repair = append(opt.Repair, upkeep.CopySource{Copy: copied})
	}
	if cfg.RepairFrom != "" {
		source, err := upkeep.NewHTTPSource(stop, cfg.RepairFrom)
		if err != nil {
			log.ErrorContext(stop, "damage is not repaired from there", slog.Any("error", err))
		} else {
			opt.Repair = append(opt.Repair, source)
		}
	}
	for _, repaired := range [...]string{"yes", "no"} {
		s.metrics.scrub.damaged.WithLabelValues(repo, repaired)
	}
	s.metrics.scrub.oldest.WithLabelValues(repo)
	for {
		if err := upkeep.Scrub(stop, s.repoDir(repo), opt); stop.Err() == nil {
			log.ErrorContext(stop, "the scrub of a repository pauses", slog.Any("error", err))
		}
		if !s.pause(scrubPause) {
			return
		}
	}
}
