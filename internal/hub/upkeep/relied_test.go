package upkeep_test

import (
	"path/filepath"
	"testing"
	"time"

	"freshet/internal/archive"
	"freshet/internal/flatpak"
	"freshet/internal/hub/repository"
	"freshet/internal/hub/upkeep"
	"freshet/internal/ostree"
	"freshet/internal/ostree/ostreetest"
)

// uploader uploads a build step by step.
type uploader struct {
	*hub
	build *repository.Build
	in    *ostree.Repo
	head  ostree.Checksum
	ref   string
}

// uploader begins a build of files.
func (h *hub) uploader(id string, files []archive.File) *uploader {
	h.Helper()
	h.next++
	source := filepath.Join(h.TempDir(), "source")
	made, err := archive.Create(source)
	if err != nil {
		h.Fatal(err)
	}
	u := &uploader{hub: h, ref: appRef(id)}
	meta := flatpak.Metadata{Kind: flatpak.App, Name: id, Runtime: "org.example.P/x86_64/stable", SDK: "org.example.S/x86_64/stable"}
	if err := made.CommitFlatpak(u.ref, meta, files, nil, time.Unix(1_700_000_000+h.next, 0)); err != nil {
		h.Fatal(err)
	}
	if u.build, err = h.repo.Build(h.next); err != nil {
		h.Fatal(err)
	}
	u.in = ostreetest.OpenDir(h, source)
	if u.head, err = u.in.ResolveRef(u.ref); err != nil {
		h.Fatal(err)
	}
	return u
}

// missing asks which objects are to be uploaded.
func (u *uploader) missing() []ostree.ObjectName {
	u.Helper()
	var all []ostree.ObjectName
	err := u.in.Walk(u.Context(), u.head, func(name ostree.ObjectName) error { all = append(all, name); return nil })
	if err != nil {
		u.Fatal(err)
	}
	missing, err := u.build.Missing(u.Context(), all)
	if err != nil {
		u.Fatal(err)
	}
	return missing
}

func (u *uploader) put(names ...ostree.ObjectName) {
	u.Helper()
	for _, name := range names {
		f, err := u.in.Open(name)
		if err != nil {
			u.Fatal(err)
		}
		_, err = u.build.PutObject(u.Context(), name, f)
		_ = f.Close()
		if err != nil {
			u.Fatal(err)
		}
	}
}

func (u *uploader) publish() {
	u.Helper()
	made, err := u.build.Commit(u.Context(), repository.CommitRequest{Refs: map[string]string{u.ref: u.head.String()}}, nil)
	if err != nil {
		u.Fatal(err)
	}
	u.change(repository.PublishRequest{Key: u.ref, Build: u.build, Refs: made})
}

// onWrite runs when the log of a prune has its first line: between the mark and the
// sweep.
type onWrite func()

func (f *onWrite) Write(p []byte) (int, error) {
	if do := *f; do != nil {
		*f = nil
		do()
	}
	return len(p), nil
}

// TestPruneRelied: what an uploader was told is there stays, however long nothing has
// needed it.
func TestPruneRelied(t *testing.T) {
	t.Parallel()
	const id = "org.example.A"
	for name, told := range map[string]struct {
		before bool // the prune
		put    bool // uploads everything without asking
	}{
		"asked before": {before: true}, "asked while it prunes": {}, "sent while it prunes": {put: true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			h.publish(id, "0")
			h.publish(id, "1")
			now := time.Now()
			opt := upkeep.PruneOptions{Rules: strict, Grace: time.Hour, Now: now}
			h.prune(opt) // dooms what only version 0 needed
			h.publish(id, "1b")
			u := h.uploader(id, append(app(id, "2"), archive.File{Path: "files/share/versions/0", Content: []byte("only " + id + " 0")}))
			// The commit comes first: nobody can know yet what it needs.
			u.put(ostree.ObjectName{Checksum: u.head, Type: ostree.TypeCommit})
			var missing []ostree.ObjectName
			ask := onWrite(func() {
				if !told.put {
					missing = u.missing()
					return
				}
				err := u.in.Walk(t.Context(), u.head, func(name ostree.ObjectName) error { u.put(name); return nil })
				if err != nil {
					t.Fatal(err)
				}
			})
			if told.before {
				_, _ = ask.Write(nil)
			}
			opt.Now, opt.Log = now.Add(2*time.Hour), &ask
			pruned := h.prune(opt)
			if pruned.Removed == 0 || pruned.Waiting == 0 {
				t.Errorf("%+v: want something removed, and something kept for the build", pruned)
			}
			u.put(missing...)
			u.publish()
			if err := u.build.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.sound()
			// With the build its needs go.
			opt.Now, opt.Log = now.Add(4*time.Hour), nil
			h.prune(opt)
			opt.Now = now.Add(6 * time.Hour)
			if pruned := h.prune(opt); pruned.Waiting != 0 {
				t.Errorf("%+v", pruned)
			}
			if report := h.sound(); report.Orphans != 0 {
				t.Errorf("left behind: %+v", report)
			}
		})
	}
}

// TestPruneBeforeAsked: what is gone already is missing.
func TestPruneBeforeAsked(t *testing.T) {
	t.Parallel()
	const id = "org.example.A"
	h := newHub(t)
	h.publish(id, "0")
	h.publish(id, "1")
	h.prune(upkeep.PruneOptions{Rules: strict})
	u := h.uploader(id, app(id, "0"))
	u.put(u.missing()...)
	u.publish()
	h.sound()
}
