package mirror

import (
	"context"

	"freshet/api/mirrorapi"
)

// Engine runs syncs. It is called for several projects at once, but never for one project
// twice at once.
type Engine interface {
	// Sync brings a project up to date. The report is complete but for its serial number,
	// whatever comes of it; the error says more of why nothing was published, and is
	// nil with [mirrorapi.Published] and [mirrorapi.Unchanged]. When ctx ends, it returns
	// soon, and keeps what it has fetched for the next sync.
	Sync(ctx context.Context, order mirrorapi.Order) (mirrorapi.Report, error)

	// Progress tells how far the sync of a project is, the zero value if none runs. It is
	// safe at any time and costs little.
	Progress(project string) mirrorapi.Progress
}
