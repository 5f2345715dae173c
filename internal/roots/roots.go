// Package roots reads the files that a repository begins with: which of them
// belong together, whether those at hand do, and what they list.
//
// Four things tell whether a file and its signature are of one publish, the
// best first: the signature is good by a key that is known; the two bytes that
// every OpenPGP signature shows of the digest it signs are those of the file,
// which needs no key and fails to notice one mismatch in 65,536; Release says
// what InRelease says; or nothing does, and the answer is [Unproven].
//
// Input is foreign: memory is bounded by [MaxSize] and the limits of the
// parsers, and nothing panics.
package roots

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"

	"freshet/internal/apt"
	"freshet/internal/layout"
	"freshet/internal/ostree"
	"freshet/internal/sign"
)

// MaxSize is the longest root file that is looked into. Flathub's summary has
// some 10 MB, the largest file lists of pacman 40 MB.
const MaxSize = 64 << 20

// The kinds of sets whose roots are known; see [layout.Set].
const (
	summary      = "summary"
	summaryIndex = "summary-index"
	repomd       = "repomd"
	release      = "release"
	pacman       = "pacman"
	apkIndex     = "apkindex"
)

// Group is a file of a set and the detached signature that goes with it, which
// is "" where the format has none. Both are paths as those given to
// [layout.PolicyOf].
type Group struct{ File, Signature string }

// Groups lists the root files of a set. The first group is the one without
// which the set is nothing; for apt it is InRelease, and the second takes its
// place where that does not exist. A set of an unknown kind has none.
func Groups(set layout.Set) []Group {
	at := func(name string) string { return set.Root + name }
	switch set.Kind {
	case summary:
		return []Group{{at("summary"), at("summary.sig")}}
	case summaryIndex:
		return []Group{{at("summary.idx"), ""}, {at("summary.idx.sig"), ""}}
	case repomd:
		return []Group{{at("repodata/repomd.xml"), at("repodata/repomd.xml.asc")}, {at("repodata/repomd.xml.key"), ""}}
	case release:
		return []Group{{at("InRelease"), ""}, {at("Release"), at("Release.gpg")}}
	case pacman:
		return []Group{{set.Root, set.Root + ".sig"}}
	case apkIndex:
		return []Group{{at("APKINDEX.tar.gz"), ""}}
	}
	return nil
}

// IsRoot reports whether the path is one of the root files of the set.
func IsRoot(set layout.Set, path string) bool {
	for _, g := range Groups(set) {
		if path == g.File || path == g.Signature {
			return true
		}
	}
	return false
}

// Wanted lists the root files to fetch together when those in asked are asked
// for: whole groups, and the first group of every set but apt's, where clients
// use one or the other.
func Wanted(set layout.Set, asked func(path string) bool) []string {
	var paths []string
	for i, g := range Groups(set) {
		if i > 0 || set.Kind == release {
			if !asked(g.File) && (g.Signature == "" || !asked(g.Signature)) {
				continue
			}
		}
		paths = append(paths, g.File)
		if g.Signature != "" {
			paths = append(paths, g.Signature)
		}
	}
	return paths
}

// Content is a file at hand.
type Content interface {
	io.ReaderAt
	Size() int64
}

// Files are the root files of a set by path. One that does not exist is not in
// it.
type Files map[string]Content

// ErrMismatch says that files are not of one publish: they may be when they are
// fetched again.
var ErrMismatch = errors.New("files do not belong together")

// ErrUnreadable says that a file is not in the format that its name promises.
// Whoever reads it in the middle of a publish may find that too, so the error
// wraps [ErrMismatch] as well.
var ErrUnreadable = errors.New("not in its format")

// ErrUnsigned says that there is a key and no signature.
var ErrUnsigned = errors.New("no signature")

// Proof says how well files are known to belong together.
type Proof uint8

const (
	// Unproven means that nothing speaks against it.
	Unproven Proof = iota
	// Likely means that the digests that the signatures show are those of the files.
	Likely
	// Signed means: by a key that is known.
	Signed
	// Single means that there is nothing that could not fit.
	Single
)

