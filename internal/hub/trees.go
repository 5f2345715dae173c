package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/rights"
	"freshet/internal/hub/tree"
)

// manifestBodies is how many times larger than other long lists the list of
// files in a tree push may be.
const manifestBodies = 32

func (s *server) openTrees(ctx context.Context, open *closers) error {
	keys, err := readTreeKeys(s.cfg.Trees)
	if err != nil {
		return err
	}
	trees, err := tree.Open(filepath.Join(s.cfg.Dir, treesFolder), tree.Options{
		Grace: s.cfg.grace,
		Keys:  func(name string) *tree.Keys { return keys[name] },
	})
	if err != nil {
		return err
	}
	open.add(trees)
	if err := trees.Recover(ctx, s.recordSwitch(s.catalog)); err != nil {
		return err
	}
	s.trees.Store(trees)
	return nil
}

// recordSwitch writes the event of a switch, once for each.
func (s *server) recordSwitch(as *catalog.Catalog) tree.Commit {
	return func(ctx context.Context, done tree.Switch) (int64, error) {
		// Readers see the new generation, so the client's wish to go on or not
		// does not matter any more.
		event, err := as.RecordTree(context.WithoutCancel(ctx), done.Key, hubapi.Event{
			Repo: done.Tree, Base: hubapi.TreeFilesPath(done.Tree),
			Changed: done.Changed, Generation: done.Generation.ID,
		})
		if err != nil {
			return 0, err
		}
		s.metrics.eventHead.Set(float64(event.Serial))
		s.log.InfoContext(ctx, "tree switched", slog.String("tree", done.Tree),
			slog.Int64("generation", done.Generation.ID), slog.Int64("serial", event.Serial))
		if note := done.Generation.Note; note != "" {
			s.log.WarnContext(ctx, "tree not checked whole", slog.String("tree", done.Tree),
				slog.Int64("generation", done.Generation.ID), slog.String("note", note))
		}
		return event.Serial, nil
	}
}

// withTree is [server.with] for the routes below a tree: the token's
// repositories must allow the tree's name. Ids play no part in trees.
func (s *server) withTree(g grant, next func(w http.ResponseWriter, r *http.Request, claims *auth.Claims, name string) error) handler {
	return s.with(g, func(w http.ResponseWriter, r *http.Request, claims *auth.Claims) error {
		name := r.PathValue("name")
		if !namePattern.MatchString(name) {
			return problem(hubapi.ErrGeneric, "%.80q is no name for a tree", name)
		}
		if err := claims.AllowRepo(name); err != nil {
			return tokenProblem(err)
		}
		return next(w, r, claims, name)
	})
}

func (s *server) getTree(w http.ResponseWriter, _ *http.Request, _ *auth.Claims, name string) error {
	info, err := s.trees.Load().Info(name)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, info)
	return nil
}

// beginPush takes the list of a tree's files and tells which contents are
// missing.
func (s *server) beginPush(w http.ResponseWriter, r *http.Request, _ *auth.Claims, name string) error {
	body, err := openBody(w, r, manifestBodies*int64(s.cfg.Limits.JSONBody))
	if err != nil {
		return err
	}
	files, err := readTreeFiles(body)
	if err != nil {
		return err
	}
	push, err := s.trees.Load().Begin(r.Context(), name, files)
	if err != nil {
		return err
	}
	s.answerAt(w, hubapi.TreePath(name, "push", push.ID), push)
	return nil
}

