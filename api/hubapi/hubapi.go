// Package hubapi is the public contract of the hub: the JSON types, paths and
// error kinds of its HTTP API, and a client for it.
//
// Two families of paths share the prefix [Prefix]:
//
//   - The build API is flat-manager's (version 0.5.3): create a build, upload
//     OSTree objects into it, commit, publish. Names of keys and states are
//     flat-manager's, because its clients match on them.
//   - The tree API and the event log are the hub's own.
//
// The package imports the standard library only; other programs may use it.
package hubapi

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Prefix stands before every API path.
const Prefix = "/api/v1"

// Timestamp is a time written as flat-manager writes it: UTC, milliseconds,
// no zone suffix ("2026-01-01T00:00:00.123").
type Timestamp struct{ time.Time }

const timestampLayout = "2006-01-02T15:04:05.000"

// MarshalText implements encoding.TextMarshaler.
func (t Timestamp) MarshalText() ([]byte, error) {
	return []byte(t.UTC().Format(timestampLayout)), nil
}

// UnmarshalText accepts the form MarshalText writes, with any number of
// fractional digits.
func (t *Timestamp) UnmarshalText(b []byte) error {
	parsed, err := time.Parse("2006-01-02T15:04:05.999999999", string(b))
	if err != nil {
		return fmt.Errorf("timestamp %q: %w", b, err)
	}
	t.Time = parsed
	return nil
}

// MarshalJSON writes the text as a JSON string. It hides the method of the
// embedded time, which would write RFC 3339 with a zone.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	text, err := t.MarshalText()
	if err != nil {
		return nil, err
	}
	return json.Marshal(string(text))
}

// UnmarshalJSON reads the text from a JSON string; null changes nothing.
func (t *Timestamp) UnmarshalJSON(b []byte) error {
	var text *string
	if err := json.Unmarshal(b, &text); err != nil || text == nil {
		return err
	}
	return t.UnmarshalText([]byte(*text))
}

// RepoState tells how far a build has come on its way to be publishable.
// The numbers are flat-manager's database values.
type RepoState int

// The states of a build's repository.
const (
	RepoUploading RepoState = iota
	RepoCommitting
	RepoReady
	RepoFailed
	RepoPurging
	RepoPurged
	RepoValidating
)

var repoStateNames = [...]string{"uploading", "committing", "ready", "failed", "purging", "purged", "validating"}

func (s RepoState) String() string { return stateName(int(s), repoStateNames[:]) }

// PublishedState tells whether a build has been published.
type PublishedState int

// The published states of a build.
const (
	Unpublished PublishedState = iota
	Publishing
	Published
	PublishFailed
)

var publishedStateNames = [...]string{"unpublished", "publishing", "published", "failed"}

func (s PublishedState) String() string { return stateName(int(s), publishedStateNames[:]) }

// JobKind says what a job does.
type JobKind int

// The kinds of job.
const (
	JobCommit JobKind = iota
	JobPublish
	JobUpdateRepo
	JobRepublish
	JobCheck
	JobPrune

	// Those below are the hub's own; flat-manager's clients meet them nowhere.

	// JobRollback puts refs back, JobUnpublish takes them away.
	JobRollback
	JobUnpublish
	// JobDeltas makes static deltas. JobBuildDeltas makes those for which the publish of
	// a build waits.
	JobDeltas
	JobBuildDeltas
)

var jobKindNames = [...]string{"commit", "publish", "update-repo", "republish", "check", "prune", "rollback", "unpublish", "deltas", "build-deltas"}

func (k JobKind) String() string { return stateName(int(k), jobKindNames[:]) }

// JobStatus is the life of a job.
type JobStatus int

// The states of a job. Broken is final, like Ended.
const (
	JobNew JobStatus = iota
	JobStarted
	JobEnded
	JobBroken
)

var jobStatusNames = [...]string{"new", "started", "ended", "broken"}

func (s JobStatus) String() string { return stateName(int(s), jobStatusNames[:]) }

func stateName(i int, names []string) string {
	if i < 0 || i >= len(names) {
		return "unknown(" + strconv.Itoa(i) + ")"
	}
	return names[i]
}

