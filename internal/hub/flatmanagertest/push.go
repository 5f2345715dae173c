package flatmanagertest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"

	"freshet/internal/ostree"
)

// file is one file to upload.
type file struct {
	name string // as the hub is told
	path string // in the repository
	size int64
}

// local is what a client finds in a repository.
type local struct {
	root     *os.Root
	refs     map[string]string
	metadata []file
	files    []file
	deltas   []file // parts before their superblock
}

func readLocal(ctx context.Context, dir string, withDeltas bool) (*local, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	l := &local{root: root, refs: map[string]string{}}
	if err := l.read(ctx, withDeltas); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return l, nil
}

func (l *local) read(ctx context.Context, withDeltas bool) error {
	repo, err := ostree.OpenRepo(l.root.FS())
	if err != nil {
		return err
	}
	refs, err := repo.ListRefs()
	if err != nil {
		return err
	}
	seen := map[ostree.ObjectName]bool{}
	for ref, commit := range refs {
		kind, _, _ := strings.Cut(ref, "/")
		if kind != "app" && kind != "runtime" && kind != "screenshots" {
			continue
		}
		l.refs[ref] = commit.String()
		err := repo.Walk(ctx, commit, func(name ostree.ObjectName) error {
			if seen[name] {
				return nil
			}
			seen[name] = true
			to := &l.metadata
			if name.Type == ostree.TypeFile {
				to = &l.files
			}
			return l.add(to, name.String(), name.Path())
		})
		if err != nil {
			return err
		}
		if !withDeltas {
			continue
		}
		if err := l.addDelta(ostree.DeltaName{To: commit}); err != nil {
			return err
		}
	}
	if len(l.refs) == 0 {
		return errors.New("nothing to push")
	}
	return nil
}

func (l *local) add(to *[]file, name, path string) error {
	info, err := l.root.Stat(path)
	if err == nil {
		*to = append(*to, file{name, path, info.Size()})
	}
	return err
}

func (l *local) addDelta(name ostree.DeltaName) error {
	if _, err := l.root.Stat(name.SuperblockPath()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for part := 0; ; part++ {
		err := l.add(&l.deltas, fmt.Sprintf("%s.%d.delta", name, part), name.PartPath(part))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
	}
	return l.add(&l.deltas, name.String()+".superblock.delta", name.SuperblockPath())
}

// sendJSON sends v as JSON, in the way of the dialect.
func (s *session) sendJSON(ctx context.Context, method, path, token string, v any) (reply, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return reply{}, err
	}
	if s.dialect == Python { // json.dumps puts a space after colons and commas
		body = bytes.ReplaceAll(body, []byte(`":`), []byte(`": `))
		body = bytes.ReplaceAll(body, []byte(`,"`), []byte(`, "`))
	}
	return s.do(ctx, request{method: method, path: path, token: token, body: body, headers: []string{"Content-Type: application/json"}})
}

func buildPath(id int64, elem string) string {
	path := fmt.Sprintf("/api/v1/build/%d", id)
	if elem != "" {
		path += "/" + elem
	}
	return path
}

func (s *session) create(ctx context.Context) (build, error) {
	body := map[string]any{"repo": s.opts.Repo}
	if s.opts.AppID != "" {
		body["app-id"] = s.opts.AppID
	}
	if s.opts.BuildLogURL != "" {
		body["build-log-url"] = s.opts.BuildLogURL
	}
	a, err := s.sendJSON(ctx, http.MethodPost, "/api/v1/build", "", body)
	if err != nil {
		return build{}, err
	}
	b, err := a.build()
	if err != nil {
		return b, fmt.Errorf("create: %w", err)
	}
	if b.RepoState != 0 || b.PublishedState != 0 || b.Repo != s.opts.Repo || b.ID <= 0 ||
		(b.AppID != nil) != (s.opts.AppID != "") || b.AppID != nil && *b.AppID != s.opts.AppID {
		return b, fmt.Errorf("create: new build %+v", b)
	}
	if _, err := s.location(a, buildPath(b.ID, "")); err != nil {
		return b, fmt.Errorf("create: %w", err)
	}
	return b, nil
}

