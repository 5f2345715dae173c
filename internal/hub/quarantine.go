package hub

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/hubapi"
	"freshet/internal/durable"
	"freshet/internal/hub/quarantine"
)

// reasonQuarantined is why an object is not there that was published.
const reasonQuarantined = "quarantined"

// repairsAtOnce bounds the files of which one event tells.
const repairsAtOnce = 500

// newQuarantineGauge counts what is in quarantine whenever somebody asks: other
// processes put things there, and take them out.
func newQuarantineGauge(repo, dir string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "freshet_hub_quarantined_objects",
		Help:        "Damaged objects of a repository that are kept apart and not served until they are repaired: alert on it.",
		ConstLabels: prometheus.Labels{"repo": repo},
	}, func() float64 {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return 0
		}
		defer root.Close() //nolint:errcheck // read only
		n, _ := quarantine.Count(root)
		return float64(n)
	})
}

// quarantined is the answer for an object in quarantine. A cache does not remember it:
// it may be back at any time.
func quarantined(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	e := problem(hubapi.ErrNotFound, "%s is damaged, and not served until it is repaired", r.URL.Path)
	e.Reason = reasonQuarantined
	return e
}

// tellRepairs lets caches know which files of a repository were repaired, by whatever
// process.
func (s *server) tellRepairs(ctx context.Context, repo string) (err error) {
	s.repairs.Lock()
	defer s.repairs.Unlock()
	dir, err := durable.Open(s.repoDir(repo))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Root.Close()) }()
	for {
		paths, err := quarantine.Repairs(ctx, dir.Root, repairsAtOnce)
		if err != nil || len(paths) == 0 {
			return err
		}
		if err := s.catalog.RecordRepair(ctx, repo, hubapi.RepoPath(repo), paths); err != nil {
			return err
		}
		if err := quarantine.Told(dir, paths); err != nil {
			return err
		}
	}
}

// repaired tells of repairs now. If that does not succeed, upkeep does it later.
func (s *server) repaired(ctx context.Context, repo string) {
	if err := s.tellRepairs(ctx, repo); err != nil {
		s.log.WarnContext(ctx, "caches are told of repairs later", slog.String("repo", repo), slog.Any("error", err))
	}
}

// tellAllRepairs does so for all repositories.
func (s *server) tellAllRepairs(ctx context.Context) (err error) {
	for repo := range s.repos {
		err = errors.Join(err, s.tellRepairs(ctx, repo))
	}
	return err
}
