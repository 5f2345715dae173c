package push

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"freshet/api/hubapi"
)

// treePush is the push of one directory.
type treePush struct {
	cfg    Config
	result *Result
	root   *os.Root

	hashFile, stateFile string // "" if not kept
	state               treeState
	info                hubapi.TreeInfo // as it was before the push
}

// treeState is what is remembered of the pushes of a directory to a tree: the
// unfinished one, so that a repetition goes on with it, and the last that was
// published, so that the same is not published again.
type treeState struct {
	Push      string      `json:"push,omitempty"`
	Manifest  string      `json:"manifest,omitempty"` // SHA-256 of the request that began it
	Published lastPublish `json:"published,omitzero"`
}

type lastPublish struct {
	Manifest   string            `json:"manifest"`
	Generation hubapi.Generation `json:"generation"`
}

func (p *treePush) run(ctx context.Context) error {
	dir, err := filepath.Abs(p.cfg.Dir)
	if err != nil {
		return err
	}
	if p.root, err = os.OpenRoot(dir); err != nil {
		return err
	}
	defer func() { _ = p.root.Close() }()
	if p.cfg.CacheDir != "" {
		p.hashFile = filepath.Join(p.cfg.CacheDir, stateKey("hashes", dir)+".hashes.json")
		p.stateFile = filepath.Join(p.cfg.CacheDir, stateKey("push", p.cfg.Client.Base, p.cfg.Name, dir)+".push.json")
	}
	if p.info, err = p.current(ctx, p.cfg.firstClient()); err != nil {
		return err
	}
	files, err := p.read(ctx, dir)
	if err != nil {
		return err
	}
	// A second attempt is for files that changed between hashing and sending.
	for attempt := 0; ; attempt++ {
		changed, err := p.push(ctx, files)
		if err == nil || len(changed) == 0 {
			return err
		}
		if attempt == 1 {
			return fmt.Errorf("%s: %w", changed[0].path, errChanging)
		}
		for _, f := range changed {
			p.cfg.Progress.Line(f.path + " has changed since it was hashed; reading it again")
			if err := f.rehash(ctx, p.root, func(int64) {}); err != nil {
				return err
			}
		}
	}
}

// current reads the tree, which need not exist yet. It shows at once whether the
// hub is one and knows the token.
func (p *treePush) current(ctx context.Context, client *hubapi.Client) (hubapi.TreeInfo, error) {
	info, err := client.TreeInfo(ctx, p.cfg.Name)
	if _, foreign := errors.AsType[*hubapi.ForeignError](err); isNotFound(err) && !foreign {
		return hubapi.TreeInfo{}, nil
	}
	return info, err
}

// read lists and hashes the directory.
func (p *treePush) read(ctx context.Context, dir string) ([]*localFile, error) {
	files, err := walk(ctx, p.root)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no file in it")
	}
	cache := readHashes(p.hashFile, dir)
	for _, f := range files {
		if f.link == "" {
			f.hash = cache.lookup(f)
		}
	}
	taken := time.Now()
	err = hashAll(ctx, p.root, files, p.cfg.Progress)
	// What was hashed before an error is worth keeping.
	if err := cache.save(p.hashFile, files, taken); err != nil {
		p.cfg.Progress.Line(fmt.Sprintf("hashes are not kept: %v", err))
	}
	if err != nil {
		return nil, err
	}
	return files, nil
}

