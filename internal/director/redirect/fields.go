package redirect

import (
	"encoding/base64"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"freshet/internal/metalink"
)

// Fields are the fields of a head. The zero value has none.
type Fields struct {
	bytes []byte // all values, one behind the other
	marks []mark
}

// mark is the name of a field, and where its value begins.
type mark struct {
	name string
	from int
}

// All yields names and values, in order. A name may come more than once. The values are
// good until the next answer is made.
func (f *Fields) All() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for i, m := range f.marks {
			end := len(f.bytes)
			if i+1 < len(f.marks) {
				end = f.marks[i+1].from
			}
			if !yield(m.name, f.bytes[m.from:end]) {
				return
			}
		}
	}
}

// Get is the value of the first field of a name, "" if there is none.
func (f *Fields) Get(name string) string {
	for n, value := range f.All() {
		if n == name {
			return string(value)
		}
	}
	return ""
}

// AppendHead appends the fields as lines of an HTTP/1.1 head.
func (f *Fields) AppendHead(to []byte) []byte {
	for name, value := range f.All() {
		to = append(append(append(append(to, name...), ": "...), value...), "\r\n"...)
	}
	return to
}

func (f *Fields) reset() { f.bytes, f.marks = f.bytes[:0], f.marks[:0] }

// begin begins a field: what is added from here on is its value.
func (f *Fields) begin(name string) { f.marks = append(f.marks, mark{name, len(f.bytes)}) }

func (f *Fields) text(s string)        { f.bytes = append(f.bytes, s...) }
func (f *Fields) path(p string)        { f.bytes = appendPath(f.bytes, p) }
func (f *Fields) add(name, val string) { f.begin(name); f.text(val) }

// maxLinks is how many places the head of a redirect names. Clients bound the length of
// a head, and who wants all of them takes the metalink.
const maxLinks = 8

// linkFields tell of the other places of the file, of its metalink and of its hash.
func (a *Answer) linkFields() {
	a.scratch = appendPath(a.scratch[:0], a.Query.Path)
	path := a.scratch
	n := 0
	for i := range a.Query.Picks {
		if n == maxLinks {
			break
		}
		n++
		p := &a.Query.Picks[i]
		a.link(p.Root, path, n, p.Mirror.Country)
	}
	if root := a.origin(); root != "" {
		a.link(root, path, n+1, "")
	}
	a.Fields.begin("Link")
	a.Fields.text("<")
	a.Fields.text(a.project.Path)
	a.Fields.bytes = append(a.Fields.bytes, path...)
	a.Fields.text(suffixV4 + `>; rel=describedby; type="` + metalink.TypeV4 + `"`)
	a.hashFields()
}

// link names one place (RFC 6249 §3).
func (a *Answer) link(root string, path []byte, pri int, country string) {
	f := &a.Fields
	f.begin("Link")
	f.text("<")
	f.text(root)
	f.bytes = append(f.bytes, path...)
	f.text(">; rel=duplicate; pri=")
	f.bytes = strconv.AppendInt(f.bytes, int64(pri), 10)
	if len(country) == 2 {
		f.text("; geo=")
		f.bytes = append(f.bytes, country[0]|0x20, country[1]|0x20)
	}
}

// hashFields tell the hash of the whole file (RFC 9530 §3, and RFC 3230 for those who
// know but that).
func (a *Answer) hashFields() {
	if !a.file.HasSHA256 {
		return
	}
	f := &a.Fields
	f.begin("Repr-Digest")
	f.text("sha-256=:")
	f.bytes = base64.StdEncoding.AppendEncode(f.bytes, a.file.SHA256[:])
	f.text(":")
	f.begin("Digest")
	f.text("SHA-256=")
	f.bytes = base64.StdEncoding.AppendEncode(f.bytes, a.file.SHA256[:])
}

// cacheFields say for how long the answer may be kept, and by whom: by the client
// alone, since it is made for where that is.
func (a *Answer) cacheFields() {
	if a.known && !a.file.Mutable {
		a.Fields.add("Cache-Control", "private, max-age=30")
	} else {
		a.Fields.add("Cache-Control", "private, no-store")
	}
	a.Fields.add("Vary", "Accept, X-Forwarded-For, X-Forwarded-Proto")
}

// isNotModified reports whether the client has the current version already. It has been
// given its validators by a mirror, and mirrors make them each in their way: a time is
// one only if it is just that of the origin's file, since a mirror that does not keep
// times has later ones for what is older.
func (a *Answer) isNotModified(r *Request) bool {
	if r.IfNoneMatch != "" {
		return a.matches(r.IfNoneMatch)
	}
	if r.IfModifiedSince == "" || !a.file.isDated() {
		return false
	}
	since, err := http.ParseTime(r.IfModifiedSince)
	return err == nil && since.Equal(a.file.ModTime.Truncate(time.Second))
}

// matches reports whether a list of entity tags has one that belongs to the file: our
// own, which is the hash, or that of nginx and lighttpd's kind, which is made of time and
// length.
func (a *Answer) matches(list string) bool {
	for tag := range strings.SplitSeq(list, ",") {
		tag = strings.TrimPrefix(strings.Trim(tag, " \t"), "W/")
		if len(tag) < 2 || tag[0] != '"' || tag[len(tag)-1] != '"' {
			continue
		}
		if a.file.isTag(tag[1 : len(tag)-1]) {
			return true
		}
	}
	return false
}

// isTag reports whether an entity tag can be of no other version.
func (f *File) isTag(tag string) bool {
	var b [80]byte
	if f.HasSHA256 && tag == string(appendHex(b[:0], f.SHA256[:])) {
		return true
	}
	if !f.isDated() {
		return false
	}
	t := strconv.AppendInt(b[:0], f.ModTime.Unix(), 16)
	t = strconv.AppendInt(append(t, '-'), f.Size, 16)
	return tag == string(t)
}

// isDated reports whether time and length tell one version from the other: those of a
// mutable file may be those of a moment ago.
func (f *File) isDated() bool { return !f.Mutable && !f.ModTime.IsZero() && f.Size >= 0 }

func appendHex(to, b []byte) []byte {
	const hex = "0123456789abcdef"
	for _, c := range b {
		to = append(to, hex[c>>4], hex[c&15])
	}
	return to
}
