package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"

	"freshet/api/hubapi"
	"freshet/internal/layout"
)

// Publish makes the push the tree's current generation, calls commit, and
// returns what changed. Publishing a push again returns the generation that it
// became, so that a client that lost the answer may ask again. A push with
// missing contents is [ErrRefused]; one with metadata that do not agree with its
// files, or are not signed by the tree's keys, is a [*RefusalError].
//
// A push of what the current generation holds makes no generation: it is done
// as soon as that is known, commit is not called, and the Switch is Unchanged.
//
// After an error readers see the old generation and the push can go on, except
// for errors of commit: then readers see the new one, and the next Publish of
// the tree, or [Trees.Recover], calls commit again.
func (t *Trees) Publish(ctx context.Context, pushID string, commit Commit) (Switch, error) {
	done, ok, err := t.published(ctx, pushID, commit)
	if ok || err != nil {
		return done, err
	}
	p, err := t.push(pushID)
	if err != nil {
		return Switch{}, err
	}
	t.mu.Lock()
	busy := p.publishing
	p.publishing = true
	t.mu.Unlock()
	if busy {
		return Switch{}, fmt.Errorf("push %s: %w", pushID, ErrBusy)
	}
	defer func() {
		t.mu.Lock()
		p.publishing = false
		t.mu.Unlock()
	}()
	s := t.obtain(p.Tree)
	if err := s.hold(ctx); err != nil {
		return Switch{}, err
	}
	defer s.release()
	done, err = t.publish(ctx, s, p, commit)
	if err != nil {
		return done, fmt.Errorf("publish tree %s: %w", s.name, err)
	}
	return done, nil
}

// published looks for a generation that came from the push, and confirms it
// if that was not done.
func (t *Trees) published(ctx context.Context, pushID string, commit Commit) (done Switch, ok bool, err error) {
	came := func(r record) bool { return r.Push == pushID || slices.Contains(r.Repeats, pushID) }
	for _, name := range t.Names() {
		s := t.lookup(name)
		if s == nil || !slices.ContainsFunc(s.records(), came) {
			continue
		}
		if err := s.hold(ctx); err != nil {
			return Switch{}, false, err
		}
		defer s.release()
		if s.pending != nil && s.pending.Push == pushID {
			done = *s.pending
			if err := t.confirm(ctx, s, commit); err != nil {
				return Switch{}, false, err
			}
		}
		records := s.records()
		i := slices.IndexFunc(records, came)
		if i < 0 {
			continue // retired just now
		}
		r := records[i]
		if r.Push != pushID {
			return t.repeated(name, r, pushID)
		}
		done.Key, done.Tree, done.Generation, done.Push = key(name, r.ID, pushID), name, r.Generation, pushID
		return done, true, nil
	}
	return Switch{}, false, nil
}

// Rollback publishes the content of an older generation, which must still be
// readable, as a new one. Files at mutable paths that change by it get the
// present time, because clients do not take an older one for news.
func (t *Trees) Rollback(ctx context.Context, name string, id int64, commit Commit) (Switch, error) {
	s := t.lookup(name)
	if s == nil {
		return Switch{}, fmt.Errorf("tree %q: %w", name, ErrNotFound)
	}
	if err := s.hold(ctx); err != nil {
		return Switch{}, err
	}
	defer s.release()
	done, err := t.rollback(ctx, s, id, commit)
	if err != nil {
		return done, fmt.Errorf("roll tree %s back to generation %d: %w", name, id, err)
	}
	return done, nil
}

func (t *Trees) rollback(ctx context.Context, s *state, id int64, commit Commit) (Switch, error) {
	current := s.current()
	i := slices.IndexFunc(s.generations, func(g *generation) bool { return g.ID == id })
	switch {
	case i < 0:
		return Switch{}, ErrNotFound
	case current.ID == id:
		return Switch{}, fmt.Errorf("%w: it is the current generation", ErrRefused)
	}
	old, err := t.readManifest(s.manifest(current.ID))
	if err != nil {
		return Switch{}, err
	}
	m, err := t.readManifest(s.manifest(id))
	if err != nil {
		return Switch{}, err
	}
	m.Push, m.Created = newID(), now()
	for i := range m.Files {
		f := &m.Files[i]
		same, ok := find(old.Files, f.Path)
		if layout.Tree(f.Path).Mutable() && f.Link == "" && (!ok || same.SHA256 != f.SHA256) {
			f.ModTime = m.Created.Unix()
		}
	}
	p := newPush(m)
	t.register(p) // so that its contents are not retired meanwhile
	done, err := t.publish(ctx, s, p, commit)
	if err != nil {
		err = errors.Join(err, t.drop(p))
	}
	return done, err
}