// push begins or resumes the push of the files as they are known, uploads what
// is missing and publishes. If it fails because files are no longer as they
// were hashed, it returns them with the error.
func (p *treePush) push(ctx context.Context, files []*localFile) (changed []*localFile, err error) {
	req := hubapi.TreePushRequest{Files: make([]hubapi.TreeFile, len(files))}
	byHash := make(map[string]*localFile, len(files))
	p.result.Total = Amount{}
	for i, f := range files {
		req.Files[i] = f.treeFile()
		p.result.Total.add(req.Files[i].Size)
		if f.link == "" && byHash[f.hash] == nil {
			byHash[f.hash] = f
		}
	}
	client := p.cfg.Client
	b, err := p.begin(ctx, req)
	if err != nil || b.done {
		return nil, err
	}
	begun := b.push
	p.result.Push = begun.ID
	missing := make(map[string]bool, len(begun.Missing))
	for _, hash := range begun.Missing {
		if byHash[hash] == nil {
			return nil, fmt.Errorf("hub asks for %q, which was not offered", hash)
		}
		missing[hash] = true
	}
	parts := make([]hubapi.Part, 0, len(missing))
	for _, f := range files { // in the order of the folders, which disks like
		if missing[f.hash] && byHash[f.hash] == f {
			parts = append(parts, hubapi.Part{
				Name: f.hash, Size: f.stat.Size,
				Open: func() (io.ReadCloser, error) { return f.open(p.root) },
			})
		}
	}
	if p.cfg.DryRun {
		p.result.Sent = amountOf(parts)
		p.cfg.Progress.Line(fmt.Sprintf("tree %s: %s, of which %s would be sent", p.cfg.Name, p.result.Total, p.result.Sent))
		if b.resumed { // it is not ours to cancel
			return nil, nil
		}
		return nil, client.CancelTree(ctx, p.cfg.Name, begun.ID)
	}
	p.cfg.Progress.Line(fmt.Sprintf("tree %s: %s, of which %s to be sent", p.cfg.Name, p.result.Total, amountOf(parts)))
	if changed, err := p.upload(ctx, begun.ID, parts, byHash); err != nil {
		if len(changed) > 0 {
			// This manifest can never be completed.
			p.remember(treeState{Published: p.state.Published})
			err = errors.Join(err, client.CancelTree(ctx, p.cfg.Name, begun.ID))
		}
		return changed, err
	}
	if p.cfg.Until != Published {
		return nil, nil
	}
	generation, err := client.PublishTree(ctx, p.cfg.Name, begun.ID)
	if err != nil {
		p.tell(err)
		return nil, err
	}
	if generation.Note != "" {
		p.cfg.Progress.Line("the hub notes: " + generation.Note)
	}
	p.published(generation, b.manifest, generation.Unchanged || generation.ID <= p.info.Current)
	return nil, nil
}

// tell shows all that is wrong with the tree; the error itself has the first of
// it.
func (p *treePush) tell(err error) {
	if answer, ok := errors.AsType[*hubapi.Error](err); ok {
		for line := range answer.ProblemLines() {
			p.cfg.Progress.Line(line)
		}
	}
}

// published notes the outcome.
func (p *treePush) published(generation hubapi.Generation, manifest string, unchanged bool) {
	p.result.Generation, p.result.Serial, p.result.Unchanged = generation, generation.Serial, unchanged
	p.remember(treeState{Published: lastPublish{Manifest: manifest, Generation: generation}})
}

// unchanged reports whether the tree's current generation is known to be just
// this: what the last push from here became, or the lost one, which may have
// been published without that the answer arrived.
func (p *treePush) unchanged(ctx context.Context, manifest, lost string) (bool, error) {
	info, err := p.current(ctx, p.cfg.Client)
	if err != nil || len(info.Generations) == 0 {
		return false, err
	}
	p.info = info
	current := info.Generations[0]
	if last := p.state.Published; last.Manifest == manifest && same(last.Generation, current) {
		p.published(current, manifest, true)
		return true, nil
	}
	if lost == "" || p.cfg.Until != Published || p.cfg.DryRun {
		return false, nil
	}
	became, err := p.cfg.Client.PublishTree(ctx, p.cfg.Name, lost)
	if isNotFound(err) {
		return false, nil
	}
	if err != nil || !same(became, current) {
		return false, err
	}
	p.published(current, manifest, true)
	return true, nil
}

func isNotFound(err error) bool {
	e, ok := errors.AsType[*hubapi.Error](err)
	return ok && e.Kind == hubapi.ErrNotFound
}

