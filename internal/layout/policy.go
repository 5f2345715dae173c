package layout

import (
	"math"
	"strings"
	"time"
)

// Forever is a lifetime without end.
const Forever = time.Duration(math.MaxInt64)

// Ecosystem is the repository format that a path belongs to.
type Ecosystem uint8

// The ecosystems told apart by path. EcoOther is everything that no rule knows;
// its caching is left to what the origin says.
const (
	EcoOther Ecosystem = iota
	EcoOSTree
	EcoRPM
	EcoApt
	EcoPacman
	EcoApk
	EcoMedia
)

var ecosystemNames = [...]string{"other", "ostree", "rpm", "apt", "pacman", "apk", "media"}

func (e Ecosystem) String() string {
	if int(e) < len(ecosystemNames) {
		return ecosystemNames[e]
	}
	return "unknown"
}

// Policy is how a cache in front of a repository treats one path. The zero
// Policy leaves everything to HTTP.
type Policy struct {
	Ecosystem Ecosystem
	// Class is what the file is to the repository. It is meaningful only when
	// Ecosystem is not EcoOther.
	Class Class
	// Immutable says that the name binds the bytes, by digest or by custom:
	// a lifetime sent by the origin does not matter. Without it the origin may
	// shorten Fresh, never lengthen it.
	Immutable bool
	// Pass says that the answer differs per client: not stored, not shared.
	Pass bool
	// Fresh is how long a stored answer is used without asking. 0 with
	// EcoOther means that HTTP decides.
	Fresh time.Duration
	// Followed takes the place of Fresh while the publisher's change
	// announcements are applied as they come. 0: no difference.
	Followed time.Duration
	// Revalidate is how long after Fresh the stored answer may still be used
	// while a new one is asked for (stale-while-revalidate, RFC 5861 §3).
	Revalidate time.Duration
	// OnError is how long after Fresh the stored answer may be used because
	// the origin is away or fails (stale-if-error, RFC 5861 §4).
	OnError time.Duration
	// Negative is how long "there is no such file" (404, 410) is remembered.
	Negative time.Duration
	// AbsentOnError is how long after Negative it may still be told because the
	// origin is away or fails: not 0 for files that clients ask for and do
	// without.
	AbsentOnError time.Duration
	// Digest is what the name tells about the content.
	Digest Digest
	// Content is, for a file object of OSTree, the digest of what it holds. Its
	// bytes are not bound: they may be compressed one way or another.
	Content Digest
	// IsListed says that Digest is not from the name but from a file that lists
	// this one: it binds the bytes for the cache, and not for clients.
	IsListed bool
	// Set names the files that change together with this one.
	Set Set
}

// Listed is the policy of a file whose digest another file tells: under that
// digest it never changes, and is no part of a set any more.
func (p Policy) Listed(d Digest) Policy {
	listed := addressed(p.Ecosystem, Index, d)
	listed.IsListed = true
	return listed
}

// IsHashed reports whether the name has the content's address, be it one not
// worth checking.
func (p Policy) IsHashed() bool { return p.Immutable && p.Fresh >= year }

// Ruled reports whether a rule of an ecosystem applies.
func (p Policy) Ruled() bool { return p.Ecosystem != EcoOther }

// DigestKind is a hash function that names carry.
type DigestKind uint8

// The digests worth checking. Names made with MD5 or SHA-1 carry none.
const (
	NoDigest DigestKind = iota
	SHA256
	SHA512
	// SHA256Gunzip is the SHA-256 of the content after gunzip.
	SHA256Gunzip
)

// Digest is the content address that a name carries. Hex is lower case and a
// part of the path, except that OSTree splits it: the full value is
// Prefix+Hex.
type Digest struct {
	Kind   DigestKind
	Prefix string
	Hex    string
}

// Value is the digest in lower-case hexadecimal.
func (d Digest) Value() string { return d.Prefix + d.Hex }

// Set identifies files that belong to one generation of an index: a client
// that reads several of them must not see them from different generations.
// Sets are comparable; the zero Set is no set. Both strings are parts of the
// path given to [PolicyOf].
type Set struct {
	// Kind is one word: "summary", "summary-index", "repomd", "release",
	// "pacman" or "apkindex".
	Kind string
	// Root is the path up to the folder that the set lives in, with its slash
	// at the end; for pacman it is the path of the database, since one folder
	// may hold several.
	Root string
}

