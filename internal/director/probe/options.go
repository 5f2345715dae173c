package probe

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
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
	// Hasten asks for a scan soon; why is told to operators. It must not wait, and
	// returns false if there is nothing to scan.
	Hasten(mirror, project, why string) bool
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

// defaultParallel is enough for all ways of a few hundred mirrors to be silent at once.
const defaultParallel = 512

// withDefaults returns o with what is left out.
func (o Options) withDefaults() Options {
	if o.Inventory == nil {
		o.Inventory = nothing{}
	}
	if o.Scans == nil {
		o.Scans = nothing{}
	}
	if o.Versions == nil {
		o.Versions = nothing{}
	}
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	if o.Lookup == nil {
		o.Lookup = net.DefaultResolver.LookupNetIP
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	return o
}

// nothing knows of no file, no scan and no version.
type nothing struct{}

func (nothing) Origin(string, string) (f File, ok bool)         { return f, false }
func (nothing) Sample(string, string, uint64) (f File, ok bool) { return f, false }
func (nothing) Missing(string, string, string)                  {}
func (nothing) Hasten(string, string, string) bool              { return false }
func (nothing) Updated(string, string) (t time.Time)            { return t }
func (nothing) Current(string, string) (s [32]byte, ok bool)    { return s, false }

func (nothing) Saw(string, string, string, [32]byte, time.Time) {}
