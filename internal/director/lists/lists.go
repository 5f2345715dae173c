// Package lists answers who asks for a list of mirrors, a metalink or a mirror, as
// MirrorManager's mirrorlist-server does: the same parameters, the same choice, the
// same bytes. An answer is made of [Data], which never changes, and of a [Request],
// which has the time and the randomness as well: the same two make the same answer.
//
//	target  → query            which parameters there are          query.go
//	        → target           which directory and file are meant  resolve.go
//	        → choice           which mirrors, in which order       choose.go, order.go
//	        → Answer           status, fields, body                answer.go
//
// # How mirrors are chosen
//
// In this order, each group in an order of its own by chance:
//
//  1. mirrors that prefer a netblock that the client is in, the longest first
//  2. mirrors that prefer the client's autonomous system
//  3. mirrors in the countries that were asked for, if any were
//  4. mirrors in the client's country
//  5. mirrors on the client's continent
//  6. if these are fewer than [Options.Minimum], all public mirrors
//
// Only mirrors that have the directory are named, and each of them once. Private
// ones are in the first two groups only. Who asks for countries gets those of the
// third group, or the others on the same continents, and nothing else, unless
// there are none at all. In groups 3 to 6 a mirror with twice the bandwidth is
// twice as likely to be the next.
package lists

import (
	"net/netip"
	"strings"
	"time"

	"freshet/internal/geoip"
	"freshet/internal/metalink"
	"freshet/internal/mirrorlist"
)

// Sources are what answers are made of. Of all but Snapshot the zero value does, and
// knows nothing.
type Sources struct {
	Snapshot   *mirrorlist.Snapshot
	Countries  *geoip.Countries
	Netblocks  *geoip.Netblocks
	Continents *geoip.Continents
}

// Options say how answers are made.
type Options struct {
	// Minimum is how many mirrors near the client make those of the whole world
	// needless.
	Minimum int
	// PreferHTTPS gives a client who gets one URL of each mirror that with https.
	// Otherwise it is the first that the snapshot has.
	PreferHTTPS bool
	// Strict keeps what is odd with mirrorlist-server and has an effect on good
	// requests: parameters are never decoded; of X-Forwarded-For, the addresses have
	// to be separated by a comma and a space; and that a mirror is for clients in some
	// countries only matters just for countries that were asked for and the whole
	// world.
	Strict bool
}

// Data is sources and options, made ready for requests. It does not change, and is
// safe for concurrent use.
type Data struct {
	Sources
	opt Options

	available []byte // lines that name all repositories
	inXML     []byte // the same, fit for a comment
}

// NewData makes sources ready. They must not be changed any more.
func NewData(from Sources, opt Options) *Data {
	d := &Data{Sources: from, opt: opt}
	d.Continents = d.Continents.Redirect(d.Snapshot.ContinentRedirects())
	d.available = append(d.available, "# following repositories are available:\n"...)
	for key := range d.Snapshot.Repositories() {
		if repo, arch, _ := strings.Cut(key, "+"); strings.Count(key, "+") == 1 {
			d.available = append(append(append(d.available, "# repo="...), repo...), "&arch="...)
			d.available = append(append(d.available, arch...), '\n')
		}
	}
	d.inXML = append(metalink.AppendComment(nil, string(d.available)), '\n') // an empty line is the end of it there
	return d
}

// Request is what is asked, by whom, and when.
type Request struct {
	// Target is the target of the request as it was sent: the path and, behind a
	// question mark, the parameters.
	Target string
	// Forwarded is the first X-Forwarded-For field, and HasForwarded that there is
	// one.
	Forwarded    string
	HasForwarded bool
	// Peer is the address that the request came from, not valid if it has none.
	Peer netip.Addr
	// Now is the time.
	Now time.Time
	// Seed is all the chance there is.
	Seed uint64
}

// Reason is the word for why there is no list.
type Reason string

// Why there is no list.
const (
	UnknownEndpoint  Reason = "unknown_endpoint"   // the path ends neither in /metalink nor in /mirrorlist
	MissingParameter Reason = "missing_parameter"  // neither a path nor repository and architecture
	UnknownPath      Reason = "unknown_path"       // there is no such directory
	RepoDisabled     Reason = "repo_disabled"      // the repository is switched off
	UnknownRepo      Reason = "unknown_repo"       // no such repository for this architecture
	NoDirectory      Reason = "no_directory"       // no mirror is known to have the repository
	BadAddress       Reason = "bad_client_address" // the client's address cannot be read
	NoMetalink       Reason = "no_metalink"        // nothing is known of the file's content
	NoMirror         Reason = "no_mirror"          // nowhere to redirect to
)

// Step is by which rule the best mirror was found.
type Step uint8

// The steps, best first.
const (
	ByNetblock Step = iota
	ByASN
	ByRequest // of a country
	ByCountry
	ByContinent
	Everywhere
	Nowhere // no mirror was found
	NumSteps
)

// String is the word for the step in metrics and logs.
func (s Step) String() string {
	return [NumSteps]string{"netblock", "asn", "request", "country", "continent", "global", "none"}[s]
}
