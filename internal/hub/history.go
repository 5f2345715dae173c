package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/repository"
	"freshet/internal/hub/rights"
)

const (
	// listPage is the length of a list whose reader does not say how much he
	// wants, maxListPage the most he gets.
	listPage    = 50
	maxListPage = 500
)

// moveContents says what a rollback or unpublish job does: the refs with what they
// pointed at when it was asked for, and what they are to point at, "" for gone.
type moveContents struct {
	Refs   map[string]hubapi.RefMove `json:"refs"`
	Reason string                    `json:"reason,omitempty"`
}

// moveRequest is what the repository is asked for a rollback or unpublish.
func moveRequest(job *catalog.Job, request *repository.PublishRequest) error {
	var contents moveContents
	if err := json.Unmarshal([]byte(job.Contents), &contents); err != nil {
		return fmt.Errorf("contents of job %d: %w", job.ID, err)
	}
	request.Refs, request.Expect = map[string]string{}, map[string]string{}
	for ref, move := range contents.Refs {
		request.Expect[ref] = move.From
		if move.To == "" {
			request.Remove = append(request.Remove, ref)
		} else {
			request.Refs[ref] = move.To
		}
	}
	slices.Sort(request.Remove)
	return nil
}

// withRepo lets a request through to next when its token has the grant and the
// repository of the path, which is there.
func (s *server) withRepo(g grant, next func(w http.ResponseWriter, r *http.Request, claims *auth.Claims, repo string) error) handler {
	return s.with(g, func(w http.ResponseWriter, r *http.Request, claims *auth.Claims) error {
		repo := r.PathValue("repo")
		if err := claims.AllowRepo(repo); err != nil {
			return tokenProblem(err)
		}
		if _, exists := s.repos[repo]; !exists {
			return notFound("repository", strconv.Quote(repo))
		}
		return next(w, r, claims, repo)
	})
}

