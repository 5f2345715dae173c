package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"freshet/internal/durable"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
)

// hotSet knows what clients ask for of a project of which only that is kept. Its counts lie
// in state/popular-PROJECT.json; after a crash those since the last sync are gone.
type hotSet struct {
	counts     kind.Popularity
	repository kind.Repository
	store      *generation.Project
	state      durable.Dir
	file       string
	log        *slog.Logger
}

// newHotSet takes in what was counted before.
func (w *wiring) newHotSet(ctx context.Context, k *kind.Kind, store *generation.Project) (*hotSet, error) {
	list, err := k.Repositories(ctx, kind.Tree{})
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, errors.New("hot-set: name one repository, and not several")
	}
	h := &hotSet{
		repository: list[0], store: store, state: w.m.state, file: popularFile(store.Name()),
		log: w.m.log.With(slog.String("project", store.Name())),
	}
	data, err := h.state.Root.ReadFile(h.file)
	if err == nil {
		err = json.Unmarshal(data, &h.counts)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.log.WarnContext(ctx, "what clients ask for is counted anew", slog.Any("error", err))
	}
	h.learn(ctx)
	return h, nil
}

// hotSet is that of a project: the one that there is, if what it counts is the same.
func (w *wiring) hotSet(ctx context.Context, name string, k *kind.Kind, store *generation.Project) (*hotSet, error) {
	if before := w.m.now.Load(); before != nil && before.digests[name] == w.digests[name] {
		return before.hotSets[name], nil
	}
	return w.newHotSet(ctx, k, store)
}

// learn reads which refs the version has that is served.
func (h *hotSet) learn(ctx context.Context) {
	g := h.store.Current()
	if g == nil {
		return
	}
	tree := kind.Tree{Open: func(_ context.Context, name string) (fs.File, error) { return g.Open(name) }}
	if err := h.counts.Learn(ctx, tree, h.repository, time.Now()); err != nil {
		h.log.WarnContext(ctx, "what clients ask for cannot be told from paths", slog.Any("error", err))
	}
}

// asked counts a request for a file of the project.
func (h *hotSet) asked(name string) {
	if h.repository.Root != "." {
		var ok bool
		if name, ok = strings.CutPrefix(name, h.repository.Root+"/"); !ok {
			return
		}
	}
	h.counts.Asked(name)
}

// ranked returns what is most asked for, and keeps the counts over a restart.
func (h *hotSet) ranked() []string {
	h.keep()
	return h.counts.Ranked()
}

// popularFile is the name of the file with the counts of a project.
func popularFile(project string) string { return "popular-" + project + ".json" }

// keep writes the counts down.
func (h *hotSet) keep() {
	data, err := json.Marshal(&h.counts)
	if err == nil {
		err = h.state.WriteFile(h.file, data, 0o600)
	}
	if err != nil {
		h.log.Warn("what clients ask for is not kept over a restart", slog.Any("error", err))
	}
}

// asked counts a request for a file of a project.
func (m *mirror) asked(project, name string) {
	if h := m.now.Load().hotSets[project]; h != nil {
		h.asked(name)
	}
}
