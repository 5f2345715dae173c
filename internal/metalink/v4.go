package metalink

import (
	"strconv"
	"time"
)

const namespaceV4 = "urn:ietf:params:xml:ns:metalink"

// AppendV4 appends a metalink of version 4 (RFC 5854) for one file, made at now.
// It tells of the newest version only, and of no private places.
func AppendV4(dst []byte, now time.Time, f *File) []byte {
	dst = append(dst, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
		`<metalink xmlns="`+namespaceV4+`">`+"\n <published>"...)
	dst = now.UTC().AppendFormat(dst, time.RFC3339)
	dst = append(dst, "</published>\n <file name=\""...)
	dst = appendXML(dst, f.Name)
	dst = append(dst, "\">\n"...)
	if len(f.Versions) > 0 {
		v := &f.Versions[0]
		if v.Size != 0 {
			dst = appendNumber(dst, "  ", "size", v.Size)
		}
		for _, h := range [...]struct{ kind, hex string }{
			{"md5", v.MD5}, {"sha-1", v.SHA1}, {"sha-256", v.SHA256}, {"sha-512", v.SHA512},
		} {
			if h.hex != "" {
				dst = appendHash(append(dst, ' '), h.kind, h.hex)
			}
		}
	}
	for i := range f.URLs {
		dst = appendURLV4(dst, &f.URLs[i])
	}
	return append(dst, " </file>\n</metalink>\n"...)
}

func appendURLV4(dst []byte, u *URL) []byte {
	if u.Private {
		return dst
	}
	dst = append(dst, "  <url"...)
	if isCode(u.Location) {
		dst = append(dst, ` location="`...)
		dst = appendCode(dst, u.Location)
		dst = append(dst, '"')
	}
	if u.Priority > 0 {
		dst = append(dst, ` priority="`...)
		dst = strconv.AppendInt(dst, int64(min(u.Priority, maxPriority)), 10)
		dst = append(dst, '"')
	}
	dst = append(dst, '>')
	dst = appendXML(dst, u.Base)
	dst = appendXML(dst, u.Path)
	return append(dst, "</url>\n"...)
}

// maxPriority is the largest priority of version 4 and of Link header fields.
const maxPriority = 999999