// same tells whether two descriptions are of one generation. A hub that was set
// up anew numbers them from the begin again.
func same(a, b hubapi.Generation) bool {
	return a.ID == b.ID && a.Created.Equal(b.Created.Time) && a.Serial == b.Serial && a.Files == b.Files && a.Bytes == b.Bytes
}

// digest identifies the request of a push.
func digest(req hubapi.TreePushRequest) (string, error) {
	data, err := json.Marshal(req)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), err
}

// begin finds the unfinished push of the same content, or begins a new one,
// unless that content is what the tree holds.
func (p *treePush) begin(ctx context.Context, req hubapi.TreePushRequest) (b beginning, err error) {
	if b.manifest, err = digest(req); err != nil {
		return b, err
	}
	if p.stateFile != "" && !readState(p.stateFile, 1<<16, &p.state) {
		p.state = treeState{}
	}
	lost := ""
	if p.state.Manifest == b.manifest && p.state.Push != "" {
		b.push, err = p.cfg.Client.TreePush(ctx, p.cfg.Name, p.state.Push)
		if err == nil {
			p.cfg.Progress.Line("going on with push " + b.push.ID)
			b.resumed = true
			return b, nil
		}
		if !isNotFound(err) {
			return b, err
		}
		lost = p.state.Push
	}
	if b.done, err = p.unchanged(ctx, b.manifest, lost); b.done || err != nil {
		return b, err
	}
	if b.push, err = p.cfg.Client.BeginTree(ctx, p.cfg.Name, req); err != nil {
		return b, err
	}
	p.remember(treeState{Push: b.push.ID, Manifest: b.manifest, Published: p.state.Published})
	return b, nil
}

// beginning is how a push began.
type beginning struct {
	push     hubapi.TreePush
	manifest string // identifies the content
	resumed  bool   // the push was there
	done     bool   // there is nothing to push
}

// remember keeps the state for the next push.
func (p *treePush) remember(state treeState) {
	if p.stateFile == "" || p.cfg.DryRun || state == p.state {
		return
	}
	p.state = state
	if err := writeState(p.stateFile, state); err != nil {
		p.cfg.Progress.Line(fmt.Sprintf("the push cannot be resumed: %v", err))
	}
}

// upload sends the contents. With an error it returns the files that are no
// longer as they were hashed, if that was the cause.
func (p *treePush) upload(ctx context.Context, push string, parts []hubapi.Part, byHash map[string]*localFile) ([]*localFile, error) {
	u := uploader{
		batchBytes: p.cfg.BatchBytes, parallel: p.cfg.Parallel, progress: p.cfg.Progress, sent: &p.result.Sent,
		send: func(ctx context.Context, parts []hubapi.Part) ([]int64, error) {
			return p.cfg.Client.UploadBlobs(ctx, p.cfg.Name, push, parts)
		},
	}
	u.missing = func(ctx context.Context, _ []string) ([]string, error) {
		now, err := p.cfg.Client.TreePush(ctx, p.cfg.Name, push)
		return now.Missing, err
	}
	err := u.upload(ctx, "uploading", parts)
	if err == nil {
		return nil, nil
	}
	if e, ok := errors.AsType[*hubapi.PartError](err); ok {
		return []*localFile{byHash[e.Name]}, err
	}
	if e, ok := errors.AsType[*refusedError](err); ok {
		return p.suspects(ctx, e, byHash)
	}
	return nil, err
}

// suspects returns, of the files that the hub refused, those whose content is
// no longer what was announced. If there are none the fault is elsewhere.
func (p *treePush) suspects(ctx context.Context, refused *refusedError, byHash map[string]*localFile) ([]*localFile, error) {
	var changed []*localFile
	for hash, reason := range refused.reasons {
		f := byHash[hash]
		if f == nil {
			return nil, refused
		}
		now := *f
		if err := now.rehash(ctx, p.root, func(int64) {}); err != nil {
			return nil, err
		}
		if now.hash == hash {
			return nil, fmt.Errorf("%s: hub refused it: %s", f.path, reason)
		}
		changed = append(changed, f)
	}
	return changed, refused
}
