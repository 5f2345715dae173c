package rsync

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Type is what an entry of a listing is: the first letter of its line.
type Type byte

// The types. Devices, pipes and sockets are Other.
const (
	File   Type = '-'
	Folder Type = 'd'
	Link   Type = 'l'
	Other  Type = '?'
)

// Entry is one line of a listing.
type Entry struct {
	Type Type
	// Perm are the lower nine bits of its mode.
	Perm uint16
	// Size is in bytes; that of a link is the length of its target.
	Size    int64
	ModTime time.Time // in whole seconds, UTC
	// Name is the path below the folder that was listed, without a slash at either end;
	// "." is the folder itself. It holds the bytes that the file system has, any but 0.
	Name string
	// Target is where a link leads.
	Target string
}

// Public reports whether everybody may read it; a folder, also walk through it.
func (e *Entry) Public() bool {
	if e.Type == Folder {
		return e.Perm&0o5 == 0o5
	}
	return e.Perm&0o4 != 0
}

// errNoEntry is that of a line that does not look like one of a listing.
var errNoEntry = errors.New("not a line of a listing")

const (
	permLen   = len("drwxr-xr-x")
	timeForm  = "2006/01/02 15:04:05"
	linkArrow = " -> "
)

// parseEntry parses a line as rsync --list-only writes it (list_file_entry in
// generator.c), without its end:
//
//	-rw-r--r--     1234567 2026/11/21 21:07:29 sub/big
//	lrwxrwxrwx           7 2026/11/21 21:07:29 link -> a b.txt
//
// Numbers may hold commas, as they do without --no-h. An ACL or the like may add a
// letter to the mode. The line is only read.
func parseEntry(line []byte) (Entry, error) {
	if len(line) < permLen {
		return Entry{}, errNoEntry
	}
	typ, ok := parseType(line[0])
	if !ok {
		return Entry{}, errNoEntry
	}
	e := Entry{Type: typ}
	if e.Perm, ok = parsePerm(line[1:permLen]); !ok {
		return e, errNoEntry
	}
	_, rest, ok := bytes.Cut(line[permLen:], []byte{' '})
	if !ok {
		return e, errNoEntry
	}
	size, rest, ok := bytes.Cut(bytes.TrimLeft(rest, " "), []byte{' '})
	if !ok {
		return e, errNoEntry
	}
	if e.Size, ok = parseSize(size); !ok {
		return e, fmt.Errorf("size %.30q is no number of bytes", size)
	}
	if len(rest) < len(timeForm)+1 || rest[len(timeForm)] != ' ' {
		return e, errNoEntry
	}
	if e.ModTime, ok = parseTime(rest[:len(timeForm)]); !ok {
		return e, fmt.Errorf("%.30q is no time", rest[:len(timeForm)])
	}
	return e.named(rest[len(timeForm)+1:])
}

// named completes an entry by the end of its line.
func (e Entry) named(text []byte) (Entry, error) {
	name := unescape(text)
	if e.Type == Link {
		// Names and targets may hold arrows too, but the size tells how long the target is.
		if at := int64(len(name)) - e.Size - int64(len(linkArrow)); at >= 0 && name[at:at+int64(len(linkArrow))] == linkArrow {
			name, e.Target = name[:at], name[at+int64(len(linkArrow)):]
		}
	}
	if name == "" {
		return e, errors.New("it names nothing")
	}
	e.Name = name
	return e, nil
}

func parseType(c byte) (Type, bool) {
	switch c {
	case '-', 'd', 'l':
		return Type(c), true
	case 'c', 'b', 'p', 's':
		return Other, true
	}
	return 0, false
}

// parsePerm parses "rwxr-xr-x", also with the letters of set-user-ID and the like.
func parsePerm(text []byte) (uint16, bool) {
	var perm uint16
	for i, c := range text {
		perm <<= 1
		switch {
		case c == "rwx"[i%3], i%3 == 2 && (c == 's' || c == 't'):
			perm |= 1
		case c == '-', i%3 == 2 && (c == 'S' || c == 'T'):
		default:
			return 0, false
		}
	}
	return perm, true
}

// maxSize keeps sums of sizes from overflowing.
const maxSize = 1 << 53

// parseSize parses a number of bytes.
func parseSize(text []byte) (int64, bool) {
	var n int64
	digits := 0
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9' && n < maxSize/10:
			n = n*10 + int64(c-'0')
			digits++
		case c == ',' && digits > 0:
		default:
			return 0, false
		}
	}
	return n, digits > 0
}

// parseTime parses a time in UTC. It is written out since a listing has a million.
func parseTime(text []byte) (time.Time, bool) {
	var parts [6]int
	at := 0
	for i, width := range [...]int{4, 2, 2, 2, 2, 2} {
		for range width {
			c := text[at]
			if c < '0' || c > '9' {
				return time.Time{}, false
			}
			parts[i] = parts[i]*10 + int(c-'0')
			at++
		}
		if i < 5 {
			if text[at] != "// ::"[i] {
				return time.Time{}, false
			}
			at++
		}
	}
	year, month, day, hour, minute, second := parts[0], parts[1], parts[2], parts[3], parts[4], parts[5]
	if month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60 {
		return time.Time{}, false
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC), true
}

// unescape undoes what rsync does to bytes that are not to be printed: "\#012" is the
// byte with this number in octal digits, and the backslash of a name that has one before
// "#" and three digits is written that way itself (filtered_fwrite in log.c).
func unescape(text []byte) string {
	at := bytes.Index(text, []byte(`\#`))
	if at < 0 {
		return string(text)
	}
	out := make([]byte, 0, len(text))
	for ; at >= 0; at = bytes.Index(text, []byte(`\#`)) {
		out = append(out, text[:at]...)
		text = text[at:]
		if len(text) >= 5 {
			if n, err := strconv.ParseUint(string(text[2:5]), 8, 8); err == nil {
				out = append(out, byte(n))
				text = text[5:]
				continue
			}
		}
		out = append(out, text[:2]...)
		text = text[2:]
	}
	return string(append(out, text...))
}
