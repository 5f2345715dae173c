package kind

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"time"

	"freshet/internal/alpm"
	"freshet/internal/apkindex"
	"freshet/internal/apt"
	"freshet/internal/checksums"
	"freshet/internal/closure"
	"freshet/internal/layout"
	"freshet/internal/ostree"
	"freshet/internal/roots"
	"freshet/internal/rpmmd"
	"freshet/internal/sign"
	"freshet/internal/unpack"
)

var (
	// ErrRollback says that a version is older than the one before it.
	ErrRollback = errors.New("older than what is here")
	// ErrExpired says that a repository says of itself that it is not to be believed any
	// more (Valid-Until).
	ErrExpired = errors.New("not valid any more")
)

// Version is one of a repository: what its pointer is and says.
type Version struct {
	// Pointer names the repository, as in [Repository].
	Pointer string `json:"pointer"`
	// SHA256 is that of the pointer, in lower-case hex.
	SHA256 string `json:"sha256"`
	// Mark is what only grows from version to version, and MarkOf says what it is:
	// "revision", "timestamp", "date", "summary" or "mtime". Of all but a revision it is in
	// seconds since 1970. 0: there is none.
	Mark   int64  `json:"mark,omitempty"`
	MarkOf string `json:"mark_of,omitempty"`
	// Name is how people call the version: a revision or a date, as it is written.
	Name string `json:"name,omitempty"`
	// ValidUntil is when it ends, zero: never.
	ValidUntil time.Time `json:"valid_until,omitzero"`
	// Proof says how well pointer and signature belong together: "signed" by a key that is
	// known, "likely" the same publish, "unproven", or "single" where nothing is signed.
	Proof string `json:"proof"`
}

// Follows returns nil if a mirror that has the version before may go on to this one, else
// an error that wraps [ErrRollback]. The zero Version comes before every other.
func (v Version) Follows(before Version) error {
	if v.SHA256 == before.SHA256 || v.MarkOf != before.MarkOf || v.Mark == 0 || v.Mark >= before.Mark {
		return nil
	}
	return fmt.Errorf("%s: %w: its %s is %d, and %d here", v.Pointer, ErrRollback, v.MarkOf, v.Mark, before.Mark)
}

// Valid returns nil as long as the version may be published, then an error that wraps
// [ErrExpired].
func (v Version) Valid(now time.Time) error {
	if v.ValidUntil.IsZero() || now.Before(v.ValidUntil) {
		return nil
	}
	return fmt.Errorf("%s: %w: it was until %s", v.Pointer, ErrExpired, v.ValidUntil.UTC().Format(time.RFC3339))
}

// Version reads the pointer of a repository with the files that are replaced together
// with it, and checks form and signatures. With keys, all that clients may begin with must
// be signed by one of them. Whether the version may follow the one that is here, and is
// still valid, is up to the caller.
func (k *Kind) Version(ctx context.Context, open Open, r Repository) (Version, error) {
	p := pointer{kind: k, ctx: ctx, open: open, repository: r, files: make(roots.Files)}
	defer p.close()
	v, err := p.version()
	if err != nil {
		return Version{}, err
	}
	return v, nil
}

// pointer is one that is being looked at.
type pointer struct {
	kind       *Kind
	ctx        context.Context //nolint:containedctx // it lives as long as one call
	open       Open
	repository Repository
	files      roots.Files // by path with a slash before it
	opened     []*content
}

func (p *pointer) close() {
	for _, c := range p.opened {
		_ = c.Close()
	}
}

// get opens a file. One that is not there and may be missing is nil.
func (p *pointer) get(name string, optional bool) (*content, error) {
	c, err := openContent(p.ctx, p.open, name, roots.MaxSize)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // so it is said above
	}
	if err != nil {
		return nil, err
	}
	p.opened = append(p.opened, c)
	p.files["/"+name] = c
	return c, nil
}

