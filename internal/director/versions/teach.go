package versions

import (
	"iter"
	"log/slog"

	"freshet/internal/inventory"
)

// teach lets the inventory know the hashes of files that a version names by them. Most
// ways to list an origin do not tell them, and without them it could not be seen that
// a mirror has other bytes. Names whose content changes are left out: which content
// they have now is for the history to say. It is done once for each listing of the origin.
func (v *Versions) teach(r *repository, version version, view inventory.View) {
	listed := view.Standing(inventory.Origin).Updated
	if done := &r.work.taught; done.version == version.Sum && done.listed.Equal(listed) {
		return
	}
	news := untaught(readList(v.opt.Dir, listName(r.key), version.Sum), view)
	some := false
	for _, err := range news {
		some = err == nil
		break
	}
	if some { // a delta without entries would be a change, too
		// Nobody has looked at the origin: when it was listed stays as it is.
		tree := v.opt.Inventory.Project(r.project)
		delta := inventory.Delta{At: tree.Updated(inventory.Origin), Entries: news}
		if _, err := tree.Apply(inventory.Origin, delta); err != nil {
			v.opt.Log.Warn("the hashes of a repository's files are not taken into the inventory", slog.String("project", r.project), slog.String("repository", r.pointer), slog.Any("error", err))
			return
		}
	}
	r.work.taught.version, r.work.taught.listed = version.Sum, listed
}

// untaught are the files of a list that the origin has, and of which the hash is news.
func untaught(list iter.Seq2[listed, error], view inventory.View) iter.Seq2[inventory.Entry, error] {
	return func(yield func(inventory.Entry, error) bool) {
		for f, err := range list {
			if err != nil {
				yield(inventory.Entry{}, err)
				return
			}
			if f.named || f.sha256 == [32]byte{} {
				continue
			}
			current, there := view.Find(f.path)
			if !there || current.HasSHA256() || current.Size != f.size {
				continue
			}
			e := f.entry()
			e.ModTime = current.ModTime
			if !yield(e, nil) {
				return
			}
		}
	}
}
