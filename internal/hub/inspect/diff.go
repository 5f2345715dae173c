package inspect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"freshet/internal/flatpak"
	"freshet/internal/ostree"
)

// Diff is what differs between two versions of a ref. Without a version before, From is
// nil and all is new.
type Diff struct {
	Ref  string   `json:"ref"`
	From *Version `json:"from,omitempty"`
	To   Version  `json:"to"`

	// Gained and Lost are permissions, as the options of flatpak that grant them.
	Gained flatpak.Permissions `json:"gained"`
	Lost   flatpak.Permissions `json:"lost"`

	// Settings are what else the metadata says differently: the runtime, the SDK
	// and the command.
	Settings []Setting `json:"settings"`

	Files Totals       `json:"files"`
	Paths []PathChange `json:"paths"`

	// Update is what a client fetches that has the version before.
	Update Update `json:"update"`
}

// Setting is a line of metadata that changed.
type Setting struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

// Totals sums up paths other than directories. Bytes are those of their content.
type Totals struct {
	Added        int   `json:"added"`
	Removed      int   `json:"removed"`
	Changed      int   `json:"changed"`
	AddedBytes   int64 `json:"added-bytes"`
	RemovedBytes int64 `json:"removed-bytes"`
	ChangedFrom  int64 `json:"changed-from-bytes"` // before, of those that changed
	ChangedTo    int64 `json:"changed-to-bytes"`
}

// The ways in which a path can differ.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// PathChange is a path that differs.
type PathChange struct {
	Path   string `json:"path"`
	Change string `json:"change"`
	// Kind is "file", "symlink" or "directory", of the newer version unless it is
	// removed.
	Kind string `json:"kind"`
	// From and To are the bytes of the content before and after.
	From int64 `json:"from,omitempty"`
	To   int64 `json:"to,omitempty"`
}

// Update is the cost of an update.
type Update struct {
	Objects int   `json:"objects"` // that are new, each a request
	Bytes   int64 `json:"bytes"`   // of them, as stored

	// Delta is the static delta from the one version to the other, if there is one.
	Delta *DeltaCost `json:"delta,omitempty"`
}

// DeltaCost is what a client fetches by a static delta.
type DeltaCost struct {
	Requests int   `json:"requests"`
	Bytes    int64 `json:"bytes"`
}

// Diff compares two versions of a ref; from may be zero, for nothing. It reads
// the directories of both, the heads of files that differ, and tells nothing of what
// is in them.
func (r *Repository) Diff(ctx context.Context, ref string, from, to ostree.Checksum) (*Diff, error) {
	d := &Diff{Ref: ref, Gained: flatpak.Permissions{}, Lost: flatpak.Permissions{}, Settings: []Setting{}, Paths: []PathChange{}}
	after, info, v, err := r.describe(ref, to)
	if err != nil {
		return nil, err
	}
	d.To = v
	var before ostree.Commit
	var old flatpak.CommitInfo
	if !from.IsZero() {
		commit, info, v, err := r.describe(ref, from)
		if err != nil {
			return nil, err
		}
		before, old, d.From = *commit, info, &v
	}
	if err := d.compareMetadata(old.Metadata, info.Metadata); err != nil {
		return nil, err
	}
	err = ostree.DiffTrees(r.objects, before.Root(), after.Root(), func(c ostree.Change) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		return r.addPath(d, &c)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	if err := r.addUpdate(ctx, d, from, to); err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	return d, nil
}

// compareMetadata compares permissions and settings. What is no metadata of an
// application or runtime has none.
func (d *Diff) compareMetadata(before, after string) error {
	was, err := flatpak.ParsePermissions(before)
	if err != nil {
		return err
	}
	is, err := flatpak.ParsePermissions(after)
	if err != nil {
		return err
	}
	d.Gained, d.Lost = append(d.Gained, is.Without(was)...), append(d.Lost, was.Without(is)...)
	old, _ := flatpak.ParseMetadata(before) // the zero Metadata when there is none
	now, _ := flatpak.ParseMetadata(after)
	for _, s := range []Setting{{"runtime", old.Runtime, now.Runtime}, {"sdk", old.SDK, now.SDK}, {"command", old.Command, now.Command}} {
		if s.From != s.To {
			d.Settings = append(d.Settings, s)
		}
	}
	return nil
}

func (r *Repository) addPath(d *Diff, c *ostree.Change) error {
	p := PathChange{Path: c.Path, Change: Changed}
	switch {
	case c.Added():
		p.Change = Added
	case c.Removed():
		p.Change = Removed
	}
	var err error
	if p.From, p.Kind, err = r.sizeOf(c.Old); err != nil {
		return err
	}
	if !c.Removed() {
		if p.To, p.Kind, err = r.sizeOf(c.New); err != nil {
			return err
		}
	}
	d.Paths = append(d.Paths, p)
	if c.Old.IsDir || c.New.IsDir {
		return nil
	}
	switch p.Change {
	case Added:
		d.Files.Added++
		d.Files.AddedBytes += p.To
	case Removed:
		d.Files.Removed++
		d.Files.RemovedBytes += p.From
	default:
		d.Files.Changed++
		d.Files.ChangedFrom += p.From
		d.Files.ChangedTo += p.To
	}
	return nil
}

// sizeOf returns the bytes and the kind of what a path names.
func (r *Repository) sizeOf(e ostree.PathEntry) (int64, string, error) {
	if e.Name == "" || e.IsDir {
		return 0, "directory", nil
	}
	info, err := r.objects.StatFile(e.File)
	if err != nil {
		return 0, "", err
	}
	if info.Header.IsSymlink() {
		return 0, "symlink", nil
	}
	return int64(info.Size), "file", nil
}

// addUpdate counts what is to be fetched.
func (r *Repository) addUpdate(ctx context.Context, d *Diff, from, to ostree.Checksum) error {
	there := map[ostree.ObjectName]bool{}
	if !from.IsZero() {
		err := r.objects.Walk(ctx, from, func(name ostree.ObjectName) error {
			there[name] = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	err := r.objects.Walk(ctx, to, func(name ostree.ObjectName) error {
		if there[name] {
			return nil
		}
		size, err := r.objects.StoredSize(name)
		d.Update.Objects++
		d.Update.Bytes += size
		return err
	})
	if err != nil {
		return err
	}
	block, size, err := r.superblock(ostree.DeltaName{From: from, To: to})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	cost := costOf(block, size)
	d.Update.Delta = &cost
	return nil
}
