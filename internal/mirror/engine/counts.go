package engine

import (
	"freshet/api/mirrorapi"
	"freshet/internal/mirror/fetch"
)

// counts are what a sync has done.
type counts struct {
	job       fetch.Progress
	linked    amount
	from      map[string]*amount // by mirrorapi.FromUpstream, FromSiblings
	upstreams map[string]*amount // by URL
}

type amount mirrorapi.Amount

func (a *amount) add(bytes int64) {
	a.Files++
	a.Bytes += max(bytes, 0)
}

// fetched counts a file that came over the network.
func (c *counts) fetched(up *Upstream, res fetch.Result) {
	source := mirrorapi.FromSiblings
	for _, s := range up.Sources {
		if s.URL() == res.From {
			source = mirrorapi.FromUpstream
		}
	}
	tally(&c.from, source).add(res.Size)
	if source == mirrorapi.FromUpstream {
		tally(&c.upstreams, res.From).add(res.Size)
	}
}

func tally(m *map[string]*amount, key string) *amount {
	if *m == nil {
		*m = make(map[string]*amount)
	}
	a := (*m)[key]
	if a == nil {
		a = new(amount)
		(*m)[key] = a
	}
	return a
}

// tell puts them into a report.
func (c *counts) tell(r *mirrorapi.Report) {
	r.Linked = mirrorapi.Amount(c.linked)
	r.Refetched = c.job.Wrong.Load()
	most := int64(-1)
	for url, a := range c.upstreams {
		if a.Bytes > most || a.Bytes == most && url < r.Upstream {
			most, r.Upstream = a.Bytes, url
		}
	}
	for source, a := range c.from {
		if r.Fetched == nil {
			r.Fetched = make(map[string]mirrorapi.Amount)
		}
		r.Fetched[source] = mirrorapi.Amount(*a)
	}
}
