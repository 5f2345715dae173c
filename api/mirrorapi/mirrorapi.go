// Package mirrorapi is what a mirror understands: on its admin listener orders to sync,
// check, roll back and drop, and questions about all of it; on its public listener
// triggers, signed words that there is something new upstream. It has the JSON types
// and a client. docs/mirror.md is the manual, openapi.json the formal description. It
// imports the standard library only.
//
// All times are in UTC, all sizes in bytes.
package mirrorapi

import (
	"fmt"
	"net/url"
	"time"
)

// Prefix begins every path of the API on the admin listener.
const Prefix = "/mirror/v1"

// Paths of the API on the admin listener.
const (
	// StatusPath answers GET with a [Status].
	StatusPath = Prefix + "/status"
	// DoctorPath answers GET with a [Diagnosis].
	DoctorPath = Prefix + "/doctor"
	// ProjectsPath begins the paths of a project; see [ProjectPath]. That of the project
	// itself answers GET with a [ProjectStatus], and DELETE, for one that is on the disk and
	// not in the configuration, with a [Removal].
	ProjectsPath = Prefix + "/projects"
)

// Things of a project; see [ProjectPath].
const (
	// SyncPath takes a [SyncRequest] and answers with a [SyncAnswer], or, if the request
	// says so, with a stream of [SyncEvent], one JSON object a line.
	SyncPath = "sync"
	// HoldPath takes a [HoldRequest], ReleasePath nothing; both answer with a [SyncAnswer].
	HoldPath    = "hold"
	ReleasePath = "release"
	// CancelPath takes nothing and ends the sync that runs; it answers with a
	// [SyncAnswer]. What was fetched stays for the next one.
	CancelPath = "cancel"
	// LogPath answers GET with a [Log]. "limit" is how many reports at most.
	LogPath = "log"
	// GenerationsPath answers GET with [Generations].
	GenerationsPath = "generations"
	// RollbackPath and DropPath take a [GenerationRequest] and answer with [Generations].
	RollbackPath = "rollback"
	DropPath     = "drop"
	// VerifyPath takes a [VerifyRequest] and answers with a stream of
	// [VerifyProgress], one JSON object a line.
	VerifyPath = "verify"
	// PlanPath answers GET with a [Plan].
	PlanPath = "plan"
)

// ProjectPath is the path of a thing of a project on the admin listener: SyncPath, for
// instance; that of its [ProjectStatus] if thing is empty.
func ProjectPath(project, thing string) string {
	path := ProjectsPath + "/" + url.PathEscape(project)
	if thing != "" {
		path += "/" + thing
	}
	return path
}

// Rights of the clients of the admin API.
const (
	// RightRead is to see all of what a mirror does and has.
	RightRead = "read"
	// RightSync is to have projects synced as they are configured, and checked.
	RightSync = "sync"
	// RightWrite is to roll back, to hold, to release and to drop, and to sync in spite of what speaks
	// against it.
	RightWrite = "write"
)

// Error is the body of an answer that is no success.
type Error struct {
	Status int `json:"status"`
	// Reason is one word: unauthorized, forbidden, bad_request, not_found, conflict,
	// too_large, stale, unavailable, no_space, internal.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (e *Error) Error() string {
	return fmt.Sprintf("mirror: %s (%d %s)", e.Message, e.Status, e.Reason)
}

// Cause says why a sync runs.
type Cause string

// Why syncs run, from the one that says least to the one that says most: of orders that
// wait together, the last of these words is told.
const (
	CauseSchedule Cause = "schedule" // it is time
	CauseRetry    Cause = "retry"    // the one before failed
	CauseResume   Cause = "resume"   // the process ended during the one before
	CauseConfig   Cause = "config"   // the configuration says something else of the project
	CauseEvent    Cause = "event"    // the upstream's event log tells of something new
	CauseTrigger  Cause = "trigger"  // a signed trigger tells of something new
	CauseOrder    Cause = "order"    // an operator wants it
)

// Order is one sync of a project that is to be done.
type Order struct {
	Project string `json:"project"`
	Cause   Cause  `json:"cause"`
	// By is who gave the order: the client of the configuration, the key of the
	// trigger; empty for the mirror itself.
	By string `json:"by,omitempty"`
	// Force looks at everything, also when the cheap probe finds nothing new.
	Force bool `json:"force,omitempty"`
	// Rollback takes over versions that are older than those that are published, Shrink
	// a project that has lost more than the configuration lets it lose; both once.
	Rollback bool `json:"rollback,omitempty"`
	Shrink   bool `json:"shrink,omitempty"`
	// Given is when the first of the orders was given that became this one.
	Given time.Time `json:"given"`
}

// Result is what came of a sync.
type Result string

// Results of syncs.
const (
	// Published: a new generation is served.
	Published Result = "published"
	// Unchanged: upstream has nothing new.
	Unchanged Result = "unchanged"
	// Failed: something did not work. The generation before stays, and it is tried again.
	Failed Result = "failed"
	// Refused: upstream offers what is not taken over without an operator's word. The
	// generation before stays.
	Refused Result = "refused"
	// Canceled: an operator or the end of the process ended it. What was fetched stays for
	// the next one.
	Canceled Result = "canceled"
)

// Reason is why a sync did not publish, one word.
type Reason string