// publish does the work. The caller holds s.
func (t *Trees) publish(ctx context.Context, s *state, p *push, commit Commit) (Switch, error) {
	if s.broken != nil {
		return Switch{}, s.broken
	}
	if err := t.confirm(ctx, s, commit); err != nil {
		return Switch{}, fmt.Errorf("an earlier switch: %w", err)
	}
	old := new(manifest)
	if current := s.current(); current != nil {
		var err error
		if old, err = t.readManifest(s.manifest(current.ID)); err != nil {
			return Switch{}, err
		}
		if slices.EqualFunc(old.Files, p.Files, sameFile) {
			return t.repeat(s, p)
		}
	}
	sw, err := t.prepare(ctx, s, p, old)
	if err != nil {
		return Switch{}, errors.Join(err, t.removeGeneration(s, s.nextID()))
	}
	if err := t.decide(s, sw); err != nil {
		return Switch{}, err
	}
	// Readers see it; that nobody waits for the answer any more is no reason
	// to leave the event out.
	if err := t.confirm(context.WithoutCancel(ctx), s, commit); err != nil {
		return sw, err
	}
	sw.Generation = s.current().Generation
	return sw, nil
}

func (s *state) nextID() int64 {
	if g := s.current(); g != nil {
		return g.ID + 1
	}
	return 1
}

func key(tree string, id int64, push string) string {
	return tree + "/" + strconv.FormatInt(id, 10) + "/" + push
}

// sameFile says whether readers find the same at the same path.
func sameFile(a, b hubapi.TreeFile) bool {
	return a.Path == b.Path && a.Link == b.Link && a.SHA256 == b.SHA256
}

// maxRepeats is how many pushes without news a generation remembers.
const maxRepeats = 16

// repeat ends a push of what the current generation holds. The generation
// remembers it, for clients that lose the answer and ask again.
func (t *Trees) repeat(s *state, p *push) (Switch, error) {
	records := s.records()
	last := &records[len(records)-1]
	last.Repeats = append(slices.Clone(last.Repeats[max(0, len(last.Repeats)-maxRepeats+1):]), p.Push)
	if err := t.writeState(s, records); err != nil {
		return Switch{}, err
	}
	s.mu.Lock()
	s.setRecords(records)
	s.mu.Unlock()
	done, _, err := t.repeated(s.name, *last, p.Push)
	return done, err
}

// repeated answers for a push that the generation remembers, and removes what a
// crash or an error left of it. The caller holds the tree.
func (t *Trees) repeated(name string, r record, pushID string) (Switch, bool, error) {
	t.mu.Lock()
	p := t.pushes[pushID]
	t.mu.Unlock()
	if p != nil {
		if err := t.drop(p); err != nil {
			return Switch{}, false, err
		}
	}
	return Switch{Tree: name, Generation: r.Generation, Push: pushID, Unchanged: true}, true, nil
}

// prepare builds the generation, complete, checked and durable.
func (t *Trees) prepare(ctx context.Context, s *state, p *push, old *manifest) (Switch, error) {
	id := s.nextID()
	m := p.manifest
	m.Generation, m.Created = id, now()
	if err := t.dir.MkdirAll(s.generationsDir(), 0o755); err != nil {
		return Switch{}, err
	}
	if err := t.removeGeneration(s, id); err != nil {
		return Switch{}, err
	}
	blobs, err := t.settle(ctx, p)
	if err != nil {
		return Switch{}, err
	}
	if err := t.build(ctx, s, &m, old, blobs); err != nil {
		return Switch{}, err
	}
	root, err := t.dir.Root.OpenRoot(s.generationDir(id))
	if err != nil {
		return Switch{}, err
	}
	check := closure{root: root, files: m.Files, keys: t.opts.Keys(s.name)}
	if current := s.current(); current != nil && current.Keys == check.keys.ID() {
		check.known = old.Files
	}
	note, err := check.run(ctx)
	if err := errors.Join(err, root.Close()); err != nil {
		return Switch{}, err
	}
	if err := t.writeManifest(s.manifest(id), &m); err != nil {
		return Switch{}, err
	}
	if err := t.dir.Syncfs(); err != nil {
		return Switch{}, err
	}
	return Switch{
		Key:        key(s.name, id, p.Push),
		Tree:       s.name,
		Generation: hubapi.Generation{ID: id, Created: m.Created, Files: len(m.Files), Bytes: m.bytes(), Note: note},
		Changed:    changed(old.Files, m.Files),
		Push:       p.Push,
		Keys:       check.keys.ID(),
	}, ctx.Err()
}

