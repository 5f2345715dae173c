// Package edgeapi is what an edge understands on its admin listener: the JSON
// types of purging and warming, and a client for them. docs/edge-api.md is the
// manual. It imports the standard library only.
package edgeapi

import "fmt"

// Prefix begins every path of the API.
const Prefix = "/edge/v1"

// Paths of the API. Both take POST.
const (
	// PurgePath takes a [PurgeRequest] and answers with a [PurgeResult].
	PurgePath = Prefix + "/purge"
	// WarmPath takes a [WarmRequest] and answers with a stream of [WarmProgress],
	// one JSON object a line.
	WarmPath = Prefix + "/warm"
)

// PurgeRequest says what to purge. Everything it names is purged in one step,
// and the answer comes when that survives a crash.
type PurgeRequest struct {
	// Site is the name of the site, "default" for the one without. Empty: each
	// site that the caller may purge; for a URL with a host, the site of it.
	Site string `json:"site,omitempty"`
	// URLs are paths with their query, as clients ask for them ("/a%20b?c"), or
	// whole URLs.
	URLs []string `json:"urls,omitempty"`
	// Paths are paths, with whatever query.
	Paths []string `json:"paths,omitempty"`
	// Prefixes begin paths.
	Prefixes []string `json:"prefixes,omitempty"`
	// Tags are those that the origin gave in Surrogate-Key, Xkey or Cache-Tag.
	Tags []string `json:"tags,omitempty"`
	// Sets are paths of files of which those are meant that change together with
	// them ("/repo/stable/summary").
	Sets []string `json:"sets,omitempty"`
	// Everything purges all that the site has.
	Everything bool `json:"everything,omitempty"`
	// Hard: what is purged is never used again. Otherwise it is asked for again
	// before its next use, and used while the origin cannot be asked.
	Hard bool `json:"hard,omitempty"`
	// DryRun changes nothing and tells what would be purged. Count tells how
	// much. Both look at every stored answer, which takes time in a large store.
	DryRun bool `json:"dry_run,omitempty"`
	Count  bool `json:"count,omitempty"`
}

// PurgeResult is the answer to a purge.
type PurgeResult struct {
	// Mode is "soft", "hard" or "dry-run".
	Mode string `json:"mode"`
	// Sites are those it was for.
	Sites []string `json:"sites"`
	// Entries is how many stored answers it met; -1 if they were not counted.
	Entries int `json:"entries"`
	// Sample are URLs of the first of them, in a dry run.
	Sample []string `json:"sample,omitempty"`
}

// WarmRequest says what to fetch. What is stored and fresh is left alone.
type WarmRequest struct {
	// Site is the name of the site. Empty: "default", and for a URL with a host
	// the site of it.
	Site string `json:"site,omitempty"`
	// URLs are paths with their query, or whole URLs.
	URLs []string `json:"urls,omitempty"`
	// Repo is the path of an OSTree repository ("/repo/stable"), Refs are refs
	// of it, or commits (64 hexadecimal digits). Fetched is all that a client
	// needs to pull one: metadata and every object.
	Repo string   `json:"repo,omitempty"`
	Refs []string `json:"refs,omitempty"`
	// Deltas fetches the static delta of a ref's commit instead of its objects:
	// the one from From, a commit, or from nothing. If there is none, the
	// objects are fetched.
	Deltas bool   `json:"deltas,omitempty"`
	From   string `json:"from,omitempty"`
	// Rate bounds the bytes per second taken from the origin for this; 0: no
	// bound. A body that a client waits for as well comes at full speed.
	Rate int64 `json:"rate,omitempty"`
	// Parallel is how many fetches are under way at once, up to 64; 8 if 0.
	Parallel int `json:"parallel,omitempty"`
}

// WarmProgress is a line of the answer to a [WarmRequest]. They come a few
// times a second, and with each failure.
type WarmProgress struct {
	// Done of Total objects are settled. Total grows while refs are read.
	Done  int `json:"done"`
	Total int `json:"total"`
	// Stored were there already, Fetched came from the origin, Failed are not
	// in the store now.
	Stored  int `json:"stored"`
	Fetched int `json:"fetched"`
	Failed  int `json:"failed"`
	// Bytes came from the origin.
	Bytes int64 `json:"bytes"`
	// Failure is about one object, if it is set.
	Failure *WarmFailure `json:"failure,omitempty"`
	// End is true in the last line. A stream without it was cut.
	End bool `json:"end,omitempty"`
}

// WarmFailure tells of an object that is not in the store after all.
type WarmFailure struct {
	// URL is the path of the object; the ref, if the reason is unknown_ref.
	URL string `json:"url"`
	// Status is that of the answer, 0 if there was none. Reason is one word.
	Status int    `json:"status,omitempty"`
	Reason string `json:"reason"`
}

// Error is the body of an answer that is no success.
type Error struct {
	Status int `json:"status"`
	// Reason is one word: unauthorized, forbidden, bad_request, store_full,
	// internal.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return fmt.Sprintf("edge: %s (%d %s)", e.Message, e.Status, e.Reason) }
