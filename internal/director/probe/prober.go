package probe

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/directorapi"
)

// Options are what a Prober is made of. Only Catalogue is needed.
type Options struct {
	// Catalogue says what there is to look at.
	Catalogue Catalogue
	// Inventory knows the files of origins and mirrors. Nil: only canaries that the
	// catalogue names, and pointers, are looked at.
	Inventory Inventory
	// Scans renews inventories. Nil: a mirror comes back without.
	Scans Scans
	// Versions is told which pointers mirrors show. Nil: none are looked at.
	Versions Versions
	// Folder is where the history is kept; it must exist. Empty: in memory only.
	Folder string
	// Parallel is how many looks there may be at once; 0: 512.
	Parallel int
	// Lookup returns the addresses of a host of a family, "ip4" or "ip6". Nil: the
	// system's resolver.
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	// Dial connects to an address, with network "tcp4" or "tcp6". Nil: by TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Roots are who may vouch for certificates. Nil: whom the system trusts.
	Roots *x509.CertPool
	// Log receives what changes. Nil: discarded.
	Log *slog.Logger
	// Metrics is where metrics are registered. Nil: nowhere.
	Metrics prometheus.Registerer
}

// Catalogue is what operators say of mirrors.
type Catalogue interface {
	// Current returns the catalogue, which nobody changes.
	Current() *directorapi.Catalogue
	// Changed returns a channel that yields or is closed when there is another one
	// than Current returned before.
	Changed() <-chan struct{}
}

// File is one of the origin's, in its current version.
type File struct {
	Path   string // relative to the project
	Size   int64
	SHA256 [32]byte
	// HasSHA256 says whether the sum is known.
	HasSHA256 bool
}

// Inventory is what is known of files. It must not wait for anything.
type Inventory interface {
	// Origin returns a file as the origin has it.
	Origin(project, path string) (File, bool)
	// Sample returns payload that the mirror is believed to have, another one for each
	// n as far as there are any. It prefers short files.
	Sample(mirror, project string, n uint64) (File, bool)
	// Missing tells that the mirror was seen not to have a file, or to have another one
	// under its name.
	Missing(mirror, project, path string)
}

// Scans finds out what mirrors have.
type Scans interface {
	// Hasten asks for a scan soon; why is a word for the log. It must not wait.
	Hasten(mirror, project, why string)
	// Updated is when the last scan began that told the whole of what the mirror has,
	// zero if there was none.
	Updated(mirror, project string) time.Time
}

// Versions knows the versions of repositories.
type Versions interface {
	// Current returns the sum of the pointer that the origin shows. It must not wait.
	Current(project, repository string) (sum [32]byte, known bool)
	// Saw tells which pointer the mirror showed, at every way by which it works. The
	// zero sum: none, or not the same at all.
	Saw(mirror, project, repository string, sum [32]byte, at time.Time)
}

// Prober looks at mirrors. Make it with [New].
type Prober struct {
	opt Options

	mu    sync.Mutex
	state atomic.Pointer[State]
}

// New returns a Prober that knows what the history tells. It looks at nothing before Run.
func New(opt Options) (*Prober, error) {
	p := &Prober{opt: opt}
	p.state.Store(newState(time.Now(), nil, nil, make(chan struct{})))
	return p, nil
}

// Run looks until ctx ends. It is called once.
func (p *Prober) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// State is what is known now. Any goroutine may call it.
func (p *Prober) State() *State { return p.state.Load() }

// History returns what changed on a way, oldest first: at most the last 64 changes. Any
// goroutine may call it.
func (p *Prober) History(w Way) []Change { return nil }

// Change is one of a way.
type Change struct {
	At     time.Time
	Works  bool
	Why    Reason
	Detail string
}

// Reporter is who tells something.
type Reporter struct {
	// Name tells reporters apart.
	Name string
	// Weight is how much a report counts, more than 0 and at most 1, which is enough
	// for a look.
	Weight float64
	// LoadOf is the mirror whose load it may tell; empty: any's.
	LoadOf string
}

// Report takes what somebody saw of a mirror, or a mirror of itself. It does not wait.
// The error says what is wrong with the report, which has no effect then.
func (p *Prober) Report(by Reporter, r directorapi.Report) error { return nil }
