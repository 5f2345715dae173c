package redirect

import (
	"net/netip"
	"strings"
)

// form is what is asked about a path.
type form uint8

const (
	asFile form = iota
	asMetalink4
	asMetalink3
	asSHA256
	asPage   // of mirrors, for people
	asJSON   // the same, for programs
	asLines  // a URL on each line: dnf, zypper, ostree
	asPacman // Server = URL
	asAPT    // URL, tab, priority
)

// Media types.
const (
	typeText    = "text/plain; charset=utf-8"
	typeJSON    = "application/json"
	acceptV4    = "application/metalink4+xml"
	acceptHTML  = "text/html"
	paramList   = "mirrorlist"
	paramWhy    = "why"
	suffixV4    = ".meta4"
	suffixV3    = ".metalink"
	suffixSHA   = ".sha256"
	linePacman  = "/$repo/os/$arch"
	https       = "https"
	schemeHTTPS = https + "://"
)

// question is what the part of a target behind the question mark asks.
type question struct {
	form   form
	why    bool       // tell also of those that are excluded
	https  bool       // only URLs with it
	http   bool       // only URLs without
	client netip.Addr // somebody else who is asked for; not valid: nobody is
	server string     // what pacman puts behind the URL
}

// parseQuestion reads the parameters. It returns the word for what is wrong. What
// is not known is passed over: a file may be asked for with anything behind its name.
func parseQuestion(raw, accept string) (q question, why Reason) {
	asked := false
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		name, value, _ := strings.Cut(pair, "=")
		if strings.Contains(value, "%") {
			var ok bool
			if value, ok = unescape(value); !ok {
				return q, BadQuery
			}
		}
		switch name {
		case paramList, paramWhy:
			asked = true
			q.why = q.why || name == paramWhy
			if q.form, why = listForm(value, accept); why != "" {
				return q, why
			}
		case "protocol":
			q.https, q.http = value == https, value == "http"
		case "ip":
			addr, err := netip.ParseAddr(value)
			if err != nil || addr.Zone() != "" {
				return q, BadAddress
			}
			q.client = addr.Unmap()
		case "server":
			q.server = value
		}
	}
	if !asked {
		q.client, q.server = netip.Addr{}, "" // they are parameters of lists
	}
	return q, ""
}

// listForm is the form of a list that has a name, or for a client that did not say but
// by what it accepts.
func listForm(name, accept string) (form, Reason) {
	switch name {
	case "":
		switch {
		case strings.Contains(accept, acceptHTML):
			return asPage, ""
		case strings.Contains(accept, typeJSON):
			return asJSON, ""
		}
		return asLines, ""
	case "html":
		return asPage, ""
	case "json":
		return asJSON, ""
	case "text":
		return asLines, ""
	case "pacman":
		return asPacman, ""
	case "apt":
		return asAPT, ""
	}
	return asFile, BadQuery
}

// documentOf tells which document about which file a path names.
func documentOf(path string) (file string, f form) {
	for _, s := range [...]struct {
		suffix string
		form   form
	}{{suffixV4, asMetalink4}, {suffixV3, asMetalink3}, {suffixSHA, asSHA256}} {
		if file, ok := strings.CutSuffix(path, s.suffix); ok && file != "" && !strings.HasSuffix(file, "/") {
			return file, s.form
		}
	}
	return path, asFile
}
