package mirrorlist

import (
	"iter"
	"slices"
)

// Directory is what a snapshot tells of one directory. The zero value must not be
// asked.
type Directory struct {
	s  *Snapshot
	at int
}

// directory is one in memory. There are many: it is small and has one pointer.
type directory struct {
	name string
	// subpath is the length of the end of name that is the subpath, or, if
	// negative, one less than minus the index of another text in subpaths.
	subpath int32
	set     uint32
}

// mirrors is a set of mirrors, which many directories share.
type mirrors struct {
	global    []Host
	byCountry groups
	internet2 groups
	links     []link // by host
}

// link is a host, and below, in the lower half, which of its lists of URLs it has.
type link uint32

func newLink(h Host, list int) link { return link(h)<<16 | link(list) }

func (l link) host() Host { return Host(l >> 16) }

func (l link) list() int { return int(l & 0xffff) }

// groups are lists of hosts by country, one after the other.
type groups struct {
	hosts []Host
	ends  []group // by country
}

type group struct {
	country Country
	end     uint16
}

// of finds the hosts of a country.
func (g groups) of(c Country) []Host {
	at, ok := slices.BinarySearchFunc(g.ends, c, func(e group, c Country) int { return int(e.country) - int(c) })
	if !ok {
		return nil
	}
	return g.at(at)
}

func (g groups) at(i int) []Host {
	start := uint16(0)
	if i > 0 {
		start = g.ends[i-1].end
	}
	return g.hosts[start:g.ends[i].end:g.ends[i].end]
}

func (g groups) all() iter.Seq2[Country, []Host] {
	return func(yield func(Country, []Host) bool) {
		for i, e := range g.ends {
			if !yield(e.country, g.at(i)) {
				return
			}
		}
	}
}

// NumDirectories is the number of directories that mirrors have.
func (s *Snapshot) NumDirectories() int { return len(s.directories) }

// Directory finds a directory by its name, such as
// pub/fedora/linux/releases/44/Everything/x86_64/os.
func (s *Snapshot) Directory(name string) (Directory, bool) {
	at, ok := s.byName.find(name, func(i int) string { return s.directories[i].name })
	return Directory{s, at}, ok
}

// Directories yields all directories in the byte order of their names.
func (s *Snapshot) Directories() iter.Seq[Directory] {
	return func(yield func(Directory) bool) {
		for i := range s.directories {
			if !yield(Directory{s, i}) {
				return
			}
		}
	}
}

// Name is the whole name of the directory, without a slash at its ends.
func (d Directory) Name() string { return d.entry().name }

// Subpath is the name below the top directory of its category, which is what comes
// behind the base URL of a mirror. It may be empty.
func (d Directory) Subpath() string { return d.s.subpath(d.entry()) }

func (s *Snapshot) subpath(d *directory) string {
	if d.subpath < 0 {
		return s.subpaths[-1-d.subpath]
	}
	return d.name[len(d.name)-int(d.subpath):]
}

// Mirrors is the number of the directory's set of mirrors, less than
// Snapshot.NumMirrorSets: where it is the same for two directories, all that the methods
// below tell is the same.
func (d Directory) Mirrors() int { return int(d.entry().set) }

// NumMirrorSets is how many different sets of mirrors the directories have.
func (s *Snapshot) NumMirrorSets() int { return len(s.sets) }

// Global are the public hosts that have the directory, each once, in no particular
// order.
func (d Directory) Global() []Host { return d.mirrors().global }

// IsGlobal tells whether a host is among those of Global. Its cost is their number.
func (d Directory) IsGlobal(h Host) bool { return slices.Contains(d.mirrors().global, h) }

// Country are the public hosts in a country that have the directory, each once.
func (d Directory) Country(c Country) []Host { return d.mirrors().byCountry.of(c) }

// Countries yields all countries with hosts, each with those.
func (d Directory) Countries() iter.Seq2[Country, []Host] { return d.mirrors().byCountry.all() }

// NumHosts is the number of hosts that have the directory, private ones too.
func (d Directory) NumHosts() int { return len(d.mirrors().links) }

// URLs are the base URLs of a host for the directory in stored order. A host that is
// not known to have the directory is not ok.
func (d Directory) URLs(h Host) (urls []URL, ok bool) {
	links := d.mirrors().links
	at, _ := slices.BinarySearch(links, newLink(h, 0))
	if at == len(links) || links[at].host() != h {
		return nil, false
	}
	return d.s.hosts[h].lists[links[at].list()], true
}

// Hosts yields all hosts that have the directory, private ones too, each with its base
// URLs.
func (d Directory) Hosts() iter.Seq2[Host, []URL] {
	return func(yield func(Host, []URL) bool) {
		for _, l := range d.mirrors().links {
			if !yield(l.host(), d.s.hosts[l.host()].lists[l.list()]) {
				return
			}
		}
	}
}

func (d Directory) entry() *directory { return &d.s.directories[d.at] }

func (d Directory) mirrors() *mirrors { return &d.s.sets[d.entry().set] }

// Version is one of the states of a file that mirrors may have.
type Version struct {
	// Timestamp is in seconds of Unix time, and Size in bytes; 0 if not known.
	Timestamp, Size uint64
	// The checksums are as the file has them, in hexadecimal; "" if not known.
	MD5, SHA1, SHA256, SHA512 string
}

// fileDirectory is a directory with files of known content.
type fileDirectory struct {
	name  string
	files []file
}

// file is one file's versions.
type file struct {
	name     string
	versions []Version
}

// NumFiles is the number of files whose versions are known.
func (s *Snapshot) NumFiles() int {
	n := 0
	for _, d := range s.files {
		n += len(d.files)
	}
	return n
}

// Versions are the versions of a file in a directory, the newest first; none if
// nothing is known of it.
func (s *Snapshot) Versions(directory, file string) []Version {
	at, ok := s.filesByName.find(directory, func(i int) string { return s.files[i].name })
	if !ok {
		return nil
	}
	for _, f := range s.files[at].files {
		if f.name == file {
			return f.versions
		}
	}
	return nil
}

// Files yields the names of the files in a directory whose versions are known, in byte
// order, each with those.
func (s *Snapshot) Files(directory string) iter.Seq2[string, []Version] {
	return func(yield func(string, []Version) bool) {
		at, ok := s.filesByName.find(directory, func(i int) string { return s.files[i].name })
		if !ok {
			return
		}
		for _, f := range s.files[at].files {
			if !yield(f.name, f.versions) {
				return
			}
		}
	}
}

// FileDirectories yields the names of the directories with files whose versions are
// known, in byte order. They need not be among Directories.
func (s *Snapshot) FileDirectories() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range s.files {
			if !yield(s.files[i].name) {
				return
			}
		}
	}
}
