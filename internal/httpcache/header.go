package httpcache

import (
	"net/http" //nolint:depguard // its Header type, status names and dates
	"net/textproto"
	"slices"
	"strings"
)

// hopByHop are the fields that concern one connection only (RFC 9110 §7.6.1)
// and those of a proxy's own authentication (RFC 9111 §3.1).
func hopByHop() [11]string {
	return [...]string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization", "Http2-Settings",
	}
}

// RemoveHopByHop deletes from h what must not be forwarded: hop-by-hop fields
// and those that Connection names.
func RemoveHopByHop(h http.Header) {
	RemoveNamed(h)
	for _, name := range hopByHop() {
		delete(h, name)
	}
}

// RemoveNamed deletes from h the fields that Connection names: they are for
// this connection, whatever they are.
func RemoveNamed(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.CanonicalMIMEHeaderKey(strings.Trim(name, " \t")); name != "" && name != "Connection" {
				delete(h, name)
			}
		}
	}
}

// StoredHeader returns a copy of a response's fields as they may be stored
// (RFC 9111 §3.1): without hop-by-hop fields, without those a qualified
// private or no-cache names, and without Age, which is computed anew.
func StoredHeader(h http.Header, cc Directives) http.Header {
	out := h.Clone()
	RemoveHopByHop(out)
	delete(out, "Age")
	for _, fields := range [...][]string{cc.PrivateFields, cc.NoCacheFields} {
		for _, name := range fields {
			delete(out, name)
		}
	}
	return out
}

// Freshen returns the stored fields updated by those of a 304 response that
// validated it (RFC 9111 §3.2). Fields that describe the stored bytes stay.
func Freshen(stored, notModified http.Header, cc Directives) http.Header {
	out := stored.Clone()
	for name, values := range StoredHeader(notModified, cc) {
		switch name {
		case "Content-Length", "Content-Encoding", "Content-Range", "Content-Type", "Etag", "Content-Md5", "Content-Digest", "Repr-Digest":
			continue
		}
		out[name] = values
	}
	return out
}

// VaryFields returns the canonical names of the request fields that selected
// the response, sorted and without duplicates (RFC 9110 §12.5.5). any is true
// for "*": then no other request matches.
func VaryFields(h http.Header) (fields []string, any bool) {
	for _, line := range h["Vary"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.Trim(name, " \t")
			switch {
			case name == "*":
				return nil, true
			case isTokens(name):
				fields = append(fields, textproto.CanonicalMIMEHeaderKey(name))
			case name != "":
				return nil, true // unknown what was meant: match nothing
			}
		}
	}
	slices.Sort(fields)
	return slices.Compact(fields), false
}

// VaryKey is a string that is equal for two requests if and only if their
// values of the fields match (RFC 9111 §4.1): lines are combined and white
// space around commas does not count.
func VaryKey(fields []string, req http.Header) string {
	if len(fields) == 0 {
		return ""
	}
	var b strings.Builder
	for _, name := range fields {
		b.WriteString(name)
		lines, present := req[name]
		if !present {
			b.WriteByte(0)
		}
		for i, line := range lines {
			if i > 0 {
				b.WriteByte(',')
			} else {
				b.WriteByte(':')
			}
			for j, member := range strings.Split(line, ",") {
				if j > 0 {
					b.WriteByte(',')
				}
				b.WriteString(strings.Trim(member, " \t"))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Invalidates reports whether the answer to a request with the given method
// makes stored responses of the same URL invalid (RFC 9111 §4.4).
func Invalidates(method string, status int) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return false
	}
	return status >= 200 && status < 400
}