func (p *pointer) version() (Version, error) {
	r := p.repository
	v := Version{Pointer: r.Pointer, MarkOf: "mtime"}
	main, err := p.get(r.Pointer, false)
	if err != nil {
		return v, err
	}
	if v.SHA256, err = sumOf(p.ctx, main); err != nil {
		return v, fmt.Errorf("%s: %w", r.Pointer, err)
	}
	if !main.modTime.IsZero() {
		v.Mark = max(main.modTime.Unix(), 0)
	}
	proof, err := p.proof(main)
	if err != nil {
		return v, err
	}
	v.Proof = proofName(proof)
	switch r.Format {
	case RPM:
		err = v.repomd(main)
	case Deb:
		err = v.release(p.set(), p.files, main)
	case OSTree:
		err = v.summary(main)
	case Arch, Alpine, Images, Plain: // nothing in it tells
	}
	if err != nil {
		return v, fmt.Errorf("%s: %w", r.Pointer, err)
	}
	return v, nil
}

// set are the files that are replaced together with the pointer.
func (p *pointer) set() layout.Set {
	r := p.repository
	dir := "/" + path.Dir(r.Pointer) + "/"
	if path.Dir(r.Pointer) == "." {
		dir = "/"
	}
	switch r.Format {
	case RPM:
		root := "/" + r.Root + "/"
		if r.Root == "." {
			root = "/"
		}
		return layout.Set{Kind: "repomd", Root: root}
	case Deb:
		return layout.Set{Kind: "release", Root: dir}
	case Arch:
		return layout.Set{Kind: "pacman", Root: "/" + r.Pointer}
	case OSTree:
		return layout.Set{Kind: "summary", Root: dir}
	case Alpine, Images, Plain:
	}
	return layout.Set{}
}

// proof checks the signatures of the pointer.
func (p *pointer) proof(main *content) (roots.Proof, error) {
	switch p.repository.Format {
	case Alpine:
		return p.apk(main)
	case Images:
		return p.sums(main)
	case Plain:
		return roots.Single, nil
	case RPM, Deb, Arch, OSTree:
	}
	set := p.set()
	for _, g := range roots.Groups(set) {
		for _, name := range [...]string{g.File, g.Signature} {
			if name == "" || p.files[name] != nil {
				continue
			}
			if _, err := p.get(name[1:], true); err != nil {
				return roots.Unproven, err
			}
		}
	}
	if p.repository.Format == OSTree {
		if err := p.detached("summary.sig", "summary.idx.sig"); err != nil {
			return roots.Unproven, err
		}
	}
	proof, err := roots.Check(set, p.files, p.kind.config.Keys.OpenPGP)
	if err != nil || p.repository.Format != OSTree {
		return proof, err
	}
	index, err := p.summaryIndex()
	return min(proof, index), err
}

// detached looks whether signatures of OSTree, beside the pointer, are all there.
func (p *pointer) detached(names ...string) error {
	for _, name := range names {
		name = path.Join(path.Dir(p.repository.Pointer), name)
		c := p.files["/"+name]
		if c == nil {
			sig, err := p.get(name, true)
			if err != nil {
				return err
			}
			if sig == nil {
				continue
			}
			c = sig
		}
		data, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, err := ostree.ParseDetached(data); err != nil || len(data) == 0 {
			return closure.Disagree(name, "%s is cut off, or damaged", name)
		}
	}
	return nil
}

// summaryIndex checks what newer clients of Flatpak begin with.
func (p *pointer) summaryIndex() (roots.Proof, error) {
	dir := path.Dir(p.repository.Pointer)
	index, err := p.get(path.Join(dir, "summary.idx"), true)
	if err != nil || index == nil {
		return roots.Single, err
	}
	sum, err := sumOf(p.ctx, index)
	if err != nil {
		return roots.Unproven, err
	}
	digest, err := ostree.ParseChecksum(sum)
	if err != nil {
		return roots.Unproven, err
	}
	signature := ostree.SummaryIndexSignaturePath(digest)
	if err := p.detached(signature); err != nil {
		return roots.Unproven, err
	}
	sig := p.files["/"+path.Join(dir, signature)]
	return roots.CheckIndex(index, sig, p.kind.config.Keys.OpenPGP)
}

