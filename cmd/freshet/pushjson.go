package main

import "freshet/internal/push"

// pushed is what "freshet push --json" prints.
type pushed struct {
	Repository string `json:"repository,omitempty"`
	Tree       string `json:"tree,omitempty"`
	DryRun     bool   `json:"dry-run,omitempty"`
	// Unchanged is set when the hub had published just this before.
	Unchanged bool `json:"unchanged"`

	Build      int64 `json:"build,omitempty"`
	Generation int64 `json:"generation,omitempty"`
	// Serial is the event that tells of the publish, which "hub nodes --past" takes.
	Serial int64 `json:"serial,omitempty"`
	// Published are the commits that the hub has made, by ref.
	Published map[string]string `json:"published,omitempty"`

	Total pushedAmount `json:"total"`
	Sent  pushedAmount `json:"sent"`
}

type pushedAmount struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

func pushedJSON(cfg *push.Config, r *push.Result) pushed {
	p := pushed{
		DryRun: cfg.DryRun, Unchanged: r.Unchanged, Build: r.Build.ID, Generation: r.Generation.ID, Serial: r.Serial, Published: r.Published,
		Total: pushedAmount(r.Total), Sent: pushedAmount(r.Sent),
	}
	if r.Kind == push.OSTree {
		p.Repository = cfg.Name
	} else {
		p.Tree = cfg.Name
	}
	return p
}
