package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"freshet/internal/flatpak"
	"freshet/internal/gvariant"
	"freshet/internal/ostree"
	"freshet/internal/sign"
)

// maxMetadataFile bounds the file /metadata of an application.
const maxMetadataFile = 1 << 20

// ErrNoRefs says that there is nothing to commit or publish.
var ErrNoRefs = errors.New("no refs")

// Commit checks that everything that the refs need is there, makes the commits
// that can be published, and lets the build be installed from for testing. It
// returns the new commits. It may be called again, with the same or other refs.
// An object that is not there is a *MissingError.
func (b *Build) Commit(ctx context.Context, req CommitRequest, log io.Writer) (refs map[string]string, err error) {
	done, err := b.seal(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	b.relied.Forget() // the uploads have ended
	c := committing{b: b, ctx: ctx, req: req, log: newJournal(log), now: uint64(time.Now().Unix()), from: map[ostree.Checksum][]madeCommit{}}
	if err := c.run(); err != nil { //nolint:contextcheck // it has ctx
		return nil, fmt.Errorf("commit build %d: %w", b.id, err)
	}
	refs = make(map[string]string, len(req.Refs))
	for _, all := range c.from {
		for _, m := range all {
			refs[m.ref] = m.sum.String()
		}
	}
	return refs, nil
}

// committing is one Commit in progress.
type committing struct {
	b    *Build
	ctx  context.Context //nolint:containedctx // lives as long as the call
	req  CommitRequest
	log  *journal
	now  uint64
	from map[ostree.Checksum][]madeCommit // by the commit that was uploaded
}

// madeCommit is a new commit.
type madeCommit struct {
	ref      string
	sum      ostree.Checksum
	commit   *ostree.Commit
	data     []byte
	detached []byte // signatures; nil for none
}

func (c *committing) run() error {
	if len(c.req.Refs) == 0 {
		return ErrNoRefs
	}
	c.log.printf("Committing build %d: %s", c.b.id, count(len(c.req.Refs), "ref"))
	if err := c.clear(); err != nil {
		return err
	}
	var index flatpak.Index
	for _, ref := range sortedKeys(c.req.Refs) {
		if err := c.ref(&index, ref, c.req.Refs[ref]); err != nil {
			return err
		}
	}
	c.log.lap("checking")
	if err := c.deltas(&index); err != nil {
		return err
	}
	if err := c.summaries(&index); err != nil {
		return err
	}
	c.log.lap("summary")
	if err := c.b.sync(); err != nil {
		return err
	}
	c.log.lap("sync")
	c.log.printf("Build %d is ready to be published after %s", c.b.id, c.log.total())
	return nil
}

// clear removes what an earlier Commit made and others may see.
func (c *committing) clear() error {
	for _, name := range [...]string{"summary", "summary.sig", "summary.idx", "summary.idx.sig", "summaries", "delta-indexes", "deltas", "refs/heads"} {
		if err := os.RemoveAll(filepath.Join(c.b.dir, name)); err != nil {
			return err
		}
	}
	return os.Mkdir(filepath.Join(c.b.dir, "refs/heads"), 0o755)
}

// ref checks a ref and makes its commit.
func (c *committing) ref(index *flatpak.Index, ref, uploaded string) error {
	parsed, err := parseRef(ref)
	if err != nil {
		return err
	}
	from, err := ostree.ParseChecksum(uploaded)
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	begun := time.Now()
	walk := reach{ref: ref, in: c.b.objects, look: c.b.find}
	source, err := walk.commit(c.ctx, from, nil)
	if err != nil {
		return err
	}
	sizes := downloadSize{trees: &walk.trees, files: walk.seen}
	size, err := sizes.of(c.ctx, source.Tree, ostree.Checksum{})
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	c.b.sizes.set(source.Tree, size)
	if err := c.check(parsed, from, source); err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	rewrite := flatpak.Rewrite{
		Ref:          ref,
		From:         from,
		CollectionID: c.b.collection(),
		DownloadSize: uint64(size),
		Timestamp:    &c.now,
		TokenType:    c.req.TokenType,
		Subsets:      c.b.repo.opt.subsets(source, nil, c.log, ref),
	}
	if parsed.Kind != flatpak.Screenshots {
		rewrite.EndOfLife, rewrite.EndOfLifeRebase = endOfLife(c.req.EndOfLife, c.req.EndOfLifeRebase, c.req.AppID, c.req.Refs)
	}
	commit, err := flatpak.RewriteCommit(source, rewrite)
	if err != nil {
		return err
	}
	made, err := c.write(ref, commit)
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	c.from[from] = append(c.from[from], made)
	info, err := flatpak.ReadCommitInfo(c.b.objects, ref, made.sum)
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	index.Update([]flatpak.CommitInfo{info}, nil)
	c.log.printf("  %s: %s → %s, %s in %s verified in %s", ref, short(uploaded), short(made.sum.String()),
		formatBytes(size), count(walk.files, "file"), formatDuration(time.Since(begun)))
	return nil
}

// endOfLife translates what a request says. The id that is replaced is that of
// the application among the refs, unless it is given.
func endOfLife(reason, replacement, id string, refs map[string]string) (*string, []flatpak.Rebase) {
	var eol *string
	if reason != "" {
		eol = &reason
	}
	if replacement == "" {
		return eol, nil
	}
	for _, ref := range sortedKeys(refs) {
		if parsed, err := flatpak.ParseRef(ref); err == nil && parsed.Kind == flatpak.App && id == "" {
			id = parsed.ID
		}
	}
	return eol, []flatpak.Rebase{{Old: id, New: replacement}}
}

// check tells whether clients will accept the commit as the ref.
func (c *committing) check(ref flatpak.Ref, sum ostree.Checksum, commit *ostree.Commit) error {
	if err := flatpak.CheckBinding(commit, ref.String()); err != nil {
		return err
	}
	if ref.Kind == flatpak.Screenshots {
		files, err := listMedia(c.ctx, c.b.objects, ref, commit.Tree)
		if err != nil {
			return err
		}
		if err := checkMediaNames(files); err != nil {
			return err
		}
		return idsOf(c.req.AppID, c.req.Refs).checkOwner(files, nil)
	}
	text, err := c.b.objects.ReadPath(sum, "metadata", maxMetadataFile)
	if err != nil {
		return err
	}
	if err := flatpak.CheckMetadata(commit, text); err != nil {
		return err
	}
	metadata, err := flatpak.ParseMetadata(string(text))
	if err != nil {
		return err
	}
	if metadata.Kind != ref.Kind || metadata.Name != ref.ID {
		return fmt.Errorf("%w: it is that of the %s %s", flatpak.ErrMetadata, metadata.Kind, metadata.Name)
	}
	return nil
}

// write stores a commit, signs it and points the ref at it.
func (c *committing) write(ref string, commit *ostree.Commit) (madeCommit, error) {
	made := madeCommit{ref: ref, commit: commit, data: commit.Encode()}
	made.sum = ostree.ChecksumOf(made.data)
	if err := c.place(commitName(made.sum).Path(), made.data); err != nil {
		return made, err
	}
	if signer := c.b.repo.opt.BuildSigner; signer != nil {
		signatures, err := signer.Sign(c.ctx, made.data)
		if err != nil {
			return made, fmt.Errorf("sign: %w", err)
		}
		made.detached = detached(signatures, nil)
		if err := c.place(commitMetaName(made.sum).Path(), made.detached); err != nil {
			return made, err
		}
	}
	return made, c.place(ostree.RefPath(ref), ostree.RefFile(made.sum))
}

// place writes a file of the build.
func (c *committing) place(path string, data []byte) error {
	_, err := c.b.put(c.ctx, path, bytes.NewReader(data), readAll)
	return err
}

// readAll is the check that is always content.
func readAll(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// detached is the content of a commitmeta object with OpenPGP and ed25519
// signatures.
func detached(signatures, more [][]byte) []byte {
	var d gvariant.Dict
	ostree.SetGPGSignatures(&d, signatures)
	ostree.SetEd25519Signatures(&d, more)
	return ostree.EncodeDetached(d)
}

// Has and Put take the objects of the catalogue: ostree.Sink.
func (c *committing) Has(name ostree.ObjectName) (bool, error) { return c.b.objects.Has(name) }

// Put implements ostree.Sink.
func (c *committing) Put(name ostree.ObjectName, write func(io.Writer) error) error {
	var data bytes.Buffer
	if err := write(&data); err != nil {
		return err
	}
	return c.place(name.Path(), data.Bytes())
}

// summaries makes the build a repository that clients can use.
func (c *committing) summaries(index *flatpak.Index) error {
	signer := c.b.repo.opt.BuildSigner
	commits, err := index.BuildAppstream(c, flatpak.AppstreamOptions{CollectionID: c.b.collection(), Now: c.now})
	if err != nil {
		return err
	}
	for _, commit := range commits {
		if signer != nil {
			signatures, err := signer.Sign(c.ctx, commit.Object)
			if err != nil {
				return fmt.Errorf("sign %s: %w", commit.Info.Ref, err)
			}
			if err := c.place(commitMetaName(commit.Info.Checksum).Path(), detached(signatures, nil)); err != nil {
				return err
			}
		}
		if err := c.place(ostree.RefPath(commit.Info.Ref), ostree.RefFile(commit.Info.Checksum)); err != nil {
			return err
		}
		index.Update([]flatpak.CommitInfo{commit.Info}, nil)
	}
	files, err := index.Build(flatpak.BuildOptions{
		Repo: flatpak.RepoInfo{
			Title:        fmt.Sprintf("Build %d", c.b.id),
			CollectionID: c.b.collection(),
		},
		Now:  c.now,
		Sign: signWith(c.ctx, signer),
	})
	if err != nil {
		return err
	}
	for i := range files.Write {
		if err := c.place(files.Write[i].Path, files.Write[i].Bytes()); err != nil {
			return err
		}
	}
	return c.refFiles()
}

// signWith returns the function that flatpak.Index signs with.
func signWith(ctx context.Context, signer sign.Signer) func([]byte) ([][]byte, error) {
	if signer == nil {
		return nil
	}
	return func(data []byte) ([][]byte, error) { return signer.Sign(ctx, data) }
}

// refFiles writes ID.flatpakref for everything that a person would install.
func (c *committing) refFiles() error {
	opt := &c.b.repo.opt
	if opt.BuildsURL == "" {
		return nil
	}
	key, err := publicKeys(opt.BuildSigner)
	if err != nil {
		return err
	}
	for ref := range c.req.Refs {
		parsed, err := flatpak.ParseUploadRef(ref)
		if err != nil || parsed.Kind == flatpak.Screenshots || parsed.IsSubref() {
			continue
		}
		file := flatpak.RefFile{
			Ref:         parsed,
			Title:       fmt.Sprintf("%s (build %d)", parsed.ID, c.b.id),
			URL:         fmt.Sprintf("%s/%d", strings.TrimSuffix(opt.BuildsURL, "/"), c.b.id),
			RuntimeRepo: opt.runtimeRepo(),
			GPGKey:      key,
		}
		data, err := file.Bytes()
		if err != nil {
			return err
		}
		if err := c.place(parsed.ID+".flatpakref", data); err != nil {
			return err
		}
	}
	return nil
}

// publicKeys returns the keys that clients check signatures with.
func publicKeys(signer sign.Signer) ([]byte, error) {
	if signer == nil {
		return nil, nil
	}
	return signer.PublicKeys()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
