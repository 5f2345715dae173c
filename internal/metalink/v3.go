package metalink

import (
	"strconv"
	"strings"
	"time"
)

// The namespaces of version 3 and of MirrorManager's additions to it.
const (
	namespaceV3 = "http://www.metalinker.org/"
	namespaceMM = "http://fedorahosted.org/mirrormanager"
)

// AppendV3 appends a metalink of version 3 for one file, made at now, as
// MirrorManager writes it: librepo knows its additions by the prefix "mm0".
func AppendV3(dst []byte, now time.Time, f *File) []byte {
	dst = appendRootV3(dst, now)
	dst = append(dst, " <files>\n  <file name=\""...)
	dst = appendXML(dst, f.Name)
	dst = append(dst, "\">\n"...)
	if len(f.Versions) > 0 {
		dst = appendVersionV3(dst, "   ", &f.Versions[0])
	} else {
		dst = appendVersionV3(dst, "   ", &Version{})
	}
	if len(f.Versions) > 1 {
		dst = append(dst, "   <mm0:alternates>\n"...)
		for i := range f.Versions[1:] {
			dst = append(dst, "    <mm0:alternate>\n"...)
			dst = appendVersionV3(dst, "      ", &f.Versions[1+i])
			dst = append(dst, "    </mm0:alternate>\n"...)
		}
		dst = append(dst, "   </mm0:alternates>\n"...)
	}
	dst = append(dst, "   <resources maxconnections=\"1\">\n"...)
	for i := range f.URLs {
		dst = appendURLV3(dst, &f.URLs[i])
	}
	return append(dst, "   </resources>\n  </file>\n </files>\n</metalink>\n"...)
}

// AppendFailure appends the document of version 3 that says why there is no
// metalink: without a file, the reason in a comment. The message is made fit for
// one. The lines of list follow it as they are: they have been through
// [AppendComment] before, once for many answers.
func AppendFailure(dst []byte, now time.Time, message string, list []byte) []byte {
	dst = appendRootV3(dst, now)
	dst = append(dst, "<!-- "...)
	dst = AppendComment(dst, message)
	dst = append(dst, '\n')
	dst = append(dst, list...)
	return append(dst, "-->\n</metalink>\n"...)
}

func appendRootV3(dst []byte, now time.Time) []byte {
	dst = append(dst, `<?xml version="1.0" encoding="utf-8"?>`+"\n"+
		`<metalink version="3.0" xmlns="`+namespaceV3+`" type="dynamic" pubdate="`...)
	dst = now.UTC().AppendFormat(dst, "Mon, 02 Jan 2006 15:04:05 GMT")
	return append(dst, `" generator="mirrormanager" xmlns:mm0="`+namespaceMM+`">`+"\n"...)
}

func appendVersionV3(dst []byte, indent string, v *Version) []byte {
	if v.Timestamp != 0 {
		dst = appendNumber(dst, indent, "mm0:timestamp", v.Timestamp)
	}
	if v.Size != 0 {
		dst = appendNumber(dst, indent, "size", v.Size)
	}
	dst = append(append(dst, indent...), "<verification>\n"...)
	for _, h := range [...]struct{ kind, hex string }{
		{"md5", v.MD5}, {"sha1", v.SHA1}, {"sha256", v.SHA256}, {"sha512", v.SHA512},
	} {
		if h.hex != "" {
			dst = appendHash(append(dst, indent...), h.kind, h.hex)
		}
	}
	return append(append(dst, indent...), "</verification>\n"...)
}

// appendHash appends the element of a hash, which is one step further in than
// what surrounds it.
func appendHash(dst []byte, kind, hex string) []byte {
	dst = append(dst, ` <hash type="`...)
	dst = append(dst, kind...)
	dst = append(dst, '"', '>')
	dst = appendXML(dst, hex)
	return append(dst, "</hash>\n"...)
}

func appendNumber(dst []byte, indent, name string, value uint64) []byte {
	dst = append(append(append(append(dst, indent...), '<'), name...), '>')
	dst = strconv.AppendUint(dst, value, 10)
	return append(append(append(dst, "</"...), name...), '>', '\n')
}

func appendURLV3(dst []byte, u *URL) []byte {
	scheme, _, _ := strings.Cut(u.Base, ":")
	dst = append(dst, `    <url protocol="`...)
	dst = appendXML(dst, scheme)
	dst = append(dst, `" type="`...)
	dst = appendXML(dst, scheme)
	dst = append(dst, `" location="`...)
	dst = appendXML(dst, u.Location)
	dst = append(dst, `" preference="`...)
	dst = strconv.AppendInt(dst, int64(preference(u.Priority)), 10)
	dst = append(dst, '"')
	if u.Private {
		dst = append(dst, ` mm0:private="True"`...)
	}
	dst = append(dst, '>')
	dst = appendXML(dst, u.Base)
	dst = appendXML(dst, u.Path)
	return append(dst, "</url>\n"...)
}

// preference is what version 3 has for a priority: 100 for the best, at least 1.
func preference(priority int) int { return max(1, min(100, 101-priority)) }