func (t *Trees) removeGeneration(s *state, id int64) error {
	// Without Fault: what removes the remains of a failure must not fail by it.
	return errors.Join(
		t.dir.Root.RemoveAll(s.generationDir(id)),
		t.dir.Root.RemoveAll(s.manifest(id)))
}

// decide writes the intent and switches.
func (t *Trees) decide(s *state, sw Switch) error {
	before := s.records()
	err := t.writeJSON(s.intent(), intentFile{Version: version, Switch: sw})
	if err == nil {
		err = t.advance(s, before, sw)
	}
	if err == nil {
		return nil
	}
	// Take it back. The intent goes last and decides: until then, a crash
	// completes the switch; after that, the generation is only a remainder.
	if undo := t.takeBack(s, before); undo != nil {
		s.broken = fmt.Errorf("%w: %w", ErrBroken, errors.Join(err, undo))
		return s.broken
	}
	return errors.Join(err, t.removeGeneration(s, sw.Generation.ID))
}

func (s *state) records() []record {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]record, len(s.generations))
	for i, g := range s.generations {
		all[i] = g.record
	}
	return all
}

// setRecords changes what is known of each generation. The caller holds mu.
func (s *state) setRecords(records []record) {
	for i, g := range s.generations {
		g.record = records[i]
	}
}

// advance switches on the disk, and then for readers.
func (t *Trees) advance(s *state, before []record, sw Switch) error {
	after := t.succeed(s.name, slices.Clone(before), sw)
	g, err := t.openGeneration(s, after[len(after)-1])
	if err != nil {
		return err
	}
	if err := t.writeSwitch(s, after); err != nil {
		return errors.Join(err, g.root.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generations = append(s.generations, g)
	s.setRecords(after)
	s.pending = &sw
	return nil
}

// succeed appends the new generation to the records, and sets the time when
// its predecessor retires.
func (t *Trees) succeed(name string, records []record, sw Switch) []record {
	if n := len(records); n > 0 {
		retires := hubapi.Timestamp{Time: sw.Generation.Created.Add(t.opts.Grace(name))}
		records[n-1].Retires = &retires
	}
	return append(records, record{Generation: sw.Generation, Push: sw.Push, Keys: sw.Keys})
}

// writeSwitch points current to the last of the generations and writes
// state.json.
func (t *Trees) writeSwitch(s *state, records []record) error {
	last := records[len(records)-1].ID
	target := path.Join("generations", strconv.FormatInt(last, 10))
	if err := t.dir.Symlink(target, path.Join(s.folder(), "current")); err != nil {
		return err
	}
	return t.writeState(s, records)
}

func (t *Trees) writeState(s *state, records []record) error {
	return t.writeJSON(path.Join(s.folder(), "state.json"), stateFile{Version: version, Tree: s.name, Generations: records})
}

func (t *Trees) takeBack(s *state, before []record) error {
	if len(before) > 0 {
		if err := t.writeSwitch(s, before); err != nil {
			return err
		}
	} else {
		for _, name := range []string{"current", "state.json"} {
			if err := t.dir.Remove(path.Join(s.folder(), name)); err != nil {
				return err
			}
		}
	}
	if err := t.dir.Remove(s.intent()); err != nil {
		return err
	}
	return t.dir.SyncDir(s.folder())
}

// confirm calls commit for the pending switch, if there is one, and ends it.
// The caller holds s.
func (t *Trees) confirm(ctx context.Context, s *state, commit Commit) error {
	if s.pending == nil {
		return nil
	}
	if s.broken != nil {
		return s.broken
	}
	serial, err := commit(ctx, *s.pending)
	if err != nil {
		return fmt.Errorf("tree %s: commit generation %d: %w", s.name, s.pending.Generation.ID, err)
	}
	records := s.records()
	for i := range records {
		if records[i].ID == s.pending.Generation.ID {
			records[i].Serial = serial
		}
	}
	if err := t.writeState(s, records); err != nil {
		return err
	}
	s.mu.Lock()
	s.setRecords(records)
	s.mu.Unlock()
	t.mu.Lock()
	p := t.pushes[s.pending.Push]
	t.mu.Unlock()
	if p != nil {
		if err := t.drop(p); err != nil {
			return err
		}
	}
	if err := t.dir.Remove(s.intent()); err != nil {
		return err
	}
	s.pending = nil
	return nil
}

// find looks for a path in files, which are sorted.
func find(files []hubapi.TreeFile, name string) (*hubapi.TreeFile, bool) {
	i, ok := slices.BinarySearchFunc(files, name, func(f hubapi.TreeFile, name string) int { return cmp.Compare(f.Path, name) })
	if !ok {
		return nil, false
	}
	return &files[i], true
}
