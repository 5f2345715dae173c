package repository

import (
	"errors"
	"io/fs"

	"freshet/internal/flatpak"
	"freshet/internal/ostree"
)

// TokenNeed is what a commit says of the tokens that its download needs.
type TokenNeed struct {
	// Type is the kind of token; it counts when HasType.
	Type    int32
	HasType bool
	// IDs are the applications and runtimes that it may be published as.
	IDs []string
	// Catalogue says that the commit is no application and no runtime, and names no
	// kind of token: a branch of the catalogue. Anybody may have it.
	Catalogue bool
}

// TokenNeed reads what the commit of a file says, if the file is one by which a
// download of a commit begins: the commit itself or the superblock of a static
// delta that leads to it. For other files found is false. A file of a commit that
// is not there is fs.ErrNotExist.
func (r *Repository) TokenNeed(path string) (need TokenNeed, found bool, err error) {
	sum, found := beginsCommit(path)
	if !found {
		return need, false, nil
	}
	commit, err := r.objects.Commit(sum)
	if errors.Is(err, fs.ErrNotExist) {
		return need, true, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if err != nil {
		return need, true, err
	}
	if value, _ := commit.Metadata.Get(keyTokenType); value.Is("i") {
		need.Type, need.HasType = int32(value.Int64()), true
	}
	refs, _ := commit.Metadata.Strings(ostree.KeyRefBinding)
	for _, ref := range refs {
		if parsed, err := flatpak.ParseRef(ref); err == nil && parsed.Kind != flatpak.Screenshots {
			need.IDs = append(need.IDs, parsed.ID)
		}
	}
	// Applications of before bindings have at least their metadata.
	need.Catalogue = len(need.IDs) == 0 && !need.HasType && !commit.Metadata.Has(keyMetadata)
	return need, true, nil
}

// Flatpak's keys of commit metadata.
const (
	keyTokenType = "xa.token-type" // i, little-endian
	keyMetadata  = "xa.metadata"   // s, of applications and runtimes
)

// beginsCommit returns the commit whose download begins with a file, or which can
// be put together from it: parts of static deltas hold all that they bring.
func beginsCommit(path string) (ostree.Checksum, bool) {
	if name, err := ostree.ParseObjectPath(path); err == nil {
		return name.Checksum, name.Type == ostree.TypeCommit
	}
	if file, err := ostree.ParseDeltaPath(path); err == nil {
		return file.Delta.To, true
	}
	return ostree.Checksum{}, false
}
