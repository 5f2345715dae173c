package edge

import (
	"errors"
	"net/url"
	"path"
	"strings"

	"freshet/api/edgeapi"
	"freshet/internal/ostree"
)

// refWalk finds out what a client of an OSTree repository fetches: from refs to
// commits, from those down the directories or to the parts of a delta.
type refWalk struct {
	site   *site
	repo   string // path, without a slash at its end
	deltas bool
	from   ostree.Checksum // zero: from nothing
}

// addRefs puts the refs of an order on the list.
func (wm *warming) addRefs(s *site, req *edgeapi.WarmRequest) error {
	w := &wm.refs
	w.site, w.repo, w.deltas = s, strings.TrimSuffix(req.Repo, "/"), req.Deltas
	if w.repo != "" && (!strings.HasPrefix(w.repo, "/") || path.Clean(w.repo) != w.repo) {
		return badOrder("repo is %.200q, want a path like /repo/stable", req.Repo)
	}
	if req.From != "" {
		var err error
		if w.from, err = ostree.ParseChecksum(req.From); err != nil {
			return badOrder("from: %v", err)
		}
	}
	for _, ref := range req.Refs {
		if commit, err := ostree.ParseChecksum(ref); err == nil {
			wm.addCommit(commit)
			continue
		}
		if ref == "" || path.Clean("/"+ref) != "/"+ref || len(ref) > 1024 {
			return badOrder("%.200q is no ref", ref)
		}
		wm.addFile("refs/heads/"+ref, false, func(content []byte) error {
			if content == nil {
				wm.addSummary(ref)
				return nil
			}
			commit, err := ostree.ParseChecksum(strings.TrimSpace(string(content)))
			if err == nil {
				wm.addCommit(commit)
			}
			return err
		})
	}
	return nil
}

// addFile puts a file of the repository on the list.
func (wm *warming) addFile(name string, optional bool, then func([]byte) error) {
	wm.add(warmItem{warmName: wm.refs.name(name), optional: optional, then: then})
}

func (w *refWalk) name(file string) warmName {
	return warmName{site: w.site, uri: (&url.URL{Path: w.repo + "/" + file}).EscapedPath()}
}

var (
	errNotThere   = errors.New("not there")
	errUnknownRef = errors.New("the summary lists no such ref")
)

// addSummary looks a ref up in the summary: not every server has single refs.
func (wm *warming) addSummary(ref string) {
	name := wm.refs.name("summary")
	name.use = ref
	wm.add(warmItem{warmName: name, then: func(content []byte) error {
		if content == nil {
			return errNotThere
		}
		summary, err := ostree.ParseSummary(content)
		if err != nil {
			return err
		}
		for _, known := range summary.Refs {
			if known.Ref == ref {
				wm.addCommit(known.Commit)
				return nil
			}
		}
		return errUnknownRef
	}})
}

// addCommit fetches a commit: by delta if that is wished for and there is one.
func (wm *warming) addCommit(commit ostree.Checksum) {
	if !wm.refs.deltas || wm.refs.from == commit {
		wm.addTree(commit)
		return
	}
	name := ostree.DeltaName{From: wm.refs.from, To: commit}
	wm.addFile(name.SuperblockPath(), false, func(content []byte) error {
		if content == nil {
			wm.addTree(commit)
			return nil
		}
		superblock, err := ostree.ParseSuperblock(content)
		if err != nil {
			return err
		}
		for i := range superblock.Parts {
			wm.addFile(name.PartPath(i), false, nil)
		}
		for _, fallback := range superblock.Fallbacks {
			wm.addObject(fallback.Object, nil)
		}
		wm.addDetached(commit)
		return nil
	})
}

func (wm *warming) addObject(name ostree.ObjectName, then func([]byte) error) {
	wm.addFile(name.Path(), false, then)
}

// addDetached fetches the signatures of a commit, if it has any.
func (wm *warming) addDetached(commit ostree.Checksum) {
	wm.addFile(ostree.ObjectName{Checksum: commit, Type: ostree.TypeCommitMeta}.Path(), true, nil)
}

// addTree fetches a commit and every object below it.
func (wm *warming) addTree(commit ostree.Checksum) {
	wm.addDetached(commit)
	wm.addObject(ostree.ObjectName{Checksum: commit, Type: ostree.TypeCommit}, func(content []byte) error {
		if content == nil {
			return errNotThere
		}
		parsed, err := ostree.ParseCommit(content)
		if err != nil {
			return err
		}
		wm.addDir(parsed.Tree, parsed.TreeMeta)
		return nil
	})
}

func (wm *warming) addDir(tree, meta ostree.Checksum) {
	wm.addObject(ostree.ObjectName{Checksum: meta, Type: ostree.TypeDirMeta}, nil)
	wm.addObject(ostree.ObjectName{Checksum: tree, Type: ostree.TypeDirTree}, func(content []byte) error {
		if content == nil {
			return errNotThere
		}
		dir, err := ostree.ParseDirTree(content)
		if err != nil {
			return err
		}
		for _, file := range dir.Files {
			wm.addObject(ostree.ObjectName{Checksum: file.File, Type: ostree.TypeFile}, nil)
		}
		for _, sub := range dir.Dirs {
			wm.addDir(sub.Tree, sub.Meta)
		}
		return nil
	})
}
