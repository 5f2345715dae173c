package lists

import (
	"strings"

	"freshet/internal/metalink"
	"freshet/internal/mirrorlist"
)

// makeURLs makes the URLs of the mirrors that were chosen. If none is of a protocol that
// was asked for, or that fits a list, it is as if none had been asked for.
func (a *Answer) makeURLs(d *Data, q *query) {
	if a.metalink {
		a.public.begin(d.Snapshot.NumHosts())
		for _, h := range a.target.dir.Global() {
			a.public.mark(h)
		}
	}
	w := urlWriter{a: a, s: d.Snapshot, path: a.target.path()}
	switch {
	case q.protocol.given:
		w.protocols = shortened(q.protocol.value)
		w.most = countDistinct(w.protocols)
	case !a.metalink && !q.redirect:
		w.protocols, w.most, w.preferHTTPS = "https,http,ftp", 1, d.opt.PreferHTTPS
	default:
		w.all = true
	}
	if w.write(); len(a.urls) == 0 && !w.all {
		w.all = true
		w.write()
	}
}

// urlWriter writes the URLs of mirrors.
type urlWriter struct {
	a    *Answer
	s    *mirrorlist.Snapshot
	path string // behind each base

	all         bool   // URLs of all protocols
	protocols   string // otherwise of these, with commas between them
	most        int    // and so many of each mirror
	preferHTTPS bool   // when that is one
}

// write writes the URLs of all mirrors that have any.
func (w *urlWriter) write() {
	w.a.urls = w.a.urls[:0]
	place := 1
	for _, h := range w.a.choice.hosts {
		bases, _ := w.a.target.dir.URLs(h)
		before := len(w.a.urls)
		if w.mirror(h, bases, place); len(w.a.urls) > before {
			place++
		}
	}
}

// mirror writes those URLs of a mirror that are wanted.
func (w *urlWriter) mirror(h mirrorlist.Host, bases []mirrorlist.URL, place int) {
	if w.preferHTTPS {
		for _, u := range bases {
			if base := w.s.URL(u); hasScheme(base, "https") {
				w.url(h, base, place)
				return
			}
		}
	}
	n := 0
	for _, u := range bases {
		base := w.s.URL(u)
		if !w.all && (n == w.most || !hasProtocol(base, w.protocols)) {
			continue
		}
		w.url(h, base, place)
		n++
	}
}

func (w *urlWriter) url(h mirrorlist.Host, base string, place int) {
	path := w.path
	if w.a.target.file != "" && strings.HasSuffix(base, "/") && w.a.target.dir.Subpath() == "" {
		path = path[1:]
	}
	u := metalink.URL{Base: base, Path: path, Priority: place}
	if w.a.metalink {
		u.Location, u.Private = strings.ToUpper(w.s.HostCountry(h)), !w.a.public.has(h)
	}
	w.a.urls = append(w.a.urls, u)
}

// shortened bounds what a list of protocols, which is compared with each URL, costs.
func shortened(list string) string {
	const most = 256
	return list[:min(len(list), most)]
}

// hasScheme reports whether a URL has a scheme.
func hasScheme(url, scheme string) bool {
	return len(url) > len(scheme) && url[len(scheme)] == ':' && url[:len(scheme)] == scheme
}

// hasProtocol reports whether a URL is of one of the protocols in a list with commas.
func hasProtocol(url, protocols string) bool {
	for {
		one, rest, more := strings.Cut(protocols, ",")
		if hasScheme(url, one) {
			return true
		}
		if !more {
			return false
		}
		protocols = rest
	}
}

// countDistinct is how many different words are in a list with commas.
func countDistinct(list string) int {
	n := 0
	for rest, more := list, true; more; {
		var one string
		one, rest, more = strings.Cut(rest, ",")
		if !more || !hasWord(rest, one) {
			n++ // the last of its kind
		}
	}
	return n
}

// hasWord reports whether a word is in a list with commas.
func hasWord(list, word string) bool {
	for one := range strings.SplitSeq(list, ",") {
		if one == word {
			return true
		}
	}
	return false
}
