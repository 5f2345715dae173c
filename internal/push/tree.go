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
}

// treeState is an unfinished push, so that a repetition goes on with it.
type treeState struct {
	Push     string `json:"push"`
	Manifest string `json:"manifest"` // SHA-256 of the request that began it
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
	begun, resumed, err := p.begin(ctx, req)
	if err != nil {
		return nil, err
	}
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
		if resumed { // it is not ours to cancel
			return nil, nil
		}
		return nil, client.CancelTree(ctx, p.cfg.Name, begun.ID)
	}
	p.cfg.Progress.Line(fmt.Sprintf("tree %s: %s, of which %s are to be sent", p.cfg.Name, p.result.Total, amountOf(parts)))
	if changed, err := p.upload(ctx, begun.ID, parts, byHash); err != nil {
		if len(changed) > 0 {
			// This manifest can never be completed.
			p.forget()
			err = errors.Join(err, client.CancelTree(ctx, p.cfg.Name, begun.ID))
		}
		return changed, err
	}
	if p.cfg.Until != Published {
		return nil, nil
	}
	if p.result.Generation, err = client.PublishTree(ctx, p.cfg.Name, begun.ID); err != nil {
		return nil, err
	}
	p.result.Serial = p.result.Generation.Serial
	p.forget()
	return nil, nil
}

// begin finds the unfinished push of the same content, or begins a new one.
func (p *treePush) begin(ctx context.Context, req hubapi.TreePushRequest) (begun hubapi.TreePush, resumed bool, err error) {
	data, err := json.Marshal(req)
	if err != nil {
		return begun, false, err
	}
	sum := sha256.Sum256(data)
	manifest := hex.EncodeToString(sum[:])
	var state treeState
	if p.stateFile != "" && readState(p.stateFile, 1<<16, &state) && state.Manifest == manifest && state.Push != "" {
		begun, err := p.cfg.Client.TreePush(ctx, p.cfg.Name, state.Push)
		if err == nil {
			p.cfg.Progress.Line("going on with push " + begun.ID)
			return begun, true, nil
		}
		if e, ok := errors.AsType[*hubapi.Error](err); !ok || e.Kind != hubapi.ErrNotFound {
			return begun, false, err
		}
	}
	if begun, err = p.cfg.Client.BeginTree(ctx, p.cfg.Name, req); err != nil {
		return begun, false, err
	}
	if p.stateFile != "" && !p.cfg.DryRun {
		if err := writeState(p.stateFile, treeState{Push: begun.ID, Manifest: manifest}); err != nil {
			p.cfg.Progress.Line(fmt.Sprintf("the push cannot be resumed: %v", err))
		}
	}
	return begun, false, nil
}

func (p *treePush) forget() {
	if p.stateFile == "" {
		return
	}
	if err := removeState(p.stateFile); err != nil {
		p.cfg.Progress.Line(err.Error())
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