// minimalToken exchanges the token for one that can only upload.
func (s *session) minimalToken(ctx context.Context, id int64) (string, error) {
	a, err := s.sendJSON(ctx, http.MethodPost, "/api/v1/token_subset", "", map[string]any{
		"name": "minimal-upload", "sub": fmt.Sprintf("build/%d", id), "scope": []string{"upload"}, "duration": 3600,
	})
	if err != nil {
		return "", err
	}
	var out struct{ Token string }
	if err := a.success(&out); err != nil {
		return "", fmt.Errorf("token_subset: %w", err)
	}
	return out.Token, fits(a.body, tokenShape)
}

// missingChunk is how many names go into one request.
const missingChunk = 2000

// missing asks which of the files the hub lacks.
func (s *session) missing(ctx context.Context, id int64, token string, files []file) ([]file, error) {
	var lacking []file
	for chunk := range slices.Chunk(files, missingChunk) {
		byName := map[string]file{}
		wanted := make([]string, len(chunk))
		for i, f := range chunk {
			wanted[i], byName[f.name] = f.name, f
		}
		body, err := json.Marshal(map[string]any{"wanted": wanted})
		if err != nil {
			return nil, err
		}
		var zipped bytes.Buffer
		zw := gzip.NewWriter(&zipped)
		_, err = zw.Write(body)
		if err := errors.Join(err, zw.Close()); err != nil {
			return nil, err
		}
		a, err := s.do(ctx, request{
			method: http.MethodGet, path: buildPath(id, "missing_objects"), token: token, body: zipped.Bytes(),
			headers: []string{"Content-Encoding: gzip", "Content-Type: application/json"},
		})
		if err != nil {
			return nil, err
		}
		var out struct{ Missing []string }
		if err := errors.Join(a.success(&out), fits(a.body, missingShape)); err != nil {
			return nil, fmt.Errorf("missing_objects: %w", err)
		}
		for _, name := range out.Missing {
			f, ok := byName[name]
			if !ok {
				return nil, fmt.Errorf("missing_objects: %q was not asked for, or comes twice", name)
			}
			delete(byName, name)
			lacking = append(lacking, f)
		}
	}
	return lacking, nil
}

const maxBatch = 4 << 20

// upload sends files in batches of at most 4 MiB; a larger file goes alone.
func (s *session) upload(ctx context.Context, id int64, token string, l *local, files []file) error {
	for len(files) > 0 {
		n, size := 1, files[0].size
		for n < len(files) && size+files[n].size <= maxBatch {
			size += files[n].size
			n++
		}
		if err := s.uploadBatch(ctx, id, token, l, files[:n]); err != nil {
			return err
		}
		files = files[n:]
	}
	return nil
}

func (s *session) uploadBatch(ctx context.Context, id int64, token string, l *local, files []file) error {
	req, err := s.multipart(l, files)
	if err != nil {
		return err
	}
	req.method, req.path, req.token = http.MethodPost, buildPath(id, "upload"), token
	a, err := s.do(ctx, req)
	if err != nil {
		return err
	}
	var stored []int64
	if err := a.success(&stored); err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	if len(stored) != len(files) {
		return fmt.Errorf("upload: %d files sent, %d stored", len(files), len(stored))
	}
	for i, f := range files {
		if stored[i] != f.size {
			return fmt.Errorf("upload: %s has %d bytes, %d were stored", f.name, f.size, stored[i])
		}
	}
	return nil
}

