package redirect

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"freshet/api/directorapi"
	"freshet/internal/metalink"
)

// maxPlaces is how many mirrors a list or a metalink names.
const maxPlaces = 60

// sum makes the line that sha256sum -c reads.
func (a *Answer) sum() {
	if !a.file.HasSHA256 {
		a.refuse(http.StatusNotFound, NoHash)
		return
	}
	a.document(typeText)
	a.Body = appendHex(a.Body, a.file.SHA256[:])
	a.Body = append(append(append(a.Body, "  "...), path.Base(a.Query.Path)...), '\n')
}

// metalink makes a metalink of the file.
func (a *Answer) metalink(r *Request, f form) {
	a.data.network.Choose(&a.Query)
	a.makeURLs()
	v := &a.version[0]
	*v = metalink.Version{Size: uint64(max(a.file.Size, 0))}
	if !a.file.ModTime.IsZero() {
		v.Timestamp = uint64(max(a.file.ModTime.Unix(), 0))
	}
	if a.file.HasSHA256 {
		v.SHA256 = hex.EncodeToString(a.file.SHA256[:])
	}
	file := metalink.File{Name: path.Base(a.Query.Path), Versions: a.version[:], URLs: a.urls}
	if f == asMetalink3 {
		a.document(metalink.TypeV3)
		a.Body = metalink.AppendV3(a.Body, r.Now, &file)
	} else {
		a.document(metalink.TypeV4)
		a.Body = metalink.AppendV4(a.Body, r.Now, &file)
	}
	if len(a.Query.Picks) > 0 {
		a.Tier = a.Query.Picks[0].Tier
	}
}

// nameMetalink names the metalink that is the answer to a request for the file itself: a
// client that keeps what it gets, as aria2 does, would give it the name of the file, and
// the file another one.
func (a *Answer) nameMetalink() {
	name := url.QueryEscape(path.Base(a.Query.Path) + suffixV4) // of letters, digits, "-._~", "+" and "%"
	a.Fields.add("Content-Disposition", "attachment; filename*=UTF-8''"+strings.ReplaceAll(name, "+", "%20"))
}

// document begins an answer with a body about the file.
func (a *Answer) document(kind string) {
	a.Status, a.Outcome = http.StatusOK, Document
	a.Fields.add("Content-Type", kind)
	a.cacheFields()
}

// makeURLs makes the URLs of the path at all places, the origin's last.
func (a *Answer) makeURLs() {
	a.scratch = appendPath(a.scratch[:0], a.Query.Path)
	escaped := string(a.scratch)
	a.urls = a.urls[:0]
	for i := range a.Query.Picks {
		p := &a.Query.Picks[i]
		if p.Excluded != "" {
			continue
		}
		if len(a.urls) == maxPlaces {
			break
		}
		a.urls = append(a.urls, metalink.URL{Base: p.Root, Path: escaped, Location: p.Mirror.Country, Priority: len(a.urls) + 1})
	}
	if root := a.origin(); root != "" {
		a.urls = append(a.urls, metalink.URL{Base: root, Path: escaped, Priority: len(a.urls) + 1})
	}
}

// list makes a list of the mirrors that have the file, or all of the folder.
func (a *Answer) list(q *question) {
	a.data.network.Choose(&a.Query)
	a.makeURLs()
	if len(a.Query.Picks) > 0 && a.Query.Picks[0].Excluded == "" {
		a.Tier = a.Query.Picks[0].Tier
	}
	switch q.form {
	case asPage:
		a.Page = a.why()
		a.listing("text/html; charset=utf-8")
	case asJSON:
		a.listing(typeJSON)
		text, err := json.MarshalIndent(a.why(), "", "  ")
		if err != nil { // of strings and numbers there is none
			a.refuse(http.StatusBadRequest, BadQuery)
			return
		}
		a.Body = append(append(a.Body, text...), '\n')
	default:
		a.listing(typeText)
		a.lines(q)
	}
}

func (a *Answer) listing(kind string) {
	a.Status, a.Outcome = http.StatusOK, List
	a.Fields.add("Content-Type", kind)
	a.Fields.add("Cache-Control", "private, no-store")
	a.Fields.add("Vary", "Accept, X-Forwarded-For, X-Forwarded-Proto")
}