// Check says whether the files belong together. With a verifier, a root without
// a signature by one of its keys is refused: the error wraps [ErrUnsigned] or
// [sign.ErrBadSignature]. apk's signature is of another kind, and is not
// checked. The signature of a summary.idx is not among its roots; see
// [CheckIndex].
//
// A mismatch wraps [ErrMismatch], and so does a file that cannot be read: it may
// have been half written. The other errors are those of reading.
func Check(set layout.Set, files Files, keys *sign.Verifier) (Proof, error) {
	proof := Single
	for _, g := range Groups(set) {
		data, sig := files[g.File], files[g.Signature]
		var this Proof
		var err error
		switch {
		case data == nil && sig == nil:
			continue
		case data == nil:
			return Unproven, fmt.Errorf("%w: there is %s without %s", ErrMismatch, g.Signature, g.File)
		case data.Size() > MaxSize:
			return Unproven, fmt.Errorf("%s has %d bytes, more than %d", g.File, data.Size(), int64(MaxSize))
		case set.Kind == release && g.Signature == "":
			this, err = checkInline(data, keys)
		case g.Signature == "":
			if err := checkKey(set, data); err != nil {
				return Unproven, fmt.Errorf("%s: %w", g.File, err)
			}
			continue
		case sig == nil && keys != nil:
			err = ErrUnsigned
		case sig == nil:
			continue
		default:
			this, err = checkDetached(set.Kind, data, sig, keys)
		}
		if err != nil {
			return Unproven, fmt.Errorf("%s: %w", g.File, err)
		}
		proof = min(proof, this)
	}
	if set.Kind == release {
		if err := sameRelease(files[set.Root+"InRelease"], files[set.Root+"Release"]); err != nil {
			return Unproven, err
		}
	}
	return proof, nil
}

// read returns the whole content.
func read(c Content) ([]byte, error) {
	if c.Size() > MaxSize {
		return nil, fmt.Errorf("%d bytes are too many", c.Size())
	}
	data := make([]byte, c.Size())
	if _, err := c.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data, nil
}

// checkDetached compares a file with its signature.
func checkDetached(kind string, data, sig Content, keys *sign.Verifier) (Proof, error) {
	text, err := read(sig)
	if err != nil {
		return Unproven, err
	}
	var signatures []byte
	if kind == summary {
		signatures = gpgSignatures(text)
	} else {
		signatures, err = unarmored(text), Whole(text)
	}
	if err != nil {
		return Unproven, fmt.Errorf("its signature: %w", err)
	}
	return checkSignatures(data, signatures, keys)
}

// checkKey checks a key that is published beside a repository.
func checkKey(set layout.Set, data Content) error {
	if set.Kind != repomd {
		return nil
	}
	text, err := read(data)
	if err != nil {
		return err
	}
	return Whole(text)
}

// gpgSignatures returns the OpenPGP signatures in a summary.sig, one after the
// other. Other bytes than GVariant's give none.
func gpgSignatures(text []byte) []byte {
	dict, err := ostree.ParseDetached(text)
	if err != nil {
		return nil // of a kind that is not known here
	}
	return bytes.Join(ostree.GPGSignatures(dict), nil)
}

// CheckIndex compares a summary.idx with summaries/DIGEST.idx.sig; sig is nil
// if there is none.
func CheckIndex(index, sig Content, keys *sign.Verifier) (Proof, error) {
	switch {
	case sig != nil:
		return checkDetached(summary, index, sig, keys)
	case keys != nil:
		return Unproven, fmt.Errorf("summary.idx: %w", ErrUnsigned)
	}
	return Single, nil
}

// CheckFile compares a file with its OpenPGP signature, armored or binary. When sig is nil,
// the file may have it around itself.
func CheckFile(data, sig Content, keys *sign.Verifier) (Proof, error) {
	if sig != nil {
		return checkDetached("", data, sig, keys)
	}
	return checkInline(data, keys)
}

// checkInline checks an InRelease, which is whole in itself.
func checkInline(data Content, keys *sign.Verifier) (Proof, error) {
	text, err := read(data)
	if err != nil {
		return Unproven, err
	}
	block, _ := clearsign.Decode(text)
	if block == nil {
		if err := Whole(text); err != nil {
			return Unproven, err
		}
		if keys != nil {
			return Unproven, ErrUnsigned
		}
		return Single, nil
	}
	signatures, err := io.ReadAll(io.LimitReader(block.ArmoredSignature.Body, 1<<20))
	if err != nil {
		return Unproven, fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	proof, err := checkSignatures(bytes.NewReader(block.Bytes), signatures, keys)
	if proof == Unproven && err == nil {
		proof = Single
	}
	return proof, err
}

// sameRelease reports an InRelease and a Release of two publishes.
func sameRelease(inline, plain Content) error {
	if inline == nil || plain == nil {
		return nil
	}
	a, err := parseRelease(inline)
	if err != nil {
		return err
	}
	b, err := parseRelease(plain)
	if err != nil {
		return err
	}
	same := a.Date == b.Date && a.ValidUntil == b.ValidUntil && len(a.Files) == len(b.Files)
	for i := 0; same && i < len(a.Files); i++ {
		same = a.Files[i] == b.Files[i]
	}
	if !same {
		return fmt.Errorf("%w: Release lists other files than InRelease", ErrMismatch)
	}
	return nil
}

func parseRelease(c Content) (*apt.Release, error) {
	r, err := apt.ParseRelease(io.NewSectionReader(c, 0, c.Size()))
	if err != nil {
		return nil, fmt.Errorf("%w: %w: %w", ErrMismatch, ErrUnreadable, err)
	}
	return r, nil
}
