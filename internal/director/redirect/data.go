package redirect

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Network is what is known of files and mirrors. Its state does not change, and its
// methods may be called by many goroutines at once; they neither wait nor make
// garbage.
type Network interface {
	// File is the origin's current version of a file, by the number of its project
	// in the list given to [NewData] and its path there. It reports false if it is
	// not known.
	File(project int, path string) (File, bool)
	// Choose appends to q.Picks the mirrors for a request, the best first, and with
	// q.Explain also those that are excluded; it says in q where the client is.
	Choose(q *Query)
}

// Project is a tree of files.
type Project struct {
	Name string
	// Path is where the tree begins, "/fedora/". No path is within another's.
	Path string
	// Origins are the URLs of the whole tree, ending in slashes, the one to use
	// first first.
	Origins []string
}

// File is a version of a file.
type File struct {
	Size      int64     // negative: not known
	ModTime   time.Time // zero: not known
	SHA256    [32]byte
	HasSHA256 bool
	// Mutable is whether the name may stay when the content changes.
	Mutable bool
}

// Mirror is what answers say of one.
type Mirror struct {
	Name, Site string
	Country    string // ISO 3166-1, upper case; "": not known
	// Count counts what it was given; nil: nobody counts.
	Count *Count
}

// Count is what a mirror was given.
type Count struct {
	// Redirects is how many clients were sent to it, Bytes how long the files are
	// that they were sent for.
	Redirects, Bytes atomic.Int64
}

// Query is a request for mirrors.
type Query struct {
	Project int
	// Path is that of a file, or of a folder and ends with a slash; "" is the root.
	Path   string
	Client netip.Addr
	// HTTPS allows no URL without it, HTTP none with it.
	HTTPS, HTTP bool
	Explain     bool
	// Most is how many mirrors are wanted, if that is enough; 0: all.
	Most int
	Now  time.Time

	// Country and ASN are where the client is, Picks the mirrors.
	Country string
	ASN     uint32
	Picks   []Pick
}

// IsFolder reports whether the query is for a folder.
func (q *Query) IsFolder() bool { return q.Path == "" || strings.HasSuffix(q.Path, "/") }

// Pick is a mirror and what came out for it.
type Pick struct {
	Mirror *Mirror
	// Root is the URL of the project there, ending in a slash.
	Root string
	// Tier is how near it counts as, a word; Score its weight among those of its
	// tier.
	Tier  string
	Score float64
	// Kilometres is the distance; negative: not known.
	Kilometres float64
	// Excluded is the word for why it is not to be used, "" for one that is; Detail
	// is what else there is to say, Since when that began if it is known.
	Excluded, Detail string
	Since            time.Time
}

// Data is what answers are made of. It does not change, and is safe for concurrent
// use.
type Data struct {
	network  Network
	projects []Project
	byPath   []int // numbers of projects, sorted by their paths
}

// NewData makes answers of projects possible. What it is given must not be changed any
// more.
func NewData(projects []Project, network Network) *Data {
	d := &Data{network: network, projects: projects}
	for i := range projects {
		d.byPath = append(d.byPath, i)
	}
	slices.SortFunc(d.byPath, func(a, b int) int { return strings.Compare(projects[a].Path, projects[b].Path) })
	return d
}

// project finds the project that a clean path is in, and the path there.
func (d *Data) project(path string) (number int, rest string, ok bool) {
	i, found := slices.BinarySearchFunc(d.byPath, path, func(n int, path string) int { return strings.Compare(d.projects[n].Path, path) })
	if !found {
		i-- // the last one that sorts before
	}
	if i >= 0 {
		if rest, ok = strings.CutPrefix(path, d.projects[d.byPath[i]].Path); ok {
			return d.byPath[i], rest, true
		}
	}
	for n := range d.projects { // its path without the slash behind it
		if p := d.projects[n].Path; len(p) == len(path)+1 && strings.HasPrefix(p, path) {
			return n, "", true
		}
	}
	return 0, "", false
}

// Has reports whether the path of a target is in a project. A target that is in none
// is not for this package.
func (d *Data) Has(target string) bool {
	raw, _, _ := strings.Cut(target, "?")
	path, ok := cleanPath(raw)
	if !ok {
		return len(d.projects) > 0
	}
	_, _, ok = d.project(path)
	return ok
}