// Build is one upload on its way into a repository.
type Build struct {
	ID                   int64          `json:"id"`
	Created              Timestamp      `json:"created"`
	RepoState            RepoState      `json:"repo_state"`
	RepoStateReason      *string        `json:"repo_state_reason,omitempty"`
	PublishedState       PublishedState `json:"published_state"`
	PublishedStateReason *string        `json:"published_state_reason,omitempty"`
	CommitJobID          *int64         `json:"commit_job_id,omitempty"`
	PublishJobID         *int64         `json:"publish_job_id,omitempty"`
	Repo                 string         `json:"repo"`
	ExtraIDs             []string       `json:"extra_ids"`
	AppID                *string        `json:"app_id"`
	PublicDownload       bool           `json:"public_download"`
	BuildLogURL          *string        `json:"build_log_url"`
	TokenName            *string        `json:"token_name"`
	TokenType            *int32         `json:"token_type"`
}

// BuildRef is a ref that a build will publish.
type BuildRef struct {
	ID          int64   `json:"id"`
	BuildID     int64   `json:"build_id"`
	RefName     string  `json:"ref_name"`
	Commit      string  `json:"commit"`
	BuildLogURL *string `json:"build_log_url"`
}

// Check is the outcome of one configured check of a build.
type Check struct {
	CheckName    string      `json:"check_name"`
	BuildID      int64       `json:"build_id"`
	JobID        int64       `json:"job_id"`
	Status       CheckStatus `json:"status"`
	StatusReason *string     `json:"status_reason"`
	Results      *string     `json:"results"`
}

// BuildExtended is a build with all that belongs to it.
type BuildExtended struct {
	Build     Build      `json:"build"`
	BuildRefs []BuildRef `json:"build_refs"`
	Checks    []Check    `json:"checks"`
}

// StartAfter is the earliest start of a job, as flat-manager encodes it.
type StartAfter struct {
	Seconds int64 `json:"secs_since_epoch"`
	Nanos   int32 `json:"nanos_since_epoch"`
}

// Job is a piece of work the hub does in the background. Contents and Results
// are JSON documents carried as strings. Log is the part of the log from the
// requested byte offset on.
type Job struct {
	ID         int64       `json:"id"`
	Kind       JobKind     `json:"kind"`
	Status     JobStatus   `json:"status"`
	Contents   string      `json:"contents"`
	Results    *string     `json:"results,omitempty"`
	Log        string      `json:"log"`
	StartAfter *StartAfter `json:"start_after"`
	Repo       *string     `json:"repo"`
	// WaitsFor says what keeps the queue waiting that the job is in: a reason
	// word ("key", "space", "database"), a colon and the cause. Absent while the
	// queue goes on. flat-manager has no such key.
	WaitsFor string `json:"waits-for,omitempty"`
}

// CommitResults and PublishResults are the documents in Job.Results.
type (
	// CommitResults is what a commit job leaves: the commits made in the build
	// repository, by ref.
	CommitResults struct {
		Refs map[string]string `json:"refs"`
	}
	// PublishResults is what a publish job leaves: the commits now published,
	// by ref, the job that updated the summaries (the publish job itself), and
	// the serial of the event that told everyone.
	PublishResults struct {
		Refs          map[string]string `json:"refs"`
		UpdateRepoJob int64             `json:"update-repo-job"`
		Serial        int64             `json:"serial,omitempty"`
	}
	// FailureResults is what a broken job leaves.
	FailureResults struct {
		ErrorMessage string `json:"error-message"`
	}
)

// Request bodies of the build API. Unknown keys are ignored by the hub.
type (
	// CreateBuildRequest begins a build for the repository Repo.
	CreateBuildRequest struct {
		Repo           string  `json:"repo"`
		AppID          *string `json:"app-id,omitempty"`
		PublicDownload *bool   `json:"public-download,omitempty"`
		BuildLogURL    *string `json:"build-log-url,omitempty"`
	}
	// CreateBuildRefRequest names the commit that a ref of the build points to.
	CreateBuildRefRequest struct {
		Ref         string  `json:"ref"`
		Commit      string  `json:"commit"`
		BuildLogURL *string `json:"build-log-url,omitempty"`
	}
	// MissingObjectsRequest asks which of the named objects must be uploaded.
	MissingObjectsRequest struct {
		Wanted []string `json:"wanted"`
	}
	// MissingObjectsResponse lists those the hub does not hold.
	MissingObjectsResponse struct {
		Missing []string `json:"missing"`
	}
	// AddExtraIDsRequest adds application ids the build may publish besides
	// its own.
	AddExtraIDsRequest struct {
		IDs []string `json:"ids"`
	}
	// CommitRequest ends the upload and commits the build.
	CommitRequest struct {
		EndOfLife       *string `json:"endoflife,omitempty"`
		EndOfLifeRebase *string `json:"endoflife_rebase,omitempty"`
		TokenType       *int32  `json:"token_type,omitempty"`
	}
	// JobRequest asks for a job, its log from a byte offset on. With a Wait, a
	// duration such as "3s", the answer is delayed until there is something of the
	// log, the job has ended, or the time is over; flat-manager answers at once, and so
	// does the hub when too many wait already.
	JobRequest struct {
		LogOffset int64  `json:"log-offset"`
		Wait      string `json:"wait,omitempty"`
	}
	// TokenSubsetRequest asks for a token with a part of the caller's rights.
	// Duration is in seconds.
	TokenSubsetRequest struct {
		Name     string    `json:"name"`
		Sub      string    `json:"sub"`
		Scope    []string  `json:"scope"`
		Duration int64     `json:"duration"`
		Prefixes *[]string `json:"prefixes,omitempty"`
		Apps     *[]string `json:"apps,omitempty"`
		Repos    *[]string `json:"repos,omitempty"`
	}
	// TokenSubsetResponse carries the new token.
	TokenSubsetResponse struct {
		Token string `json:"token"`
	}
)

