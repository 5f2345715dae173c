package roots

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"freshet/internal/apt"
	"freshet/internal/layout"
	"freshet/internal/ostree"
	"freshet/internal/rpmmd"
)

// Listing is what the root files of a set lead to.
type Listing struct {
	// Members are the files listed with their digests, by what stays the same
	// from publish to publish: the path where names do, else the kind of file.
	Members map[string]Member
	// ValidUntil is when the listing is not to be believed any more, zero if
	// never.
	ValidUntil time.Time
}

// Member is a file that a root lists.
type Member struct {
	// Path is where it is, as in [Group]. It may lie outside of the set's root
	// only as far as the root says so.
	Path string
	// Digest is that of the file; of no kind if only weak ones are told.
	Digest layout.Digest
	// Twin is another path with the same bytes, named by them; "" if there is
	// none.
	Twin string
	// Delta says what else leads to it, from the digest that the member had
	// before: the path to fetch, "" if that is not how clients do it.
	Delta func(before layout.Digest) string
}

// List reads what the root files list. Roots that list nothing, and those that
// cannot be read, give an empty listing; the latter with an error that wraps
// [ErrMismatch].
func List(set layout.Set, files Files) (*Listing, error) {
	var l Listing
	var err error
	switch set.Kind {
	case release:
		err = l.release(set, files)
	case repomd:
		if f := files[set.Root+"repodata/repomd.xml"]; f != nil {
			err = l.repomd(set, f)
		}
	case summaryIndex:
		if f := files[set.Root+"summary.idx"]; f != nil {
			err = l.index(set, f)
		}
	}
	if err != nil {
		if !errors.Is(err, ErrMismatch) {
			err = fmt.Errorf("%w: %w: %w", ErrMismatch, ErrUnreadable, err)
		}
		return &Listing{}, err
	}
	return &l, nil
}

func (l *Listing) release(set layout.Set, files Files) error {
	f := files[set.Root+"InRelease"]
	if f == nil {
		f = files[set.Root+"Release"]
	}
	if f == nil {
		return nil
	}
	r, err := parseRelease(f)
	if err != nil {
		return err
	}
	l.ValidUntil = validUntil(r)
	l.Members = make(map[string]Member, len(r.Files))
	for _, file := range r.Files {
		m := Member{Path: set.Root + file.Path}
		var folder string
		switch {
		case file.SHA256 != "":
			m.Digest, folder = layout.Digest{Kind: layout.SHA256, Hex: file.SHA256}, "SHA256"
		case file.SHA512 != "":
			m.Digest, folder = layout.Digest{Kind: layout.SHA512, Hex: file.SHA512}, "SHA512"
		default:
			continue
		}
		if r.ByHash {
			m.Twin = path.Dir(m.Path) + "/by-hash/" + folder + "/" + m.Digest.Hex
		}
		l.Members[m.Path] = m
	}
	return nil
}

// validUntil is when a Release is not to be believed any more. A time that cannot be read
// is in the past, as apt takes it for an error.
func validUntil(r *apt.Release) time.Time {
	if r.ValidUntil == "" {
		return time.Time{}
	}
	t, ok := apt.ParseTime(r.ValidUntil)
	if !ok {
		return time.Unix(1, 0)
	}
	return t
}

func (l *Listing) repomd(set layout.Set, f Content) error {
	r, err := rpmmd.ParseRepomd(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		return err
	}
	l.Members = make(map[string]Member, len(r.Data))
	for _, d := range r.Data {
		if d.Base != "" || !isBelow(d.Href) {
			continue // on another server, or nowhere
		}
		m := Member{Path: set.Root + d.Href}
		switch {
		case d.Checksum.Type == "sha256" && len(d.Checksum.Value) == 64:
			m.Digest = layout.Digest{Kind: layout.SHA256, Hex: d.Checksum.Value}
		case d.Checksum.Type == "sha512" && len(d.Checksum.Value) == 128:
			m.Digest = layout.Digest{Kind: layout.SHA512, Hex: d.Checksum.Value}
		}
		l.Members[d.Type] = m
	}
	return nil
}

// isBelow reports whether a relative URL is a plain path that goes down.
func isBelow(href string) bool {
	return href != "" && href[0] != '/' && path.Clean(href) == href && !strings.HasPrefix(href, "../") && !strings.ContainsAny(href, "%?#:\\\x00")
}

// IndexSignature is the name under which [Listing.Members] has the signature of
// a summary.idx.
const IndexSignature = "signature"

func (l *Listing) index(set layout.Set, f Content) error {
	text, err := read(f)
	if err != nil {
		return err
	}
	x, err := ostree.ParseSummaryIndex(text)
	if err != nil {
		return err
	}
	l.Members = make(map[string]Member, len(x.Subsummaries)+1)
	l.Members[IndexSignature] = Member{Path: set.Root + ostree.SummaryIndexSignaturePath(ostree.ChecksumOf(text))}
	for _, s := range x.Subsummaries {
		to := s.Checksum
		l.Members["subsummary "+s.Name] = Member{
			Path:   set.Root + ostree.SubsummaryPath(to),
			Digest: layout.Digest{Kind: layout.SHA256Gunzip, Hex: to.String()},
			Delta: func(before layout.Digest) string {
				from, err := ostree.ParseChecksum(before.Value())
				if err != nil || before.Kind != layout.SHA256Gunzip || from == to {
					return ""
				}
				return set.Root + ostree.SubsummaryDeltaPath(from, to)
			},
		}
	}
	return nil
}