// Why syncs fail or are refused.
const (
	ReasonUpstream     Reason = "upstream_unreachable"  // no upstream answers
	ReasonInconsistent Reason = "upstream_inconsistent" // it names what it does not have, or changes while it is read
	ReasonMetadata     Reason = "bad_metadata"          // its indexes cannot be read
	ReasonSignature    Reason = "bad_signature"         // no pinned key signed it
	ReasonRollback     Reason = "rollback"              // it is older than what is published
	ReasonShrink       Reason = "shrink"                // it has lost too much
	ReasonExpired      Reason = "expired"               // it says itself that it is not valid any more
	ReasonNoSpace      Reason = "no_space"              // it does not fit on the disk
	ReasonDrained      Reason = "drained"               // it was taken off the disk, which was full
	ReasonDisk         Reason = "disk"                  // the disk does not do what it is told
	ReasonProgram      Reason = "program"               // the rsync program is not there, too old, or ends as it should not
	ReasonTimeout      Reason = "timeout"               // it took longer than it may
	ReasonCanceled     Reason = "canceled"              // somebody ended it
	ReasonInternal     Reason = "internal"              // a mistake of the mirror's own
)

// Step is what a sync does, in the order in which it does them.
type Step string

// Steps of a sync.
const (
	StepProbe   Step = "probe"   // whether anything is new
	StepList    Step = "list"    // what the next generation consists of
	StepLink    Step = "link"    // what is here already
	StepFetch   Step = "fetch"   // the rest
	StepCheck   Step = "check"   // hashes, closure, signatures
	StepSwitch  Step = "switch"  // makes it durable and serves it
	StepTell    Step = "tell"    // directors and downstream mirrors
	StepCleanup Step = "cleanup" // retires old generations
)

// Progress is how far a sync is. The zero value: none runs.
type Progress struct {
	Project string    `json:"project"`
	Step    Step      `json:"step,omitempty"`
	Began   time.Time `json:"began,omitzero"`
	// Files and Bytes of the step are done, of FilesTotal and BytesTotal; -1: not known
	// yet.
	Files      int64 `json:"files"`
	FilesTotal int64 `json:"files_total"`
	Bytes      int64 `json:"bytes"`
	BytesTotal int64 `json:"bytes_total"`
	// Received came over the network since the sync began.
	Received int64 `json:"received"`
	// Doing says in a few words what is under way: the file, the upstream.
	Doing string `json:"doing,omitempty"`
}

// Report is what a sync leaves behind: a line of the project's log.
type Report struct {
	// Serial numbers the reports of a project, without gaps, from 1.
	Serial  int64     `json:"serial"`
	Project string    `json:"project"`
	Order   Order     `json:"order"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	Result  Result    `json:"result"`
	// Reason and Message say why nothing was published; empty with [Published] and
	// [Unchanged]. Path is what it is about, if it is one file.
	Reason  Reason `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	Path    string `json:"path,omitempty"`
	// Generation is the one that is served afterwards, Previous the one before; empty:
	// none.
	Generation string `json:"generation,omitempty"`
	Previous   string `json:"previous,omitempty"`
	// Upstream is the one that most came from, without what is secret in its URL.
	Upstream string `json:"upstream,omitempty"`
	// Files and Bytes of the generation.
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
	// Of its files, Linked were here already; Fetched[source] came over the network;
	// Removed are those of the generation before that it has not.
	Linked  Amount            `json:"linked"`
	Fetched map[string]Amount `json:"fetched,omitempty"`
	Removed Amount            `json:"removed"`
	// Refetched is how often a file came that was not what it should be, and was asked
	// for again, of the same source or of another one.
	Refetched int64 `json:"refetched,omitempty"`
	// Steps are those that it came to, in their order.
	Steps []StepTime `json:"steps"`
	// Repositories are those of the project, if its kind has them.
	Repositories []Repository `json:"repositories,omitempty"`
	// Warnings are what an operator should know though it did not stop the sync.
	Warnings []string `json:"warnings,omitempty"`
}

// HeldBack are the repositories that stay at the version before, or were left out, each
// with the reason. Others may have been published.
func (r Report) HeldBack() []Repository {
	var held []Repository
	for _, repo := range r.Repositories {
		if repo.Reason != "" {
			held = append(held, repo)
		}
	}
	return held
}

// Trouble is why the project, or the first of its repositories that are held back, is not
// what the upstream has; empty: all of it is.
func (r Report) Trouble() Reason {
	if held := r.HeldBack(); r.Reason == "" && len(held) > 0 {
		return held[0].Reason
	}
	return r.Reason
}

// Sources of files in [Report.Fetched].
const (
	FromUpstream = "upstream"
	FromSiblings = "siblings"
)

// Amount is a number of files and their bytes.
type Amount struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

// StepTime is how long a step took. Took is in nanoseconds.
type StepTime struct {
	Step Step          `json:"step"`
	Took time.Duration `json:"took"`
}

// Repository is a repository of a project after a sync.
type Repository struct {
	// Path is its folder in the project, "" for the root.
	Path string `json:"path"`
	// Pointer is its entry file, "repodata/repomd.xml"; SHA256 that of it, in hexadecimal
	// digits. It is the version's name.
	Pointer string `json:"pointer,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
	// Mark grows from version to version: a revision, a date.
	Mark string `json:"mark,omitempty"`
	// Held: this repository stays at the version before, though others of the project were
	// published, for this Reason; Message has the words.
	Held    bool   `json:"held,omitempty"`
	Reason  Reason `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}
