package flatpak

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

// The keys of commit metadata that flatpak defines, besides those of ostree.
const (
	keyRef              = "xa.ref"                // s: deprecated twin of the ref binding
	keyFromCommit       = "xa.from_commit"        // s: the commit this one was made of
	keyMetadata         = "xa.metadata"           // s: the key file at /metadata
	keyInstalledSize    = "xa.installed-size"     // t, big-endian
	keyDownloadSize     = "xa.download-size"      // t, big-endian
	keyTokenType        = "xa.token-type"         // i
	keySubsets          = "xa.subsets"            // as
	keyExtraDataSources = "xa.extra-data-sources" // a(ayttays): name, sizes (big-endian), SHA-256, URL
)

var (
	// ErrBinding says that a commit was made for another ref than the one that is to
	// point at it.
	ErrBinding = errors.New("commit is bound to other refs")

	// ErrMetadataDiffers says that the metadata in the commit, which clients decide
	// by, is not that of the tree, which they run.
	ErrMetadataDiffers = errors.New("xa.metadata differs from the file /metadata")
)

// Rewrite says how the commit of a build becomes one of a repository.
type Rewrite struct {
	// Ref is the ref that is going to point at the new commit.
	Ref string

	// From is the checksum of the source commit and Parent the commit that Ref points
	// at now, zero for none.
	From, Parent ostree.Checksum

	// CollectionID is that of the repository; the commit is also bound to
	// ExtraCollectionIDs.
	CollectionID       string
	ExtraCollectionIDs []string

	// DownloadSize is the size of all files of the tree as stored, in bytes.
	DownloadSize uint64

	// Timestamp replaces that of the source commit; nil keeps it.
	Timestamp *uint64

	// EndOfLife is the reason why the ref is no longer maintained; nil keeps what the
	// source says, and an empty one removes it.
	EndOfLife *string

	// EndOfLifeRebase names the replacement of ids that end; when there is any, the
	// source's own is removed.
	EndOfLifeRebase []Rebase

	// TokenType is the kind of token that a download needs; nil keeps what the source
	// says.
	TokenType *int32

	// Subsets are the subsets the ref belongs to; nil keeps what the source says, and
	// an empty slice removes it.
	Subsets []string
}

// Rebase names the id that replaces another one and all that begin with it and a
// period.
type Rebase struct{ Old, New string }

// RewriteCommit makes a new commit of the tree of another one, as flatpak
// build-commit-from does: the same metadata in the same order. The source is not
// changed.
func RewriteCommit(source *ostree.Commit, opt Rewrite) (*ostree.Commit, error) {
	if err := ostree.ValidateRef(opt.Ref); err != nil {
		return nil, fmt.Errorf("rewrite commit %s: %w", opt.From, err)
	}
	m := opt.bindings()
	replaced := opt.replaced()
	for key, value := range source.Metadata.All() {
		if !slices.Contains(replaced, key) {
			m.Set(key, value)
		}
	}
	if opt.EndOfLife != nil && *opt.EndOfLife != "" {
		m.Set(ostree.KeyEndOfLife, gvariant.String(*opt.EndOfLife))
	}
	if rebased, ok, err := opt.rebase(); err != nil {
		return nil, fmt.Errorf("rewrite commit %s: %w", opt.From, err)
	} else if ok {
		m.Set(ostree.KeyEndOfLifeRebase, gvariant.String(rebased))
	}
	if opt.TokenType != nil && *opt.TokenType >= 0 {
		m.Set(keyTokenType, gvariant.Int32(*opt.TokenType))
	}
	if len(opt.Subsets) > 0 {
		m.Set(keySubsets, gvariant.Strings(opt.Subsets))
	}
	made := &ostree.Commit{
		Metadata:  m,
		Parent:    opt.Parent,
		Subject:   source.Subject,
		Body:      source.Body,
		Timestamp: source.Timestamp,
		Tree:      source.Tree,
		TreeMeta:  source.TreeMeta,
	}
	if opt.Timestamp != nil {
		made.Timestamp = *opt.Timestamp
	}
	return made, nil
}

