package lists

import (
	"cmp"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"freshet/internal/metalink"
	"freshet/internal/mirrorlist"
)

// Answer is what a request is answered with. Its memory is used again by the next call
// of [Answer.Make]; the zero value is ready for the first one. It is for one goroutine
// at a time.
type Answer struct {
	// Status is that of HTTP.
	Status int
	// Type is the content type, "" for none.
	Type string
	// Location is where the client is sent to, if it is.
	Location []byte
	// Body is what follows the head.
	Body []byte
	// Reason is why there is no list, "" if there is one.
	Reason Reason
	// Best is by which rule the first mirror was found.
	Best Step

	// Counted says that the request is one for the statistics: it names a repository
	// and an architecture, and its client is known.
	Counted bool
	// Sender is where the request came from, not valid if that is not known.
	Sender netip.Addr
	// Client is who is given mirrors: the sender, or whom the request names. Country is
	// where that is, "" if it is not known.
	Client  netip.Addr
	Country string
	// Repo and Arch are what was asked for.
	Repo, Arch string

	data     *Data // of which all below is
	metalink bool
	target   target
	comment  metalink.Comment
	choice   choice
	public   marks
	urls     []metalink.URL
	versions []metalink.Version
}

// Media types of answers.
const (
	typeList     = "text/plain"
	typeMetalink = metalink.TypeV3
)

// Make makes the answer to a request.
func (a *Answer) Make(d *Data, r *Request) {
	if a.data != d { // nothing of the other is to be held
		*a = Answer{data: d, Location: a.Location, Body: a.Body}
	}
	a.Status, a.Type, a.Location, a.Body = http.StatusOK, "", a.Location[:0], a.Body[:0]
	a.Reason, a.Best, a.Counted, a.Client, a.Country = "", Nowhere, false, netip.Addr{}, ""
	a.Sender, _ = d.sender(r)
	path, raw, _ := strings.Cut(r.Target, "?")
	a.metalink = strings.HasSuffix(path, "/metalink")
	if !a.metalink && !strings.HasSuffix(path, "/mirrorlist") {
		a.fail(d, UnknownEndpoint, r.Now)
		return
	}
	q := parseQuery(raw)
	if !d.opt.Strict {
		q.country.value, q.protocol.value = decoded(q.country.value), decoded(q.protocol.value)
	}
	a.Repo, a.Arch = q.repo.value, q.arch.value
	if why := a.make(d, r, &q); why != "" {
		a.fail(d, why, r.Now)
	}
}

// make makes the answer, or says why not.
func (a *Answer) make(d *Data, r *Request, q *query) (why Reason) {
	if a.target, why = a.resolve(d, q); why != "" {
		return why
	}
	who, ok := a.identify(d, r, q.ip.value)
	if !ok {
		return BadAddress
	}
	a.Counted = q.repo.given && q.arch.given
	var versions []mirrorlist.Version
	if a.metalink {
		if versions = a.versionsOf(d); len(versions) == 0 {
			return NoMetalink
		}
	}
	a.choice.choose(d, a.target.dir, who, q, &a.comment, r.Seed)
	a.Best = a.choice.best
	a.makeURLs(d, q)
	switch {
	case a.metalink:
		a.writeMetalink(versions, r.Now)
	case q.redirect:
		return a.redirect(d.opt.PreferHTTPS)
	default:
		a.writeList(d, q)
	}
	return ""
}

// versionsOf is what is known of the file that is asked for.
func (a *Answer) versionsOf(d *Data) []mirrorlist.Version {
	t := &a.target
	versions := d.Snapshot.Versions(t.name, t.file)
	if plain := decoded(t.file); len(versions) == 0 && !d.opt.Strict && plain != t.file {
		if versions = d.Snapshot.Versions(t.name, plain); len(versions) > 0 {
			t.file = plain
		}
	}
	return versions
}

// writeList writes a list of mirrors.
func (a *Answer) writeList(d *Data, q *query) {
	if q.protocol.given {
		a.comment.Protocol(q.protocol.value)
	}
	var created int64
	if q.time {
		created = int64(d.Snapshot.Time())
	}
	a.Type = typeList
	a.Body = metalink.AppendMirrorlist(a.Body, &a.comment, created, a.urls)
}

// writeMetalink writes a metalink of the versions of a file.
func (a *Answer) writeMetalink(versions []mirrorlist.Version, now time.Time) {
	a.versions = a.versions[:0]
	for _, v := range versions {
		a.versions = append(a.versions, metalink.Version(v))
	}
	a.Type = typeMetalink
	a.Body = metalink.AppendV3(a.Body, now, &metalink.File{Name: a.target.file, Versions: a.versions, URLs: a.urls})
}

// redirect sends the client to the first mirror that has a URL for it.
func (a *Answer) redirect(preferHTTPS bool) Reason {
	a.Type = typeList
	var to *metalink.URL
	for i := range a.urls {
		u := &a.urls[i]
		if to != nil && u.Priority != to.Priority {
			break // it is of another mirror
		}
		switch {
		case hasScheme(u.Base, "https") && (to == nil || preferHTTPS && !hasScheme(to.Base, "https")),
			hasScheme(u.Base, "http") && to == nil:
			to = u
		}
	}
	if to == nil {
		return NoMirror
	}
	a.Status = http.StatusFound
	a.Location = metalink.AppendURL(a.Location, to)
	return ""
}

// fail makes the answer that says why there is no list. What it says is a part of the
// protocol.
func (a *Answer) fail(d *Data, why Reason, now time.Time) {
	a.Reason = why
	text, more := "", []byte(nil)
	switch why {
	case UnknownEndpoint:
		a.Status, a.Body = http.StatusNotFound, append(a.Body, "We don't serve their kind here!"...)
		return
	case NoDirectory:
		a.Status, a.Body = http.StatusInternalServerError, append(a.Body, "mirrorlist cache index out of range, you broke it!"...)
		return
	case NoMirror:
		a.Status, a.Type = http.StatusNotFound, typeList
		return
	case MissingParameter:
		text = "# either path=, or repo= and arch= must be specified"
	case RepoDisabled:
		text = "repo disabled"
	case UnknownPath:
		a.Status, text = http.StatusNotFound, "error: invalid path"
	case UnknownRepo:
		a.Status, text, more = http.StatusNotFound, string(a.comment.Bytes())+"error: invalid repo or arch", d.available
	case BadAddress:
		a.Status, text = http.StatusInternalServerError, "Cannot parse client IP address. Aborting."
	case NoMetalink:
		a.Status, text = http.StatusNotFound, a.target.name+"/"+a.target.file+" not found or has not metalink"
	}
	if a.metalink {
		if more != nil {
			more = d.inXML
		}
		a.Type = typeMetalink
		a.Body = metalink.AppendFailure(a.Body, now, text, more)
		return
	}
	a.Body = append(a.Body, text...)
	if more != nil {
		a.Body = append(append(a.Body, '\n'), more...)
	}
}

// AppendLine appends the line of the request in the log of which MirrorManager makes
// its statistics. It is there for requests that are Counted.
func (a *Answer) AppendLine(to []byte, now time.Time) []byte {
	to = append(to, "IP: "...)
	to = a.Client.AppendTo(to)
	to = append(to, "; DATE: "...)
	to = now.UTC().AppendFormat(to, time.DateOnly)
	to = append(to, "; COUNTRY: "...)
	to = append(to, cmp.Or(a.Country, "N/A")...)
	to = append(append(to, "; REPO: "...), a.Repo...)
	to = append(append(to, "; ARCH: "...), a.Arch...)
	return append(to, '\n')
}
