package inspect

import (
	"errors"
	"io/fs"

	"freshet/internal/ostree"
)

// History is that of a ref, newest first.
type History struct {
	Ref      string  `json:"ref"`
	Versions []Entry `json:"versions"`

	// Next is the commit with which the history goes on beyond the limit; Pruned is
	// the one that is not there any more.
	Next   string `json:"next,omitempty"`
	Pruned string `json:"pruned,omitempty"`
}

// Entry is a version in a history.
type Entry struct {
	Version

	// Signatures is how many OpenPGP and ed25519 signatures the commit has, which are
	// not checked.
	Signatures int `json:"signatures"`
}

// Log returns up to limit versions of a ref, all when it is 0, beginning with from,
// or its head when that is zero.
func (r *Repository) Log(ref string, from ostree.Checksum, limit int) (*History, error) {
	if from.IsZero() {
		var err error
		if from, err = r.head(ref); err != nil {
			return nil, err
		}
	}
	h := &History{Ref: ref, Versions: []Entry{}}
	for c := from; !c.IsZero(); {
		if limit > 0 && len(h.Versions) == limit {
			h.Next = c.String()
			break
		}
		commit, _, v, err := r.describe(ref, c)
		if errors.Is(err, fs.ErrNotExist) && len(h.Versions) > 0 {
			h.Pruned = c.String()
			break
		}
		if err != nil {
			return nil, err
		}
		detached, err := r.objects.DetachedMeta(c)
		if err != nil {
			return nil, err
		}
		h.Versions = append(h.Versions, Entry{v, len(ostree.GPGSignatures(detached)) + len(ostree.Ed25519Signatures(detached))})
		c = commit.Parent
	}
	return h, nil
}