// multipart makes the body of an upload in the dialect.
func (s *session) multipart(l *local, files []file) (request, error) {
	random := make([]byte, 32)
	_, _ = rand.Read(random)
	var b bytes.Buffer
	boundary := hex.EncodeToString(random[:16]) // uuid4().hex
	if s.dialect == Rust {
		h := hex.EncodeToString(random)
		boundary = h[:16] + "-" + h[16:32] + "-" + h[32:48] + "-" + h[48:]
	}
	for i, f := range files {
		data, err := l.root.ReadFile(f.path)
		if err != nil {
			return request{}, err
		}
		fmt.Fprintf(&b, "--%s\r\n", boundary)
		if s.dialect == Python {
			fmt.Fprintf(&b, "Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=%q\r\nContent-Length: %d\r\n\r\n",
				f.name, len(data))
		} else {
			fmt.Fprintf(&b, "Content-Disposition: form-data; name=\"file%d\"; filename=%q\r\nContent-Type: application/octet-stream\r\n\r\n",
				i, f.name)
		}
		b.Write(data)
		b.WriteString("\r\n")
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	req := request{body: b.Bytes(), headers: []string{"Content-Type: multipart/mixed; boundary=" + boundary}}
	if s.dialect == Rust { // parts are streams of unknown length
		req.headers = []string{"Content-Type: multipart/form-data; boundary=" + boundary}
		req.chunked = true
	}
	return req, nil
}

// push uploads what the hub lacks, and names the refs.
func (s *session) push(ctx context.Context, id int64, l *local) (uploaded int, err error) {
	token := ""
	if s.opts.MinimalToken {
		if token, err = s.minimalToken(ctx, id); err != nil {
			return 0, err
		}
	}
	rounds := 1
	if s.dialect == Rust {
		rounds = 3 // it asks again, since objects used to get lost
	}
	for round := range rounds {
		metadata, err := s.missing(ctx, id, token, l.metadata)
		if err != nil {
			return uploaded, err
		}
		files, err := s.missing(ctx, id, token, l.files)
		if err != nil {
			return uploaded, err
		}
		if round > 0 && len(metadata)+len(files) > 0 {
			return uploaded, fmt.Errorf("the hub lacks %d files that it said it had stored", len(metadata)+len(files))
		}
		for _, list := range [][]file{files, metadata} {
			if err := s.upload(ctx, id, token, l, list); err != nil {
				return uploaded, err
			}
			uploaded += len(list)
		}
		if len(metadata)+len(files) == 0 {
			break
		}
	}
	if err := s.upload(ctx, id, token, l, l.deltas); err != nil {
		return uploaded, err
	}
	for ref, commit := range l.refs {
		if err := s.buildRef(ctx, id, token, ref, commit); err != nil {
			return uploaded, err
		}
	}
	if len(s.opts.ExtraIDs) > 0 {
		return uploaded, s.extraIDs(ctx, id, token)
	}
	return uploaded, nil
}

func (s *session) buildRef(ctx context.Context, id int64, token, ref, commit string) error {
	body := map[string]any{"ref": ref, "commit": commit}
	if s.opts.BuildLogURL != "" {
		body["build-log-url"] = s.opts.BuildLogURL
	}
	a, err := s.sendJSON(ctx, http.MethodPost, buildPath(id, "build_ref"), token, body)
	if err != nil {
		return err
	}
	var out struct {
		ID      int64  `json:"id"`
		BuildID int64  `json:"build_id"`
		Ref     string `json:"ref_name"`
		Commit  string `json:"commit"`
	}
	if err := a.success(&out); err != nil {
		return fmt.Errorf("build_ref %s: %w", ref, err)
	}
	if err := fits(a.body, refShape); err != nil {
		return fmt.Errorf("build_ref %s: %w", ref, err)
	}
	if out.BuildID != id || out.Ref != ref || out.Commit != commit {
		return fmt.Errorf("build_ref %s: answer %s", ref, a.body)
	}
	_, err = s.location(a, buildPath(id, fmt.Sprintf("build_ref/%d", out.ID)))
	return err
}

func (s *session) extraIDs(ctx context.Context, id int64, token string) error {
	a, err := s.sendJSON(ctx, http.MethodPost, buildPath(id, "add_extra_ids"), token, map[string]any{"ids": s.opts.ExtraIDs})
	if err != nil {
		return err
	}
	b, err := a.build()
	if err != nil {
		return fmt.Errorf("add_extra_ids: %w", err)
	}
	for _, want := range s.opts.ExtraIDs {
		if !slices.Contains(b.ExtraIDs, want) {
			return fmt.Errorf("add_extra_ids: %s is not among %v", want, b.ExtraIDs)
		}
	}
	_, err = s.location(a, buildPath(id, ""))
	return err
}