// apk checks the signature that an index of Alpine has in itself.
func (p *pointer) apk(main *content) (roots.Proof, error) {
	keys := p.kind.config.Keys.APK
	if keys.Len() == 0 {
		return roots.Single, nil
	}
	_, signed, err := keys.Verify(unpack.Limit(main.reader()))
	switch {
	case err == nil:
		return roots.Signed, nil
	case !signed && errors.Is(err, apkindex.ErrBadSignature):
		return roots.Unproven, fmt.Errorf("%s: %w", p.repository.Pointer, roots.ErrUnsigned)
	}
	return roots.Unproven, fmt.Errorf("%s: %w", p.repository.Pointer, err)
}

func proofName(p roots.Proof) string {
	switch p {
	case roots.Signed:
		return "signed"
	case roots.Likely:
		return "likely"
	case roots.Single:
		return "single"
	case roots.Unproven:
	}
	return "unproven"
}

// repomd reads what a repomd.xml says of its place in time: a revision is what whoever
// made it liked, and is believed as far as it is a number; else the youngest of its files
// counts.
func (v *Version) repomd(main *content) error {
	r, err := rpmmd.ParseRepomd(main.reader())
	if err != nil {
		return err
	}
	v.Name = r.Revision
	if n, err := strconv.ParseInt(r.Revision, 10, 64); err == nil && n > 0 {
		v.Mark, v.MarkOf = n, "revision"
		return nil
	}
	var youngest int64
	for _, d := range r.Data {
		youngest = max(youngest, d.Timestamp)
	}
	if youngest > 0 {
		v.Mark, v.MarkOf = youngest, "timestamp"
	}
	return nil
}

// release reads what a Release says of its place in time.
func (v *Version) release(set layout.Set, files roots.Files, main *content) error {
	r, err := apt.ParseRelease(main.reader())
	if err != nil {
		return err
	}
	v.Name = r.Date
	if date, ok := apt.ParseTime(r.Date); ok {
		v.Mark, v.MarkOf = date.Unix(), "date"
	}
	listing, err := roots.List(set, files)
	if err != nil {
		return err
	}
	v.ValidUntil = listing.ValidUntil
	return nil
}

// summary reads what a summary says of its place in time.
func (v *Version) summary(main *content) error {
	text, err := io.ReadAll(main.reader())
	if err != nil {
		return err
	}
	s, err := ostree.ParseSummary(text)
	if err != nil {
		return err
	}
	if at, ok := s.Metadata.Get("ostree.summary.last-modified"); ok && at.Is("t") {
		if n := at.Uint64BE(); n > 0 && n < 1<<62 {
			v.Mark, v.MarkOf = int64(n), "summary"
			v.Name = time.Unix(v.Mark, 0).UTC().Format(time.RFC3339)
		}
	}
	return nil
}

// sumOf returns the SHA-256 of a file in hex.
func sumOf(ctx context.Context, c *content) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, c.reader()); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Reason is the one word for a failure, as it stands in reports, logs and metrics:
// "rollback", "wrong", "expired", "unsigned", "bad-signature", "no-listing", "unreadable",
// "inconsistent", "absent"; "error" for any other.
func Reason(err error) string {
	for _, c := range [...]struct {
		word string
		of   []error
	}{
		{"rollback", []error{ErrRollback}},
		{"wrong", []error{ErrWrong}},
		{"expired", []error{ErrExpired}},
		{"unsigned", []error{roots.ErrUnsigned}},
		{"bad-signature", []error{sign.ErrBadSignature, apkindex.ErrBadSignature}},
		{"no-listing", []error{ErrNoListing}},
		{"unreadable", []error{
			roots.ErrUnreadable, apt.ErrMalformed, rpmmd.ErrMalformed, alpm.ErrMalformed, apkindex.ErrMalformed, apkindex.ErrUnsupported,
			checksums.ErrMalformed, ostree.ErrMalformed, ostree.ErrTooLarge, ostree.ErrUnsupported, errTooLong,
		}},
		{"inconsistent", []error{closure.ErrInconsistent, roots.ErrMismatch}},
		{"absent", []error{fs.ErrNotExist}},
	} {
		for _, target := range c.of {
			if errors.Is(err, target) {
				return c.word
			}
		}
	}
	if _, ok := errors.AsType[unpack.FormatError](err); ok {
		return "unreadable"
	}
	return "error"
}
