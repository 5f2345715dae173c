package kind

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"freshet/internal/closure"
	"freshet/internal/layout"
)

// Format is the format of a project's repositories.
type Format string

// The formats. Images are folders with lists of checksums; in a plain tree nothing is
// known of a file but what a listing says.
const (
	RPM    Format = "rpm"
	Deb    Format = "deb"
	Arch   Format = "arch"
	Alpine Format = "alpine"
	Images Format = "images"
	OSTree Format = "ostree"
	Plain  Format = "plain"
)

// Formats lists all formats.
func Formats() []Format { return []Format{RPM, Deb, Arch, Alpine, Images, OSTree, Plain} }

// Classify says what a path of a project is. Of images the lists of checksums are
// pointers, and with their signatures all that changes under its name; in a plain tree
// only what every ecosystem knows as a pointer does, since there may be repositories in it.
func (f Format) Classify(name string) layout.Kind {
	switch f {
	case OSTree:
		return layout.OSTree(name)
	case Images:
		base := path.Base(name)
		for _, end := range sumSignatures() {
			base = strings.TrimSuffix(base, end)
		}
		if isSumList(base) {
			return layout.Kind{Class: layout.Pointer}
		}
		return layout.Kind{Class: layout.Payload}
	case Plain:
		if k := layout.Tree(name); k.Class == layout.Pointer {
			return k
		}
		return layout.Kind{Class: layout.Payload}
	default:
		return layout.Tree(name)
	}
}

// Config says what is wanted of a project. Only Format is required. A [Kind] keeps it:
// it must not be changed afterwards.
type Config struct {
	Format Format
	// Repositories are patterns of paths below the upstream's root: of the folder that a
	// repository is in, or of its pointer. {release}, {arch} and {component} stand for
	// each of the values below, "*" for any characters. Of arch a pattern names the
	// pointer: "{component}/os/{arch}/{component}.db". Empty: what a listing of the tree
	// shows, and with it all that lies beside the repositories.
	Repositories []string
	// Releases, Architectures and Components are the wanted ones; none means all.
	// Architectures may have the name that any distribution uses: amd64 is x86_64.
	Releases, Architectures, Components []string
	// Debug, Source and ISO say that debug information, sources and images of disks are
	// wanted in trees of packages.
	Debug, Source, ISO bool
	// Include are patterns of paths, in which "*" stands for any characters, slashes too.
	// In a tree of images or a plain one only these are wanted; else they name what is
	// wanted beside the Repositories, which by default is nothing. Exclude is never
	// wanted, except what an index cannot be read without.
	Include, Exclude []string
	// Refs are patterns of the refs of OSTree that are wanted; none means all.
	Refs []string
	// HotSet is how many bytes of an OSTree repository's content are kept, those most
	// asked for; 0: all.
	HotSet int64
	// Keys are those that pointers must be signed with. Without any, it is only looked
	// whether signatures and files can belong together.
	Keys Keys
	// Probe names files besides the pointers that change when anything in the tree does,
	// and Stamps those that upstreams write anew with the time (lastsync).
	Probe, Stamps []string
}

// File is one of a project.
type File struct {
	// File has path, size, checksum, class and whether it may be missing.
	closure.File
	// ModTime is when it was changed, in whole seconds; zero if that is not told.
	ModTime time.Time
	// Link is the target of a symbolic link, as it is written; "" for a file.
	Link string
}

// Open opens a file of the tree. A file that is not there is [fs.ErrNotExist]. Names are
// relative to the root of the tree, clean, and stay inside it. What Stat says of size and
// time counts.
type Open func(ctx context.Context, name string) (fs.File, error)

// Tree is where a project is read: an upstream, a staging tree, a generation.
type Tree struct {
	Open Open
	// List lists the files and links of the whole tree, in any order. nil: that is not
	// possible.
	List func(ctx context.Context) iter.Seq2[File, error]
	// Prefetch is told of files that will be opened next, so that they can be got at
	// once; it may do nothing, and an error of it ends the walk. nil: nobody is told.
	Prefetch func(ctx context.Context, files []File) error
	// Popular are refs of OSTree, the one that is most asked for first; for hot sets.
	Popular []string
}

// Repository is one in the tree: what is checked and published as a whole.
type Repository struct {
	Format Format
	// Root is the folder that names of its files are relative to; "." is that of the
	// tree.
	Root string
	// Pointer is the path of the file in which readers begin, relative to the tree. It
	// names the repository.
	Pointer string
	// OtherLists are the paths of lists of images that differ from the pointer in the hash alone, and
	// of their signatures. They are known where the tree was listed.
	OtherLists []string
}

// Left counts what indexes name and the filters leave out.
type Left struct {
	Files int
	Bytes int64 // without files whose size is not told
}

func (l *Left) add(size int64) {
	if l == nil {
		return
	}
	l.Files++
	l.Bytes += max(size, 0)
}

// Kind is a project's format together with what is wanted of it. It may be used by
// several goroutines at once.
type Kind struct {
	config Config
	arches archSet
}

// New makes a kind of a configuration without [Config.Problems]; else the error has all of them in it.
func New(c Config) (*Kind, error) {
	var problems []error
	for _, p := range c.Problems() {
		problems = append(problems, p)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return &Kind{config: c, arches: newArchSet(c.Architectures)}, nil
}

// Problem is what is wrong with a setting of a [Config].
type Problem struct {
	// Setting is its key in a project's table ("repositories[0]").
	Setting string
	// Message says what is wrong, and what is wanted instead.
	Message string
}

func (p Problem) Error() string { return p.Setting + ": " + p.Message }

// Problems returns all that is wrong with the configuration.
func (c Config) Problems() []Problem {
	var problems []Problem
	add := func(setting, format string, args ...any) {
		problems = append(problems, Problem{Setting: setting, Message: fmt.Sprintf(format, args...)})
	}
	if !slices.Contains(Formats(), c.Format) {
		add("kind", "want one of %v, got %q", Formats(), c.Format)
	}
	for i, p := range c.Repositories {
		if err := checkPattern(c.Format, p); err != nil {
			add(fmt.Sprintf("repositories[%d]", i), "%q: %v", p, err)
		}
	}
	if c.Format == Plain && len(c.Repositories) > 0 {
		add("repositories", "a plain tree has none: say with include what is wanted of it")
	}
	files := func(setting string, names []string) {
		for i, name := range names {
			if !fs.ValidPath(name) || name == "." {
				add(fmt.Sprintf("%s[%d]", setting, i), "%q: want a path below the project's root, without a slash at either end", name)
			}
		}
	}
	files("probe", c.Probe)
	files("stamps", c.Stamps)
	if c.HotSet < 0 || c.HotSet > 0 && c.Format != OSTree {
		add("hot-set", "want a positive number of bytes, of a project of kind ostree")
	}
	return problems
}

func checkPattern(format Format, p string) error {
	plain := strings.NewReplacer("{release}", "r", "{arch}", "a", "{component}", "c").Replace(p)
	switch {
	case strings.ContainsAny(plain, "{}"):
		return errors.New("only {release}, {arch} and {component} stand for something")
	case !fs.ValidPath(plain):
		return errors.New("want a path below the project's root, without a slash at either end, and . for the root")
	case format == Arch && !strings.Contains(path.Base(plain), ".db"):
		return errors.New("of a project of kind arch, name the database: core/os/x86_64/core.db")
	}
	return nil
}

// Format is the one of the configuration.
func (k *Kind) Format() Format { return k.config.Format }