const (
	second = time.Second
	minute = time.Minute
	hour   = time.Hour
	day    = 24 * time.Hour
	year   = 365 * day

	// defaultNegative is how long a missing file is remembered when the rule
	// says nothing else.
	defaultNegative = 5 * second
	// racing is that of metadata, and of what is named in it: while something is
	// published, a file that is missing may be there within moments.
	racing = 2 * second
)

// MaxPath is the longest path, in bytes, that is looked at as one of a
// repository: whoever keeps something for each set keeps short names.
const MaxPath = 1024

// PolicyOf returns the policy of a URL path. The path is clean: it begins
// with a slash and has no empty, "." or ".." elements. The repository may lie
// below any prefix; its format is told from the shape of the path alone.
// No rule applies to a path longer than [MaxPath]. PolicyOf does not allocate.
func PolicyOf(path string) Policy {
	if len(path) == 0 || len(path) > MaxPath || path[0] != '/' || strings.HasSuffix(path, "/") {
		return Policy{Negative: defaultNegative}
	}
	for _, rule := range [...]func(split) (Policy, bool){ostreePolicy, rpmPolicy, aptPolicy, pacmanPolicy, apkPolicy, commonPolicy} {
		if p, ok := rule(splitPath(path)); ok {
			if isOptional(path) {
				p.AbsentOnError = day
			}
			if p.Negative == 0 {
				p.Negative = racing
				if p.Class == Payload {
					p.Negative = defaultNegative
				}
			}
			return p
		}
	}
	return Policy{Negative: defaultNegative}
}

// isOptional reports whether clients ask for the file of a rule without
// knowing that it exists, and go on when it does not.
func isOptional(path string) bool {
	for _, end := range [...]string{
		".commitmeta", "/superblock", "/summary.idx", ".sig", ".sizes2", ".asc", "/repomd.xml.key", "/InRelease", "/Release.gpg",
	} {
		if strings.HasSuffix(path, end) {
			return true
		}
	}
	return strings.Contains(path, "/delta-indexes/")
}

// ClientCacheControl is the Cache-Control value for the clients of a cache
// that applies p, or "" where the origin's own stands. It never tells the
// lifetime the cache itself uses: what a cache holds can be purged, what a
// client holds cannot.
func (p Policy) ClientCacheControl() string {
	switch {
	case !p.Ruled() || p.Pass:
		return ""
	case p.IsListed:
		return "public, max-age=30"
	case p.Immutable && p.Fresh >= year:
		return "public, max-age=31536000, immutable"
	case p.Immutable:
		return "public, max-age=86400"
	default:
		return "public, max-age=30"
	}
}

// split is a path with its last elements at hand.
type split struct {
	path   string
	dir    string // up to and with the last slash
	base   string // last element
	parent string // element before base
}

func splitPath(path string) split {
	i := strings.LastIndexByte(path, '/')
	s := split{path: path, dir: path[:i+1], base: path[i+1:]}
	s.parent, _ = lastElem(s.dir)
	return s
}

// lastElem returns the last element of a folder path that ends in a slash,
// and the folder it is in, again with its slash. "/" has no element.
func lastElem(dir string) (elem, rest string) {
	if len(dir) < 2 {
		return "", dir
	}
	dir = dir[:len(dir)-1]
	i := strings.LastIndexByte(dir, '/')
	return dir[i+1:], dir[:i+1]
}

// below reports whether the path has the folder name among its elements, and
// returns the path up to and with that folder's slash.
func (s split) below(folder string) (root string, ok bool) {
	for i := 0; i < len(s.dir)-1; {
		rest := s.dir[i+1:]
		j := strings.IndexByte(rest, '/')
		if j < 0 {
			break
		}
		if rest[:j] == folder {
			return s.dir[:i+1+j+1], true
		}
		i += j + 1
	}
	return "", false
}

func isHex(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) > 0
}

// pointer is what the rules of root files have in common.
func pointer(eco Ecosystem, fresh time.Duration, set Set) Policy {
	return Policy{
		Ecosystem: eco, Class: Pointer, Fresh: fresh, Followed: hour,
		Revalidate: minute, OnError: day, Set: set,
	}
}

// addressed is what the rules of files named by their content have in common.
func addressed(eco Ecosystem, class Class, d Digest) Policy {
	return Policy{
		Ecosystem: eco, Class: class, Immutable: true, Fresh: year,
		OnError: Forever, Negative: racing, Digest: d,
	}
}

// byCustom is what the rules of packages have in common: the name does not
// prove the bytes, but who replaces them under the same name breaks clients.
func byCustom(eco Ecosystem, fresh time.Duration) Policy {
	return Policy{Ecosystem: eco, Class: Payload, Immutable: true, Fresh: fresh, OnError: Forever}
}
