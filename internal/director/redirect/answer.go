package redirect

import (
	"net/http"
	"net/netip"
	"strings"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/metalink"
)

// Request is what is asked, by whom, and when.
type Request struct {
	// Target is the target as it was sent: the path and, behind a question mark,
	// the parameters.
	Target string
	// Client is who asks.
	Client netip.Addr
	// HTTPS is whether the client came by it.
	HTTPS bool
	// Accept, IfNoneMatch and IfModifiedSince are the fields of these names; "":
	// there are none.
	Accept, IfNoneMatch, IfModifiedSince string
	// Part is whether less than the file is asked for: its head, or a range.
	Part bool
	// Now is the time.
	Now time.Time
}

// Reason is the word for why a request is not answered with a place or a list.
type Reason string

// Why.
const (
	BadPath        Reason = "bad_path"           // it has control characters or a broken "%", or is too long
	BadQuery       Reason = "bad_query"          // a parameter has a value that it cannot have
	BadAddress     Reason = "bad_client_address" // ip is no address
	UnknownProject Reason = "unknown_project"    // the path is in none
	UnknownFile    Reason = "unknown_file"       // nothing is known of which a document could be made
	NoHash         Reason = "no_hash"            // the hash of the file is not known
	NoPlace        Reason = "no_place"           // neither a mirror nor an origin can be used, with https for instance
)

// Outcome is what kind of answer was made, a word for metrics.
type Outcome uint8

// The outcomes.
const (
	ToMirror Outcome = iota
	ToOrigin
	NotModified
	Document // a metalink or a hash
	List     // of mirrors
	Refused
	NumOutcomes
)

// String is the word for the outcome in metrics and logs.
func (o Outcome) String() string {
	return [NumOutcomes]string{"mirror", "origin", "not_modified", "document", "list", "refused"}[o]
}

// Answer is what a request is answered with. Its memory is used again by the next call
// of [Answer.Make]; the zero value is ready for the first one. It is for one goroutine
// at a time.
type Answer struct {
	// Status is that of HTTP.
	Status int
	// Fields are fields of the head but Content-Length and Date.
	Fields Fields
	// Body is what follows the head.
	Body []byte
	// Page is to be shown instead of Body, as a page for people, if it is not nil.
	Page *directorapi.Why
	// Outcome is what kind of answer this is, and Reason why there is none, "" if
	// there is one.
	Outcome Outcome
	Reason  Reason
	// Mirror is the one that the client is sent to, nil if it is sent to none, and
	// Tier how near that counts as. Size is how long the file is, 0 if that is not
	// known.
	Mirror *Mirror
	Tier   string
	Size   int64
	// Asker is who asked, and Query tells of the client that it was asked for.
	Asker netip.Addr
	Query Query

	data    *Data
	project *Project
	file    File
	known   bool // the file
	scratch []byte
	urls    []metalink.URL
	version [1]metalink.Version
}

// Make makes the answer to a request.
func (a *Answer) Make(d *Data, r *Request) {
	a.reset(d)
	a.Asker = r.Client
	path, raw, _ := strings.Cut(r.Target, "?")
	q, why := parseQuestion(raw, r.Accept)
	clean, ok := cleanPath(path)
	if !ok {
		a.refuse(http.StatusBadRequest, BadPath)
		return
	}
	number, rest, ok := d.project(clean)
	switch {
	case !ok:
		a.refuse(http.StatusNotFound, UnknownProject)
		return
	case why != "":
		a.refuse(http.StatusBadRequest, why)
		return
	}
	a.project = &d.projects[number]
	a.Query.Project, a.Query.Path, a.Query.Now = number, rest, r.Now
	a.Query.HTTPS, a.Query.Explain = r.HTTPS || q.https, q.why
	a.Query.HTTP = q.http && !r.HTTPS
	if a.Query.Client = r.Client; q.client.IsValid() {
		a.Query.Client = q.client
	}
	a.make(r, &q)
}