// ErrorKind is the one word by which a client tells errors apart; it is the
// value of "error-type" in every error body.
type ErrorKind string

// The error kinds and the HTTP status each is sent with.
const (
	ErrGeneric             ErrorKind = "generic-error"           // 400
	ErrWrongRepoState      ErrorKind = "wrong-repo-state"        // 400
	ErrWrongPublishedState ErrorKind = "wrong-published-state"   // 400
	ErrInvalidToken        ErrorKind = "invalid-token"           // 401
	ErrInsufficient        ErrorKind = "token-insufficient"      // 403
	ErrNotFound            ErrorKind = "not-found"               // 404
	ErrConflict            ErrorKind = "conflict"                // 409
	ErrTooLarge            ErrorKind = "too-large"               // 413
	ErrInternal            ErrorKind = "internal-error"          // 500
	ErrNoSpace             ErrorKind = "no-space"                // 507
	ErrUnavailable         ErrorKind = "temporarily-unavailable" // 503
)

// Error is the body of every answer that is not a success.
type Error struct {
	Status  int       `json:"status"`
	Kind    ErrorKind `json:"error-type"`
	Message string    `json:"message"`
	// Reason is one word that says more than Kind; empty for most errors.
	Reason        string `json:"reason,omitempty"`
	CurrentState  string `json:"current-state,omitempty"`
	ExpectedState string `json:"expected-state,omitempty"`
	// Refused names the parts of an upload that were not stored, with the
	// reason; the parts not named were stored.
	Refused map[string]string `json:"refused,omitempty"`
	// Problems is all that is wrong with a tree that was not published, as far
	// as a list of bounded length has room, and MoreProblems how many there are
	// besides.
	Problems     []TreeProblem `json:"problems,omitempty"`
	MoreProblems int           `json:"more-problems,omitempty"`
}

func (e *Error) Error() string {
	return fmt.Sprintf("hub: %s (%d %s)", e.Message, e.Status, e.Kind)
}

// EventKind says what happened.
type EventKind string

// The kinds of event.
const (
	// EventPublish: refs of an OSTree repository now point to new commits.
	EventPublish EventKind = "publish"
	// EventTree: a plain tree was switched to a new generation.
	EventTree EventKind = "tree"
	// EventRepair: files of an OSTree repository that are named by their content, and
	// were damaged, are what they should be again. Whoever caches them asks again.
	EventRepair EventKind = "repair"
)

// Event is one entry of the event log. Serials begin at 1 and have no gaps;
// an event is visible only after what it tells of is readable.
type Event struct {
	Serial int64     `json:"serial"`
	Time   time.Time `json:"time"`
	Kind   EventKind `json:"kind"`
	// Repo is the repository or tree.
	Repo string `json:"repo"`
	// Base is the URL path below which the repository is served, with a slash
	// at its end ("/repo/stable/").
	Base string `json:"base"`
	// Changed are the mutable files whose content changed, relative to Base.
	// Whoever caches them asks again. Files with a content address in their
	// name are not listed, but for repaired ones.
	Changed []string `json:"changed"`
	// Refs are the new commits by ref ("" means the ref is gone). Publish only.
	Refs map[string]string `json:"refs,omitempty"`
	// Publish is the number of the publish, see [Publish]. Publish only.
	Publish int64 `json:"publish,omitempty"`
	// Generation is the new generation. Tree only.
	Generation int64 `json:"generation,omitempty"`
	// Build is the id of the build that was published, if one was.
	Build int64 `json:"build,omitempty"`
}

