package catalogue

import (
	"context"
	"sync/atomic"

	"freshet/api/directorapi"
)

// Source is a catalogue, wherever it comes from. All methods may be called
// concurrently.
type Source interface {
	// Current returns the newest catalogue; it is not changed by anybody.
	Current() *directorapi.Catalogue
	// Changed returns a channel that is closed when there is a newer one. Take it
	// before Current, then wait.
	Changed() <-chan struct{}
	// Run follows the changes that others make, until ctx ends; then it returns nil.
	Run(ctx context.Context) error
	// Close lets go of all that is open. Current goes on.
	Close() error
}

// published is the newest catalogue, and who waits for the next. It is ready after the
// first publish.
type published struct{ edition atomic.Pointer[edition] }

// edition is a catalogue, with a channel that is closed by the next one.
type edition struct {
	catalogue *directorapi.Catalogue
	next      chan struct{}
}

// Current implements [Source].
func (p *published) Current() *directorapi.Catalogue { return p.edition.Load().catalogue }

// Changed implements [Source].
func (p *published) Changed() <-chan struct{} { return p.edition.Load().next }

// publish makes c the current catalogue.
func (p *published) publish(c *directorapi.Catalogue) {
	if old := p.edition.Swap(&edition{catalogue: c, next: make(chan struct{})}); old != nil {
		close(old.next)
	}
}

// advance makes c the current catalogue, unless it is older than the one that is.
func (p *published) advance(c *directorapi.Catalogue) {
	fresh := &edition{catalogue: c, next: make(chan struct{})}
	for {
		old := p.edition.Load()
		if old != nil && !newer(c, old.catalogue) {
			return
		}
		if p.edition.CompareAndSwap(old, fresh) {
			if old != nil {
				close(old.next)
			}
			return
		}
	}
}

// newer tells whether c takes the place of old in the same database.
func newer(c, old *directorapi.Catalogue) bool { return c.ID != old.ID || c.Serial > old.Serial }