// bindings is what the new commit says of itself before all else.
func (opt *Rewrite) bindings() gvariant.Dict {
	main := opt.CollectionID
	var collections []string
	if main != "" {
		collections = append(collections, main)
	}
	for _, id := range opt.ExtraCollectionIDs {
		if main == "" {
			main = id
		}
		if id != opt.CollectionID {
			collections = append(collections, id)
		}
	}
	slices.Sort(collections)
	var m gvariant.Dict
	m.Set(ostree.KeyCollectionBinding, gvariant.String(main))
	if len(collections) > 0 {
		pairs := gvariant.ArrayBuilder{Elem: "(ss)"}
		for _, id := range collections {
			pairs.AppendTuple(gvariant.String(id), gvariant.String(opt.Ref))
		}
		m.Set(ostree.KeyCollectionRefsBinding, pairs.Value())
	}
	m.Set(ostree.KeyRefBinding, gvariant.Strings([]string{opt.Ref}))
	m.Set(keyRef, gvariant.String(opt.Ref))
	m.Set(keyFromCommit, gvariant.String(opt.From.String()))
	m.Set(keyDownloadSize, gvariant.Uint64BE(opt.DownloadSize))
	return m
}

// replaced returns the keys that are not taken over from the source.
func (opt *Rewrite) replaced() []string {
	keys := []string{
		keyRef, keyFromCommit, keyDownloadSize,
		ostree.KeyCollectionBinding, ostree.KeyCollectionRefsBinding, ostree.KeyRefBinding,
	}
	if opt.EndOfLife != nil {
		keys = append(keys, ostree.KeyEndOfLife)
	}
	if len(opt.EndOfLifeRebase) > 0 {
		keys = append(keys, ostree.KeyEndOfLifeRebase)
	}
	if opt.TokenType != nil && *opt.TokenType >= 0 {
		keys = append(keys, keyTokenType)
	}
	if opt.Subsets != nil {
		keys = append(keys, keySubsets)
	}
	return keys
}

// rebase returns the ref that replaces this one, if there is one.
func (opt *Rewrite) rebase() (ref string, ok bool, err error) {
	for _, rebase := range opt.EndOfLifeRebase {
		if err := errors.Join(CheckID(rebase.Old), CheckID(rebase.New)); err != nil {
			return "", false, fmt.Errorf("end-of-life rebase %s=%s: %w", rebase.Old, rebase.New, err)
		}
	}
	parsed, err := ParseRef(opt.Ref)
	if err != nil {
		if len(opt.EndOfLifeRebase) == 0 {
			return "", false, nil
		}
		return "", false, err
	}
	for _, rebase := range opt.EndOfLifeRebase {
		if hasIDPrefix(parsed.ID, rebase.Old) {
			parsed.ID = rebase.New + strings.TrimPrefix(parsed.ID, rebase.Old)
			return parsed.String(), true, nil
		}
	}
	return "", false, nil
}

// CheckBinding tells whether a commit may be what the ref points at: clients
// refuse commits that do not say so.
func CheckBinding(commit *ostree.Commit, ref string) error {
	bound, ok := commit.Metadata.Strings(ostree.KeyRefBinding)
	if !ok {
		if old, ok := commit.Metadata.Str(keyRef); ok {
			bound = []string{old}
		}
	}
	if !slices.Contains(bound, ref) {
		return fmt.Errorf("%w: %q, not %s", ErrBinding, bound, ref)
	}
	return nil
}

// CheckMetadata tells whether the metadata in a commit is that of its tree; file
// is the content of /metadata.
func CheckMetadata(commit *ostree.Commit, file []byte) error {
	inCommit, ok := commit.Metadata.Str(keyMetadata)
	if !ok {
		return fmt.Errorf("%w: the commit has none", ErrMetadataDiffers)
	}
	if inCommit != string(file) {
		return ErrMetadataDiffers
	}
	return nil
}