// EventPageSize is the number of events in a full page of the log. Page n
// (from 0) holds the serials n*EventPageSize+1 to (n+1)*EventPageSize.
const EventPageSize = 100

// EventPage is an answer of the event log.
type EventPage struct {
	// Log identifies the log itself. It changes when the hub's state was
	// started anew, and a cursor of another log means nothing.
	Log    string  `json:"log"`
	Events []Event `json:"events"`
	// Head is the newest serial at the time of the answer (0: no event yet).
	Head int64 `json:"head"`
	// Report says what became of the report that the request carried:
	// [ReportNoted], or why it does not count. Absent without one.
	Report string `json:"report,omitempty"`
}

// TreeFile is one file of a plain tree.
type TreeFile struct {
	// Path is relative, slash separated, without "." or ".." elements.
	Path string `json:"path"`
	// Size in bytes and SHA256 in lower-case hex of the content.
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// ModTime is seconds since 1970.
	ModTime int64 `json:"mtime"`
	// Link is the target of a symbolic link; then Size is 0 and SHA256 empty.
	// It is relative and stays inside the tree.
	Link string `json:"link,omitempty"`
}

// TreePushRequest begins a push of a whole tree.
type TreePushRequest struct {
	Files []TreeFile `json:"files"`
}

// TreePush is a tree on its way in. The content is uploaded by hash.
type TreePush struct {
	ID      string    `json:"id"`
	Tree    string    `json:"tree"`
	Created Timestamp `json:"created"`
	Files   int       `json:"files"`
	Bytes   int64     `json:"bytes"`
	// Missing are the SHA256 of the contents that the hub does not hold yet.
	Missing []string `json:"missing"`
}

// Generation is one complete state of a tree. A publish answers with the
// generation that readers see: the new one, or, when the push brought nothing
// new (mtimes aside), the current one with Unchanged.
type Generation struct {
	ID      int64     `json:"id"`
	Created Timestamp `json:"created"`
	Files   int       `json:"files"`
	Bytes   int64     `json:"bytes"`
	// Serial is the event that announced it.
	Serial int64 `json:"serial"`
	// Retires is when an old generation stops being readable; absent for the
	// current one.
	Retires *Timestamp `json:"retires,omitempty"`
	// Note says, for a person and in one line, what the hub could not check
	// when it was published; absent if it checked all.
	Note string `json:"note,omitempty"`
	// Unchanged, in the answer to a publish, says that no generation was made.
	Unchanged bool `json:"unchanged,omitempty"`
}

// TreeInfo describes a tree and the generations still readable, newest first.
type TreeInfo struct {
	Name        string       `json:"name"`
	Current     int64        `json:"current"`
	Generations []Generation `json:"generations"`
}

// Paths of the API. Each returns an absolute URL path.

// BuildPath is the path of a build, with optional further elements.
func BuildPath(id int64, elem ...string) string {
	return Prefix + "/build/" + strconv.FormatInt(id, 10) + join(elem)
}

// JobPath is the path of a job.
func JobPath(id int64, elem ...string) string {
	return Prefix + "/job/" + strconv.FormatInt(id, 10) + join(elem)
}

// TreePath is the path of a tree, with optional further elements.
func TreePath(name string, elem ...string) string { return Prefix + "/tree/" + name + join(elem) }

// EventsPath is the tail of the event log. It takes the query parameters
// after (serial), limit, and wait (a duration; the answer is delayed until
// there is an event after the serial, or the time is over).
const EventsPath = Prefix + "/events"

// EventPagePath is the path of page n of the event log. A full page never
// changes and is sent as immutable.
func EventPagePath(n int64) string { return EventsPath + "/page/" + strconv.FormatInt(n, 10) }

// RepoPath is where an OSTree repository is served, ending in a slash.
func RepoPath(name string) string { return "/repo/" + name + "/" }

// TreeFilesPath is where a plain tree is served, ending in a slash.
func TreeFilesPath(name string) string { return "/tree/" + name + "/" }

// BuildRepoPath is where the repository of an unpublished build is served.
func BuildRepoPath(id int64) string { return "/build-repo/" + strconv.FormatInt(id, 10) + "/" }

func join(elem []string) string {
	if len(elem) == 0 {
		return ""
	}
	return "/" + strings.Join(elem, "/")
}
