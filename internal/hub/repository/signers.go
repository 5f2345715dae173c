package repository

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"freshet/internal/durable"
	"freshet/internal/gvariant"
	"freshet/internal/ostree"
	"freshet/internal/sign"
)

// signersFile has a line for each key that signed the heads of all refs: the
// fingerprint and the id of the key that signs, or an ed25519 key. It saves Open from looking at
// every commit; without it, Open does.
const signersFile = ".signers"

// ErrCollection says that a repository cannot get another collection id.
var ErrCollection = errors.New("the collection id changed")

// checkCollection refuses a collection id that the commits are not bound to. The
// clients of a collection accept no other commits.
func (o *Options) checkCollection() error {
	if o.CollectionID == "" {
		return nil
	}
	repo, err := ostree.OpenRepo(os.DirFS(o.Dir))
	if err != nil {
		return nil //nolint:nilerr // it is new, or it is refused for that
	}
	bound := repo.CollectionID()
	if bound == o.CollectionID {
		return nil
	}
	heads, err := repo.ListRefs()
	if err != nil || len(heads) == 0 {
		return err
	}
	for _, ref := range sortedKeys(heads) {
		if bound != "" {
			break
		}
		if commit, err := repo.Commit(heads[ref]); err == nil {
			bound, _ = commit.Metadata.Str(ostree.KeyCollectionBinding)
		}
	}
	if bound == "" || bound == o.CollectionID {
		return nil
	}
	return fmt.Errorf("%w: it is to be %q, but commits and clients of the repository are bound to %q; "+
		"configure %q again, or publish under %q in a new repository", ErrCollection, o.CollectionID, bound, bound, o.CollectionID)
}

// signersLine is what signersFile holds for the signers.
func (o *Options) signersLine() string {
	if o.Signer == nil {
		return ""
	}
	var lines strings.Builder
	for _, key := range o.Signer.Keys() {
		fmt.Fprintf(&lines, "%s %s\n", key.Fingerprint, key.ID)
	}
	for _, key := range o.Ed25519.PublicKeys() {
		fmt.Fprintf(&lines, "%s ed25519\n", key)
	}
	return lines.String()
}

// signersKnown tells whether the heads are known to be signed with the keys.
func (r *Repository) signersKnown() bool {
	known, err := r.root.ReadFile(signersFile)
	return err == nil && string(known) == r.opt.signersLine()
}

// rememberSigners writes down that the heads are signed with the keys.
func (r *Repository) rememberSigners() (err error) {
	if r.signersKnown() {
		return nil
	}
	dir, err := durable.Open(r.opt.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Root.Close()) }()
	return dir.WriteFile(signersFile, []byte(r.opt.signersLine()), 0o644)
}

// signatures tells which signatures are made with the keys of a signer.
type signatures struct {
	verifier *sign.Verifier
	keys     []sign.Key
	ed25519  *sign.Ed25519
}

func newSignatures(opt *Options) (*signatures, error) {
	if opt.Signer == nil {
		return &signatures{}, nil
	}
	public, err := opt.Signer.PublicKeys()
	if err != nil {
		return nil, err
	}
	verifier, err := sign.NewVerifier(public)
	if err != nil {
		return nil, err
	}
	return &signatures{verifier, opt.Signer.Keys(), opt.Ed25519}, nil
}

// split tells whether all keys have signed data, and which signatures are those of
// others.
func (s *signatures) split(data []byte, all [][]byte) (complete bool, others [][]byte) {
	good := map[string]bool{}
	for _, signature := range all {
		if key, err := s.verifier.Verify(data, signature); err == nil {
			good[key.Fingerprint] = true
		} else {
			others = append(others, signature)
		}
	}
	return !slices.ContainsFunc(s.keys, func(key sign.Key) bool { return !good[key.Fingerprint] }), others
}

// complete tells whether a file with signatures has those of all keys. Where
// nothing is signed, no file is.
func (s *signatures) complete(data, file []byte) bool {
	detached, err := ostree.ParseDetached(file)
	if err != nil || s.verifier == nil {
		return false
	}
	complete, _ := s.split(data, ostree.GPGSignatures(detached))
	return complete && s.more(data, detached)
}

// more tells whether the ed25519 keys have signed as well.
func (s *signatures) more(data []byte, detached gvariant.Dict) bool {
	_, complete := s.ed25519.Merge(data, ostree.Ed25519Signatures(detached))
	return complete
}

// unsignedCommit is a published commit that keys have to sign.
type unsignedCommit struct {
	sum      ostree.Checksum
	data     []byte
	detached gvariant.Dict
	others   [][]byte // signatures of other keys
}

// signaturesOf reads a commit with its signatures. One that nobody can install,
// because it is missing or damaged, counts as signed.
func (p *publication) signaturesOf(sum ostree.Checksum, signers *signatures) (c unsignedCommit, complete bool) {
	c.sum = sum
	var err error
	if _, c.data, err = p.r.objects.CommitData(sum); err != nil {
		p.r.log.ErrorContext(p.ctx, "a commit cannot be signed anew", slog.String("commit", sum.String()), slog.Any("error", err))
		return c, true
	}
	// Signatures that cannot be read are made anew.
	if c.detached, err = p.r.objects.DetachedMeta(sum); err != nil {
		c.detached = gvariant.Dict{}
	}
	complete, c.others = signers.split(c.data, ostree.GPGSignatures(c.detached))
	return c, complete && signers.more(c.data, c.detached)
}

// signedHeads returns the commits that refs point at, those for other collections
// included, without those that this publication makes.
func (p *publication) signedHeads() ([]ostree.Checksum, error) {
	heads := map[ostree.Checksum]bool{}
	for _, sum := range p.r.index.Refs() {
		heads[sum] = true
	}
	collections, err := p.r.objects.ListMirrors()
	if err != nil {
		return nil, err
	}
	for _, collection := range collections {
		refs, err := p.r.objects.ListMirrorRefs(collection)
		if err != nil {
			return nil, err
		}
		for _, sum := range refs {
			heads[sum] = true
		}
	}
	for _, sum := range p.heads {
		delete(heads, sum)
	}
	return slices.SortedFunc(maps.Keys(heads), ostree.Checksum.Compare), nil
}
