package kind

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"freshet/internal/ostree"
)

// halfLife is after how long a download counts half as much as one of today.
const halfLife = 7 * 24 * time.Hour

// Popularity counts which refs of an OSTree repository clients ask for, so that a hot set
// can have those ([Tree.Popular]). Whoever downloads a ref, asks for its commit or for the
// beginning of a static delta to it; which ref that is, the summary tells. The zero value
// knows no refs and is ready for use, by several goroutines at once.
type Popularity struct {
	mu     sync.Mutex
	refs   map[ostree.Checksum][]string
	counts map[string]float64 // of downloads, as they count at the time at
	at     time.Time
}

// Learn reads which refs a repository has and at which commits. Of refs that it has not
// any more nothing is kept.
func (p *Popularity) Learn(ctx context.Context, tree Tree, r Repository, now time.Time) error {
	w := treeWalk{ctx: ctx, tree: tree, root: r.Root}
	s, err := w.summaries(r)
	if err != nil {
		return err
	}
	refs := make(map[ostree.Checksum][]string, len(s.refs))
	for _, ref := range s.refs {
		refs[ref.commit] = append(refs[ref.commit], ref.name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fade := 1.0
	if !p.at.IsZero() && now.After(p.at) {
		fade = math.Exp2(-float64(now.Sub(p.at)) / float64(halfLife))
	}
	counts := make(map[string]float64, len(p.counts))
	for name, n := range p.counts {
		if _, ok := s.refs[name]; ok {
			counts[name] = n * fade
		}
	}
	p.refs, p.counts, p.at = refs, counts, now
	return nil
}

// Asked counts a request for a file of the repository, by its path relative to the
// repository's root, whether there was such a file or not.
func (p *Popularity) Asked(name string) {
	commit, ok := commitAsked(name)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ref := range p.refs[commit] {
		p.counts[ref]++
	}
}

// commitAsked is the commit that a download of this file begins with.
func commitAsked(name string) (commit ostree.Checksum, ok bool) {
	switch {
	case strings.HasSuffix(name, ".commit"):
		object, err := ostree.ParseObjectPath(name)
		return object.Checksum, err == nil && object.Type == ostree.TypeCommit
	case path.Base(name) == "superblock":
		file, err := ostree.ParseDeltaPath(name)
		return file.Delta.To, err == nil
	}
	return commit, false
}

// Ranked returns the refs that were asked for, the one that is most asked for first.
func (p *Popularity) Ranked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]string, 0, len(p.counts))
	for name := range p.counts {
		list = append(list, name)
	}
	slices.SortFunc(list, func(a, b string) int {
		switch x, y := p.counts[a], p.counts[b]; {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return strings.Compare(a, b)
	})
	return list
}

// counted is the form in which counts are kept over a restart.
type counted struct {
	At     time.Time          `json:"at"`
	Counts map[string]float64 `json:"counts"`
}

// MarshalJSON returns the counts. Which commits the refs are at is to be learned again.
func (p *Popularity) MarshalJSON() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return json.Marshal(counted{At: p.at, Counts: p.counts})
}

// UnmarshalJSON takes in what MarshalJSON returned.
func (p *Popularity) UnmarshalJSON(data []byte) error {
	var c counted
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	for _, n := range c.Counts {
		if n < 0 || math.IsInf(n, 0) || math.IsNaN(n) {
			return errors.New("a count of downloads is no number from 0 on")
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.counts = c.At, c.Counts
	if p.counts == nil {
		p.counts = make(map[string]float64)
	}
	return nil
}
