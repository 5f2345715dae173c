// Package label says of the paths of a project what they are, in few words that are the same
// for all mirrors: release, repository, architecture and class. It knows them from the
// configuration, from the repositories of the generation that is served, and from the forms
// of paths; a request never brings a new word.
package label

import (
	"path"
	"slices"
	"strings"

	"freshet/internal/layout"
	"freshet/internal/mirror/kind"
	"freshet/internal/telemetry"
)

// Classes of paths.
const (
	Pointer  = "pointer"  // with it reading begins
	Metadata = "metadata" // what is reached from there
	Package  = "package"
	Source   = "source"
	Debug    = "debug"
	Image    = "image"
	Delta    = "delta"
	Object   = "object" // of OSTree, or by its hash
	Listing  = "listing"
	Own      = "own" // the mirror's own pages
)

// Project is what is known of a project. The zero value knows nothing but the forms of paths.
type Project struct {
	Format kind.Format
	// Releases and Architectures are those of the configuration.
	Releases, Architectures []string
	// Repositories are the folders of those that are served, "" for the root.
	Repositories []string

	places []known // the longest path first
}

// known is a repository.
type known struct {
	prefix              string
	release, repo, arch string
}

// maxRepositories is how many are told apart.
const maxRepositories = 4096

// New returns p with all that follows from its fields.
func New(p Project) *Project {
	for _, repository := range p.Repositories[:min(len(p.Repositories), maxRepositories)] {
		p.places = append(p.places, p.learn(strings.Trim(repository, "/")))
	}
	slices.SortFunc(p.places, func(a, b known) int { return len(b.prefix) - len(a.prefix) })
	return &p
}

// learn says what the folders of a repository mean.
func (p *Project) learn(prefix string) known {
	k := known{prefix: prefix}
	var rest []string
	for element := range strings.SplitSeq(prefix, "/") {
		switch {
		case element == "" || element == ".":
		case k.arch == "" && p.isArch(element):
			k.arch = element
		case k.release == "" && p.isRelease(element):
			k.release = element
		case !slices.Contains(plainWords[:], element):
			rest = append(rest, element)
		}
	}
	if p.Format == kind.Deb && k.release == "" && len(rest) > 0 {
		k.release, rest = rest[0], rest[1:] // dists/bookworm
	}
	k.repo = strings.Join(rest, "/")
	return k
}

// plainWords are elements that say nothing.
var plainWords = [...]string{"os", "linux", "dists", "repo", "repos", "pub", "repodata"} //nolint:gochecknoglobals // it is a constant

// Place says what a path of the project is.
func (p *Project) Place(name string) telemetry.Place {
	place := telemetry.Place{Class: p.class(name)}
	for i := range p.places {
		k := &p.places[i]
		if k.prefix == "" || name == k.prefix || strings.HasPrefix(name, k.prefix) && name[len(k.prefix)] == '/' {
			place.Release, place.Repo, place.Arch = k.release, k.repo, k.arch
			break
		}
	}
	if place.Release == "" && p.Format == kind.Deb && strings.HasPrefix(name, "pool/") {
		place.Release = "pool" // packages of all releases
	}
	if place.Arch == "" {
		place.Arch = p.archOf(name)
	}
	return place
}

// archOf is the architecture that a path names itself.
func (p *Project) archOf(name string) string {
	for element := range strings.SplitSeq(path.Dir(name), "/") {
		element = strings.TrimPrefix(element, "binary-")
		if p.isArch(element) {
			return element
		}
	}
	base := path.Base(name)
	for _, suffix := range [...]string{".rpm", ".deb", ".udeb", ".pkg.tar.zst", ".pkg.tar.xz", ".apk", ".iso"} {
		if stem, ok := strings.CutSuffix(base, suffix); ok {
			if at := strings.LastIndexAny(stem, "._-"); at >= 0 {
				// "x86_64" has the sign that may stand before it.
				if strings.HasSuffix(stem, "x86_64") {
					return "x86_64"
				}
				if arch := stem[at+1:]; p.isArch(arch) {
					return arch
				}
			}
		}
	}
	return ""
}

func (p *Project) isArch(word string) bool {
	return slices.Contains(architectures[:], word) || slices.Contains(p.Architectures, word) && len(word) <= 32
}

var architectures = [...]string{ //nolint:gochecknoglobals // it is a constant
	"x86_64", "amd64", "i386", "i486", "i586", "i686", "aarch64", "arm64", "armhf", "armel", "armv7", "armv7hl", "armv7h", "armv6h", "ppc64le", "ppc64el", "s390x", "riscv64",
	"loongarch64", "mips64el", "mipsel", "noarch", "all", "any", "src", "source",
}

func (p *Project) isRelease(word string) bool {
	if slices.Contains(p.Releases, word) {
		return true
	}
	if slices.Contains(releases[:], word) {
		return true
	}
	digits := strings.TrimPrefix(word, "v")
	if digits == "" || len(digits) > 8 {
		return false
	}
	return !strings.ContainsFunc(digits, func(r rune) bool { return (r < '0' || r > '9') && r != '.' }) && digits[0] != '.'
}

var releases = [...]string{"rawhide", "tumbleweed", "edge", "latest-stable", "stable", "testing", "unstable"} //nolint:gochecknoglobals // it is a constant

// class says what part a path plays.
func (p *Project) class(name string) string {
	base := path.Base(name)
	switch {
	case name == "" || strings.HasSuffix(name, "/"):
		return Listing
	case p.Format == kind.OSTree:
		return classOfOSTree(name)
	case strings.HasSuffix(base, ".drpm"):
		return Delta
	case strings.HasSuffix(base, ".src.rpm"), strings.HasSuffix(base, ".dsc"), strings.Contains(base, ".orig.tar."), strings.Contains(base, ".debian.tar."):
		return Source
	case strings.Contains(base, "-debuginfo-"), strings.Contains(base, "-debugsource-"), strings.Contains(base, "-dbgsym_"):
		return Debug
	}
	for _, ext := range [...]string{".rpm", ".deb", ".udeb", ".apk", ".pkg.tar.zst", ".pkg.tar.xz", ".pkg.tar.gz"} {
		if strings.HasSuffix(base, ext) {
			return Package
		}
	}
	for _, ext := range [...]string{".iso", ".img", ".img.xz", ".raw.xz", ".qcow2", ".vmdk", ".box", ".dmg", ".exe", ".msi", ".AppImage"} {
		if strings.HasSuffix(base, ext) {
			return Image
		}
	}
	switch layout.Tree(name).Class {
	case layout.Pointer:
		return Pointer
	case layout.Payload:
		return Package
	case layout.Index:
		if layout.PolicyOf("/" + name).Ruled() {
			return Metadata
		}
	}
	return telemetry.Other
}

func classOfOSTree(name string) string {
	switch {
	case strings.HasPrefix(name, "objects/"):
		return Object
	case strings.HasPrefix(name, "deltas/"):
		return Delta
	case layout.OSTree(name).Class == layout.Pointer:
		return Pointer
	}
	return Metadata
}