// lines writes a URL on each line, in the way that a program reads it.
func (a *Answer) lines(q *question) {
	for i := range a.urls {
		u := &a.urls[i]
		if q.form == asPacman {
			a.Body = append(a.Body, "Server = "...)
		}
		a.Body = metalink.AppendURL(a.Body, u)
		if q.form == asPacman {
			a.Body = append(bytes.TrimSuffix(a.Body, []byte("/")), a.behind(q)...)
		}
		if q.form == asAPT {
			a.Body = append(a.Body, "\tpriority:"...)
			a.Body = strconv.AppendInt(a.Body, int64(u.Priority), 10)
		}
		a.Body = append(a.Body, '\n')
	}
	if q.why {
		a.reasons()
	}
}

// behind is what pacman finds a repository by below the URL of a server: what the request
// says, or what Arch has, if it is for the whole project.
func (a *Answer) behind(q *question) string {
	switch {
	case q.server != "":
		return "/" + strings.TrimPrefix(q.server, "/")
	case a.Query.Path == "":
		return linePacman
	}
	return ""
}

// reasons writes comments about each mirror.
func (a *Answer) reasons() {
	for i := range a.Query.Picks {
		p := &a.Query.Picks[i]
		a.Body = append(append(a.Body, "# "...), p.Mirror.Name...)
		if p.Excluded != "" {
			a.Body = append(append(a.Body, ": not used: "...), p.Excluded...)
			if p.Detail != "" {
				a.Body = append(append(a.Body, ": "...), oneLine(p.Detail)...)
			}
			a.Body = append(a.Body, '\n')
			continue
		}
		a.Body = append(append(a.Body, ": "...), p.Tier...)
		if p.Kilometres >= 0 {
			a.Body = append(a.Body, ", "...)
			a.Body = strconv.AppendFloat(a.Body, p.Kilometres, 'f', 0, 64)
			a.Body = append(a.Body, " km"...)
		}
		a.Body = append(a.Body, ", score "...)
		a.Body = strconv.AppendFloat(a.Body, p.Score, 'g', 3, 64)
		a.Body = append(a.Body, '\n')
	}
}

// oneLine is text without what would end a line.
func oneLine(s string) []byte {
	return bytes.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, []byte(s))
}

// why is the answer as a document: what a request for the path would be answered with,
// and what speaks for and against each mirror.
func (a *Answer) why() *directorapi.Why {
	q := &a.Query
	escaped := string(appendPath(nil, q.Path))
	w := &directorapi.Why{
		Path: a.project.Path + q.Path, Project: a.project.Name, Mirrors: []directorapi.WhyMirror{},
		Client: directorapi.WhyClient{Country: q.Country, ASN: q.ASN},
	}
	if q.Client.IsValid() {
		w.Client.Address = q.Client.String()
	}
	if a.known {
		w.File = &directorapi.WhyFile{Size: a.file.Size, ModTime: a.file.ModTime, Mutable: a.file.Mutable}
		if a.file.HasSHA256 {
			w.File.SHA256 = hex.EncodeToString(a.file.SHA256[:])
		}
	}
	for i := range q.Picks {
		p := &q.Picks[i]
		m := directorapi.WhyMirror{
			Mirror: p.Mirror.Name, Site: p.Mirror.Site, Country: p.Mirror.Country, Tier: p.Tier, Score: p.Score,
			Distance: p.Kilometres, Excluded: p.Excluded, Detail: p.Detail, Since: p.Since,
		}
		if p.Excluded == "" {
			m.URL = p.Root + escaped
		}
		w.Mirrors = append(w.Mirrors, m)
	}
	slices.SortStableFunc(w.Mirrors, func(x, y directorapi.WhyMirror) int {
		switch {
		case x.Excluded == "" && y.Excluded == "":
			return 0
		case x.Excluded == "":
			return -1
		case y.Excluded == "":
			return 1
		}
		return strings.Compare(x.Mirror, y.Mirror)
	})
	a.verdict(w, escaped)
	return w
}

// verdict says in w where the client is sent.
func (a *Answer) verdict(w *directorapi.Why, escaped string) {
	w.Status, w.Reason = http.StatusFound, ToMirror.String()
	root := a.origin()
	switch {
	case !a.Query.IsFolder() && a.known && len(w.Mirrors) > 0 && w.Mirrors[0].URL != "":
		w.Location = w.Mirrors[0].URL
	case root != "":
		w.Reason, w.Location = ToOrigin.String(), root+escaped
	default:
		w.Status, w.Reason = http.StatusNotFound, string(NoPlace)
	}
}