// listPublishes answers with the history of a repository or of a ref in it.
func (s *server) listPublishes(w http.ResponseWriter, r *http.Request, claims *auth.Claims, repo string) error {
	query := r.URL.Query()
	before, limit, err := pageQuery(query)
	if err != nil {
		return err
	}
	ref := query.Get("ref")
	if ref == "" {
		err = claims.AllowEveryID()
	} else {
		err = allowRefs(claims, ref)
	}
	if err != nil {
		return tokenProblem(err)
	}
	list, err := s.catalog.Publishes(r.Context(), repo, ref, before, limit)
	if err != nil {
		return err
	}
	for i := range list {
		if list[i].Jobs, err = rights.SeenJobs(r.Context(), s.catalog, claims, list[i].Jobs, s.allowJob); err != nil {
			return err
		}
	}
	answer := hubapi.PublishList{Publishes: list}
	if len(list) == limit {
		answer.Next = list[limit-1].Number
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// rollback queues the job that puts refs back.
func (s *server) rollback(w http.ResponseWriter, r *http.Request, claims *auth.Claims, repo string) error {
	var request hubapi.RollbackRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return err
	}
	var moves map[string]hubapi.RefMove
	var err error
	detail := ""
	switch one := [...]bool{len(request.Refs) > 0, request.Undo > 0, request.To > 0}; one {
	case [...]bool{true, false, false}:
		moves, err = s.backTo(r, repo, request.Refs)
	case [...]bool{false, true, false}:
		detail = fmt.Sprintf("undo publish %d", request.Undo)
		moves, err = s.undo(r, repo, request.Undo)
	case [...]bool{false, false, true}:
		detail = fmt.Sprintf("back to publish %d", request.To)
		moves, err = s.since(r, repo, request.To)
	default:
		err = problem(hubapi.ErrGeneric, "one of refs, undo and to is wanted: what to put back")
	}
	if err != nil {
		return err
	}
	return s.enqueueMoves(w, r, claims, hubapi.JobRollback, repo, detail, moveContents{moves, request.Reason})
}

// unpublish queues the job that takes refs out of the repository.
func (s *server) unpublish(w http.ResponseWriter, r *http.Request, claims *auth.Claims, repo string) error {
	var request hubapi.UnpublishRequest
	if err := readJSON(w, r, &request, jsonBody); err != nil {
		return err
	}
	moves := make(map[string]hubapi.RefMove)
	for _, ref := range request.Refs {
		moves[ref] = hubapi.RefMove{}
	}
	if request.App != "" {
		for info := range s.repos[repo].Index {
			if parsed, err := flatpak.ParseRef(info.Ref); err == nil && below(parsed.ID, request.App) {
				moves[info.Ref] = hubapi.RefMove{}
			}
		}
		if len(moves) == 0 {
			return notFound("published ref of", request.App)
		}
	}
	return s.enqueueMoves(w, r, claims, hubapi.JobUnpublish, repo, request.App, moveContents{moves, request.Reason})
}

// enqueueMoves queues a job that moves refs from what they point at now.
func (s *server) enqueueMoves(w http.ResponseWriter, r *http.Request, claims *auth.Claims, kind hubapi.JobKind, repo, detail string, contents moveContents) error {
	published := s.repos[repo].Snapshot()
	for ref, move := range contents.Refs {
		info, ok := published.Get(ref)
		if !ok && move.To == "" {
			return noRef(ref)
		}
		move.From = ""
		if ok {
			move.From = info.Checksum.String()
		}
		if move.From == move.To {
			delete(contents.Refs, ref)
			continue
		}
		contents.Refs[ref] = move
	}
	if len(contents.Refs) == 0 {
		return problem(hubapi.ErrGeneric, "there is nothing to do: every ref is where it is to be")
	}
	refs := slices.Sorted(maps.Keys(contents.Refs))
	if err := allowRefs(claims, refs...); err != nil {
		return tokenProblem(err)
	}
	if err := s.mayMove(r, claims, repo, refs); err != nil {
		return err
	}
	job, err := s.by(claims).EnqueueJob(r.Context(), catalog.NewJob{
		Kind: kind, Repo: repo, Contents: contents, Detail: moveDetail(detail, refs, contents.Reason),
	})
	if err != nil {
		return err
	}
	return s.answerJob(w, r, hubapi.JobPath(job.ID), job.ID)
}

// moveDetail is what the audit log says of a rollback or unpublish.
func moveDetail(what string, refs []string, reason string) string {
	const most = 5
	if what == "" {
		what = strings.Join(refs[:min(len(refs), most)], ", ")
		if len(refs) > most {
			what += fmt.Sprintf(" and %d more", len(refs)-most)
		}
	}
	if reason == "" {
		return what
	}
	return what + ": " + reason
}

// mayMove refuses to move what is held to all but those who may do everything:
// they may have to take back what the hold is about.
func (s *server) mayMove(r *http.Request, claims *auth.Claims, repo string, refs []string) error {
	if rights.Everything(claims) == nil {
		return nil
	}
	holds, err := s.catalog.Holds(r.Context(), repo)
	if err != nil {
		return err
	}
	for _, hold := range holds {
		for _, ref := range refs {
			if parsed, err := flatpak.ParseRef(ref); hold.App == "" || err == nil && below(parsed.ID, hold.App) {
				return problem(hubapi.ErrConflict, "%s is held by %s: %s (hold %d)", ref, hold.Actor, hold.Reason, hold.ID)
			}
		}
	}
	return nil
}

// noRef says that a ref is not published, and what a ref is to who gives an id.
func noRef(ref string) error {
	err := notFound("published ref", ref)
	if !strings.Contains(ref, "/") {
		err.Message += ", as in app/ID/x86_64/stable; an unpublish takes all refs of an id by app"
	}
	return err
}

// backTo is the moves of refs to given commits; "" is what each had before.
func (s *server) backTo(r *http.Request, repo string, refs map[string]string) (map[string]hubapi.RefMove, error) {
	moves := make(map[string]hubapi.RefMove, len(refs))
	for ref, commit := range refs {
		if commit == "" {
			last, err := s.catalog.LastMove(r.Context(), repo, ref)
			if errors.Is(err, catalog.ErrNotFound) && !strings.Contains(ref, "/") {
				return nil, noRef(ref)
			}
			if errors.Is(err, catalog.ErrNotFound) || err == nil && last.From == "" {
				return nil, problem(hubapi.ErrNotFound, "what %s was before is not recorded: name the commit to go back to, or unpublish it", ref)
			}
			if err != nil {
				return nil, err
			}
			commit = last.From
		}
		moves[ref] = hubapi.RefMove{To: commit}
	}
	return moves, nil
}

// undo is the moves that take a publish back.
func (s *server) undo(r *http.Request, repo string, number int64) (map[string]hubapi.RefMove, error) {
	publish, err := s.catalog.Publish(r.Context(), repo, number)
	if err != nil {
		return nil, err
	}
	published := s.repos[repo].Snapshot()
	moves := make(map[string]hubapi.RefMove, len(publish.Refs))
	for _, ref := range slices.Sorted(maps.Keys(publish.Refs)) {
		move := publish.Refs[ref]
		now := ""
		if info, ok := published.Get(ref); ok {
			now = info.Checksum.String()
		}
		if now != move.To {
			return nil, problem(hubapi.ErrConflict,
				"%s has moved again since publish %d: go back to the publish before (to: %d), or put refs back one by one", ref, number, number-1)
		}
		moves[ref] = hubapi.RefMove{To: move.From}
	}
	return moves, nil
}

// since is the moves that bring the repository back to what it was after a
// publish.
func (s *server) since(r *http.Request, repo string, number int64) (map[string]hubapi.RefMove, error) {
	moved, err := s.catalog.Since(r.Context(), repo, number)
	if err != nil {
		return nil, err
	}
	published := s.repos[repo].Snapshot()
	moves := make(map[string]hubapi.RefMove, len(moved))
	for ref, move := range moved {
		if _, there := published.Get(ref); there || move.From != "" {
			moves[ref] = hubapi.RefMove{To: move.From}
		}
	}
	return moves, nil
}

// placeHold stops publishes of an application or of the whole repository.
func (s *server) placeHold(w http.ResponseWriter, r *http.Request, claims *auth.Claims, repo string) error {
	var hold hubapi.Hold
	if err := readJSON(w, r, &hold, jsonBody); err != nil {
		return err
	}
	if err := rights.Everything(claims); err != nil {
		return tokenProblem(err)
	}
	if hold.Kind != hubapi.HoldWait && hold.Kind != hubapi.HoldFreeze {
		return problem(hubapi.ErrGeneric, "kind: want %q or %q", hubapi.HoldWait, hubapi.HoldFreeze)
	}
	if hold.App != "" {
		if _, exists := s.repos[repo]; !exists {
			return problem(hubapi.ErrGeneric, "app: %s is a tree, which is held as a whole", repo)
		}
		if err := flatpak.CheckID(hold.App); err != nil {
			return problem(hubapi.ErrGeneric, "app: %s", err)
		}
	}
	hold.Repo = repo
	placed, err := s.by(claims).PlaceHold(r.Context(), hold)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, placed)
	return nil
}

