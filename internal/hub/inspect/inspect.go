// Package inspect shows what is in an OSTree repository, on a disk or behind a
// URL: its refs, the history of one, what differs between two versions, and
// static deltas. It reads the files that clients read and changes nothing, so a
// hub may run or not, and the repository may be another's.
//
// Of a repository whose folders can be listed, refs are those of refs/heads; else
// those of its summaries, whose signatures are not checked. Objects are
// verified by their names. All JSON is in lower case, sizes are bytes, commits 64
// hexadecimal digits.
package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"freshet/internal/flatpak"
	"freshet/internal/ostree"
)

// Repository is a repository that is looked at. It may be used by several
// goroutines at once if its file system may.
type Repository struct {
	objects *ostree.Repo
	files   fs.FS
	listed  bool // folders can be listed
}

// Open opens the repository with its root in files. Unless files implements
// [fs.ReadDirFS], its folders are not listed.
func Open(files fs.FS) (*Repository, error) {
	objects, err := ostree.OpenRepo(files)
	if err != nil {
		return nil, err
	}
	_, listed := files.(fs.ReadDirFS)
	return &Repository{objects: objects, files: files, listed: listed}, nil
}

// ErrNoCommit says that a text names no commit of a ref.
var ErrNoCommit = errors.New("no such commit")

// head returns the commit of a ref.
func (r *Repository) head(ref string) (ostree.Checksum, error) {
	head, err := r.objects.ResolveRef(ref)
	switch {
	case r.listed && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EISDIR)): // a folder: the beginning of refs
		return ostree.Checksum{}, noRef(ref)
	case err == nil || r.listed || errors.Is(err, ostree.ErrName):
		return head, err
	}
	// Not every server has the folder refs.
	refs, summaryErr := r.summaryRefs()
	if summaryErr != nil {
		return ostree.Checksum{}, errors.Join(err, summaryErr)
	}
	for _, known := range refs {
		if known.Ref == ref {
			return ostree.ParseChecksum(known.Commit)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = noRef(ref)
	}
	return ostree.Checksum{}, err
}

// noRef says that a repository has no such ref.
func noRef(ref string) error {
	return &noRefError{ref}
}

type noRefError struct{ ref string }

func (e *noRefError) Error() string {
	return "there is no ref " + e.ref + `: "freshet hub refs" lists them`
}

func (*noRefError) Is(target error) bool { return target == fs.ErrNotExist }

// minAbbreviation is the least of a commit by which it is found.
const minAbbreviation = 4

// Resolve returns the commit that text names in the history of a ref: "" or the
// ref itself is its head, "^" the commit before, "^^" that before it, and the
// first digits of a commit that one. A whole checksum is taken as it is. Otherwise
// the error wraps [ErrNoCommit].
func (r *Repository) Resolve(ref, text string) (ostree.Checksum, error) {
	if c, err := ostree.ParseChecksum(text); err == nil {
		return c, nil
	}
	head, err := r.head(ref)
	if err != nil || text == "" || text == ref {
		return head, err
	}
	if back := len(text); strings.Count(text, "^") == back {
		return r.back(ref, head, back)
	}
	if len(text) < minAbbreviation || strings.Trim(text, "0123456789abcdef") != "" {
		return ostree.Checksum{}, fmt.Errorf("%s: %w: %q: want the first digits of a commit, four or more, or ^ for the one before", ref, ErrNoCommit, text)
	}
	for c := head; !c.IsZero(); {
		if strings.HasPrefix(c.String(), text) {
			return c, nil
		}
		commit, err := r.objects.Commit(c)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return ostree.Checksum{}, err
		}
		c = commit.Parent
	}
	return ostree.Checksum{}, fmt.Errorf("%s: %w: its history has none that begins with %s", ref, ErrNoCommit, text)
}

// back goes back in history.
func (r *Repository) back(ref string, c ostree.Checksum, steps int) (ostree.Checksum, error) {
	for range steps {
		commit, err := r.objects.Commit(c)
		if err != nil {
			return ostree.Checksum{}, fmt.Errorf("%s: %w", ref, err)
		}
		if c = commit.Parent; c.IsZero() {
			return ostree.Checksum{}, fmt.Errorf("%s: %w: its history is shorter", ref, ErrNoCommit)
		}
	}
	return c, nil
}

// Version is a commit as one version of a ref. Times and sizes are as the commit
// says; sizes are 0 when it says none, as only those of Flatpak do.
type Version struct {
	Commit string    `json:"commit"`
	Parent string    `json:"parent,omitempty"`
	Time   time.Time `json:"time"`

	Subject string `json:"subject,omitempty"`
	Body    string `json:"body,omitempty"`

	Installed uint64 `json:"installed,omitempty"` // bytes on the user's disk
	Download  uint64 `json:"download,omitempty"`  // bytes of a whole download without static deltas

	EndOfLife       string   `json:"end-of-life,omitempty"`
	EndOfLifeRebase string   `json:"end-of-life-rebase,omitempty"`
	TokenType       *int32   `json:"token-type,omitempty"`
	Subsets         []string `json:"subsets,omitempty"`
}

func version(info *flatpak.CommitInfo) Version {
	v := Version{
		Commit: info.Checksum.String(), Time: timeOf(info.Timestamp), Installed: info.InstalledSize, Download: info.DownloadSize,
		EndOfLife: info.EndOfLife, EndOfLifeRebase: info.EndOfLifeRebase, Subsets: info.Subsets,
	}
	if info.HasTokenType {
		v.TokenType = &info.TokenType
	}
	return v
}

// describe reads a commit as a version of a ref.
func (r *Repository) describe(ref string, c ostree.Checksum) (*ostree.Commit, flatpak.CommitInfo, Version, error) {
	commit, err := r.objects.Commit(c)
	if err != nil {
		return nil, flatpak.CommitInfo{}, Version{}, fmt.Errorf("%s: %w", ref, err)
	}
	info := flatpak.Describe(ref, c, commit)
	v := version(&info)
	v.Subject, v.Body = commit.Subject, commit.Body
	if !commit.Parent.IsZero() {
		v.Parent = commit.Parent.String()
	}
	return commit, info, v, nil
}

// timeOf is the time of a commit, whatever it claims: JSON has no years beyond
// 9999.
func timeOf(seconds uint64) time.Time {
	const most = 253402300799
	return time.Unix(int64(min(seconds, most)), 0).UTC()
}