// make makes the answer about a path of a project.
func (a *Answer) make(r *Request, q *question) {
	if a.find(q); q.form > asSHA256 {
		a.list(q)
		return
	}
	switch {
	case a.Query.IsFolder() || !a.known && q.form == asFile:
		a.toOrigin()
	case !a.known:
		a.refuse(http.StatusNotFound, UnknownFile)
	case q.form == asSHA256:
		a.sum()
	case q.form != asFile:
		a.metalink(r, q.form)
	case a.isNotModified(r):
		a.Status, a.Outcome = http.StatusNotModified, NotModified
		a.cacheFields()
	case strings.Contains(r.Accept, acceptV4):
		a.metalink(r, asMetalink4)
		a.nameMetalink()
	default:
		a.redirect()
	}
}

// find looks for the file, and if there is none for the one that a document is to be
// made of.
func (a *Answer) find(q *question) {
	if a.Query.IsFolder() {
		return
	}
	if a.file, a.known = a.data.network.File(a.Query.Project, a.Query.Path); a.known {
		return
	}
	if q.form != asFile {
		if !q.why { // the folder of this name is meant
			a.Query.Path += "/"
		}
		return
	}
	base, f := documentOf(a.Query.Path)
	if f == asFile {
		return
	}
	if a.file, a.known = a.data.network.File(a.Query.Project, base); a.known {
		a.Query.Path, q.form = base, f
	}
}

// redirect sends the client to the best mirror, or to the origin if there is none.
func (a *Answer) redirect() {
	a.Query.Most = maxLinks
	a.data.network.Choose(&a.Query)
	a.Size = max(a.file.Size, 0)
	if len(a.Query.Picks) == 0 {
		a.toOrigin()
		return
	}
	best := &a.Query.Picks[0]
	a.Outcome, a.Mirror, a.Tier = ToMirror, best.Mirror, best.Tier
	a.sendTo(best.Root)
	a.linkFields()
}

// toOrigin sends the client to the origin.
func (a *Answer) toOrigin() {
	root := a.origin()
	if root == "" {
		a.refuse(http.StatusNotFound, NoPlace)
		return
	}
	a.Outcome, a.Tier = ToOrigin, "origin"
	a.sendTo(root)
	if a.known {
		a.linkFields()
	}
}

// origin is the root at the origin that the client may be sent to, "" if there is none.
func (a *Answer) origin() string {
	for _, root := range a.project.Origins {
		if !a.Query.HTTPS || strings.HasPrefix(root, schemeHTTPS) {
			return root
		}
	}
	return ""
}

// sendTo makes the answer that sends the client to the path below a root.
func (a *Answer) sendTo(root string) {
	a.Status = http.StatusFound
	a.Fields.begin("Location")
	a.Fields.text(root)
	a.Fields.path(a.Query.Path)
	a.cacheFields()
}

// refuse makes the answer that says why there is none.
func (a *Answer) refuse(status int, why Reason) {
	a.Status, a.Reason, a.Outcome = status, why, Refused
	a.Fields.reset()
	a.Fields.add("Content-Type", typeText)
	a.Body = append(append(a.Body[:0], explain(why)...), '\n')
}

// explain says in a sentence what a word means.
func explain(why Reason) string {
	switch why {
	case BadPath:
		return `The path has control characters or a "%" without two digits behind it, or is too long.`
	case BadQuery:
		return "A parameter has a value that is not understood: mirrorlist and why take html, json, text, pacman and apt."
	case BadAddress:
		return "The value of ip is no address."
	case UnknownProject:
		return "No project has this path. What there is here: /-/"
	case UnknownFile:
		return "No such file is known here."
	case NoHash:
		return "The file is known, but not its hash: ask for it without .sha256, or have the origin's files hashed."
	case NoPlace:
		return "Neither a mirror nor an origin can be used for this client, by https for instance."
	}
	return string(why)
}

// reset makes a ready for the next answer.
func (a *Answer) reset(d *Data) {
	if a.data != d { // nothing of the other is to be held
		clear(a.Query.Picks[:cap(a.Query.Picks)])
		clear(a.urls[:cap(a.urls)])
	}
	a.data, a.project = d, nil
	a.Status, a.Body, a.Page = 0, a.Body[:0], nil
	a.Outcome, a.Reason, a.Mirror, a.Tier, a.Size = 0, "", nil, "", 0
	a.Query = Query{Picks: a.Query.Picks[:0]}
	a.file, a.known = File{}, false
	a.Fields.reset()
}