func (s *server) listHolds(w http.ResponseWriter, r *http.Request, _ *auth.Claims, repo string) error {
	holds, err := s.catalog.Holds(r.Context(), repo)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, hubapi.HoldList{Holds: holds})
	return nil
}

func (s *server) releaseHold(w http.ResponseWriter, r *http.Request, claims *auth.Claims, repo string) error {
	if err := rights.Everything(claims); err != nil {
		return tokenProblem(err)
	}
	id, err := pathID(r, "id", "hold")
	if err != nil {
		return err
	}
	if err := s.by(claims).ReleaseHold(r.Context(), repo, id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// getAudit answers with the audit log.
func (s *server) getAudit(w http.ResponseWriter, r *http.Request, _ *auth.Claims) error {
	before, limit, err := pageQuery(r.URL.Query())
	if err != nil {
		return err
	}
	entries, err := s.catalog.Audit(r.Context(), before, limit)
	if err != nil {
		return err
	}
	answer := hubapi.AuditList{Entries: make([]hubapi.AuditEntry, len(entries))}
	for i, e := range entries {
		answer.Entries[i] = hubapi.AuditEntry{ID: e.ID, Time: e.Time, Actor: e.Actor, Action: e.Action, Object: e.Object, Detail: e.Detail}
	}
	if len(entries) == limit {
		answer.Next = entries[limit-1].ID
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// pageQuery reads which part of a list is wanted.
func pageQuery(query url.Values) (before int64, limit int, err error) {
	limit = listPage
	if text := query.Get("before"); text != "" {
		if before, err = strconv.ParseInt(text, 10, 64); err != nil || before < 1 {
			return 0, 0, problem(hubapi.ErrGeneric, "before: %.40q makes no sense", text)
		}
	}
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return 0, 0, problem(hubapi.ErrGeneric, "limit: %.40q makes no sense", text)
		}
	}
	return before, min(limit, maxListPage), nil
}

// allowRefs checks that the claims grant the ids and the branches of refs.
func allowRefs(claims *auth.Claims, refs ...string) error {
	err := rights.Refs(claims, refs...)
	if errors.Is(err, flatpak.ErrRef) {
		return problem(hubapi.ErrGeneric, "%s", err)
	}
	return err
}

// below tells whether an id is that of an application or runtime, or belongs to
// it.
func below(id, app string) bool { return id == app || strings.HasPrefix(id, app+".") }