// readTreeFiles reads a [hubapi.TreePushRequest] file by file, since the text
// of a large one takes several times the memory of what it says.
func readTreeFiles(body io.Reader) ([]hubapi.TreeFile, error) {
	decoder := json.NewDecoder(body)
	files := []hubapi.TreeFile{}
	err := func() error {
		if err := expectDelim(decoder, '{'); err != nil {
			return err
		}
		for decoder.More() {
			key, err := decoder.Token()
			if err != nil {
				return err
			}
			if key != "files" {
				if err := decoder.Decode(new(json.RawMessage)); err != nil {
					return err
				}
				continue
			}
			if err := expectDelim(decoder, '['); err != nil {
				return err
			}
			for decoder.More() {
				var file hubapi.TreeFile
				if err := decoder.Decode(&file); err != nil {
					return err
				}
				if len(files) == tree.MaxFiles {
					return problem(hubapi.ErrTooLarge, "a tree has at most %d files", tree.MaxFiles)
				}
				files = append(files, file)
			}
			if err := expectDelim(decoder, ']'); err != nil {
				return err
			}
		}
		if err := expectDelim(decoder, '}'); err != nil {
			return err
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return problem(hubapi.ErrGeneric, "there is more in the body than the list of files")
		}
		return nil
	}()
	switch {
	case err == nil:
		return files, nil
	case isJSONError(err):
		return nil, problem(hubapi.ErrGeneric, "the body is not the JSON expected: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, ok := errors.AsType[*hubapi.Error](err); ok {
		return nil, err
	}
	return nil, bodyError(err)
}

func expectDelim(decoder *json.Decoder, want json.Delim) error {
	token, err := decoder.Token()
	if err == nil && token != want {
		err = problem(hubapi.ErrGeneric, "the body is not the JSON expected: %v where %q was due", token, want.String())
	}
	return err
}

func isJSONError(err error) bool {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, mistyped := errors.AsType[*json.UnmarshalTypeError](err)
	return syntax || mistyped
}

func (s *server) getPush(w http.ResponseWriter, r *http.Request, _ *auth.Claims, name string) error {
	if err := s.ownPush(r, name); err != nil {
		return err
	}
	push, err := s.trees.Load().Push(r.Context(), r.PathValue("push"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, push)
	return nil
}

func (s *server) cancelPush(w http.ResponseWriter, r *http.Request, _ *auth.Claims, name string) error {
	if err := s.ownPush(r, name); err != nil {
		return err
	}
	if err := s.trees.Load().Cancel(r.PathValue("push")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// uploadBlobs takes contents of a push, named by their SHA-256.
func (s *server) uploadBlobs(w http.ResponseWriter, r *http.Request, _ *auth.Claims, name string) error {
	if err := s.ownPush(r, name); err != nil {
		return err
	}
	id := r.PathValue("push")
	sizes, err := s.receive(w, r, func(ctx context.Context, sum string, content *partContent) (int64, error) {
		err := s.trees.Load().PutBlob(ctx, id, sum, content)
		if mismatch, ok := errors.AsType[*tree.MismatchError](err); ok {
			return 0, refuse("%s", mismatch)
		}
		if err != nil {
			return 0, err
		}
		// A content that is there already was not read.
		_, err = io.Copy(io.Discard, content)
		return content.read, err
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, sizes)
	return nil
}

// publishPush switches the tree to what was pushed, unless that is what it
// holds.
func (s *server) publishPush(w http.ResponseWriter, r *http.Request, claims *auth.Claims, name string) error {
	if err := readJSON(w, r, &struct{}{}, jsonBody); err != nil {
		return err
	}
	id := r.PathValue("push")
	// A push that is gone may have been published before, and the answer lost.
	if owner, err := s.trees.Load().TreeOf(id); err == nil && owner != name {
		return notAPushOf(name)
	}
	if err := s.heldTree(r.Context(), name); err != nil {
		return err
	}
	begin := time.Now()
	done, err := s.trees.Load().Publish(r.Context(), id, s.recordSwitch(s.by(claims)))
	if err != nil {
		return err
	}
	if done.Tree != name {
		return notAPushOf(name)
	}
	s.answerSwitch(w, r, done, begin)
	return nil
}

// answerSwitch tells which generation readers see.
func (s *server) answerSwitch(w http.ResponseWriter, r *http.Request, done tree.Switch, begin time.Time) {
	if done.Unchanged {
		s.log.InfoContext(r.Context(), "tree unchanged", slog.String("tree", done.Tree), slog.Int64("generation", done.Generation.ID))
		done.Generation.Unchanged = true
	} else {
		s.metrics.publish.WithLabelValues(done.Tree).Observe(time.Since(begin).Seconds())
	}
	writeJSON(w, http.StatusOK, done.Generation)
}

// rollbackTree publishes what an older generation had.
func (s *server) rollbackTree(w http.ResponseWriter, r *http.Request, claims *auth.Claims, name string) error {
	var request hubapi.TreeRollbackRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return err
	}
	if request.Generation < 1 {
		return problem(hubapi.ErrGeneric, `"generation" is needed: the number of the older one`)
	}
	if rights.Everything(claims) != nil { // who may do everything may have to take back what the hold is about
		if err := s.heldTree(r.Context(), name); err != nil {
			return err
		}
	}
	begin := time.Now()
	done, err := s.trees.Load().Rollback(r.Context(), name, request.Generation, s.recordSwitch(s.by(claims)))
	if err != nil {
		return err
	}
	if !done.Unchanged {
		s.log.InfoContext(r.Context(), "tree rolled back", slog.String("tree", name),
			slog.Int64("to", request.Generation), slog.Int64("generation", done.Generation.ID))
	}
	s.answerSwitch(w, r, done, begin)
	return nil
}

// ownPush checks that the push of the path is one of the tree.
func (s *server) ownPush(r *http.Request, name string) error {
	owner, err := s.trees.Load().TreeOf(r.PathValue("push"))
	if err == nil && owner != name {
		err = notAPushOf(name)
	}
	return err
}

func notAPushOf(name string) error { return fmt.Errorf("push of tree %s: %w", name, tree.ErrNotFound) }

// serveTree serves the files of the generations of a tree.
func (s *server) serveTree(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("path")
	if !validPath(name) {
		return missingFile(w, r)
	}
	f, err := s.trees.Load().Lookup(r.PathValue("name"), name)
	if err != nil {
		return fileError(w, r, err)
	}
	etag := `"` + f.SHA256 + `"`
	if f.SHA256 == "" {
		etag = fileTag(f.Info)
	}
	return serveFile(w, r, f.File, etag, f.Info.ModTime())
}

// retireTrees removes generations whose grace time is over, and pushes that
// were forgotten.
func (s *server) retireTrees(ctx context.Context) error {
	trees := s.treesNow()
	if trees == nil {
		return nil
	}
	retired, err := trees.Retire(ctx)
	if retired != (tree.Retired{}) {
		s.log.InfoContext(ctx, "retired", slog.Int("generations", retired.Generations), slog.Int("pushes", retired.Pushes),
			slog.Int("files", retired.Blobs), slog.Int64("bytes", retired.Bytes))
	}
	return err
}
