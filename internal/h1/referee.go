package h1

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Malformed is why a message is refused: it is no request of HTTP/1.1, or where
// it ends can be read in two ways.
type Malformed struct {
	// Why is the word for header, log and metric.
	Why Rejection
	// Text says what is wrong, in words of ours: nothing of the message is in it.
	Text string
}

// referee stands between a connection and net/http, which is more tolerant than
// a cache can afford: what one server forgives, the next one reads otherwise
// (RFC 9112 §11.2). It follows each message to its end. Of a header, and of each
// line between the chunks of a body, nothing is given out before all of it is
// right; in the place of a wrong one, net/http reads nonsense, which it refuses
// when its turn comes: an error would end the request before. Nothing behind it
// is read.
//
// The zero value, with from and most set, is at the begin of a message.
type referee struct {
	from io.Reader
	most int // bytes of a header

	buf  []byte // read, and not given out yet
	good int    // buf[:good] may be given out
	seen int    // buf[:seen] are lines that were found right, of what is given out as a whole
	raw  int64  // of the body, what may be given out as it comes
	part part
	head framing
	bad  *Malformed // the message is refused
	line string     // the begin of its first line
}

// part is what of a message comes next.
type part uint8

const (
	partHead    part = iota
	partSize         // a line with the length of a chunk
	partEnd          // the end of the line behind a chunk
	partTrailer      // fields behind the last chunk
)

const (
	// refereeRead is how much is read at once where lines are expected.
	refereeRead = 4 << 10
	// maxChunkLine is how long a line with the length of a chunk may be, and all
	// fields behind the last one, as in net/http.
	maxChunkLine = 4 << 10
)

// nonsense is refused by net/http as what begins a request, as the length of a
// chunk, and as the end of one.
const nonsense = "\x00\r\n"

// Read implements [io.Reader].
func (f *referee) Read(p []byte) (int, error) {
	for {
		switch {
		case len(p) == 0:
			return 0, nil
		case f.good > 0:
			n := copy(p, f.buf[:f.good])
			f.drop(n)
			f.good -= n
			return n, nil
		case f.bad != nil:
			if f.part == partHead && f.seen == 0 {
				line, _, _ := bytes.Cut(f.buf, []byte("\n"))
				f.note(bytes.TrimSuffix(line, []byte("\r")))
			}
			f.buf, f.good = []byte(nonsense), len(nonsense)
		case f.raw > 0 && len(f.buf) > 0:
			f.good = int(min(f.raw, int64(len(f.buf))))
			f.raw -= int64(f.good)
		case f.raw > 0:
			n, err := f.from.Read(p[:min(int64(len(p)), f.raw)])
			f.raw -= int64(n)
			return n, err //nolint:wrapcheck // goes to net/http
		default:
			if f.bad = f.lines(); f.bad != nil || f.good > 0 {
				continue
			}
			if err := f.more(); err != nil {
				return 0, err
			}
		}
	}
}

// within tells where in a message the reading is: in its header, in its body, or
// before its first byte, if neither.
func (f *referee) within() (header, body bool) {
	if f.part != partHead || f.raw > 0 {
		return false, true
	}
	return len(f.buf) > 0 || f.head.led, false
}

// note keeps the begin of the first line of a message, for the log.
func (f *referee) note(line []byte) {
	const most = 256
	f.line = string(line[:min(len(line), most)])
}

// first is what the message seems to ask for.
func (f *referee) first() (method, target string) {
	method, rest, ok := strings.Cut(f.line, " ")
	if !ok || !isToken([]byte(method)) {
		return "", ""
	}
	target, _, _ = strings.Cut(rest, " ")
	return method, target
}

// drop forgets the first n bytes of buf, and buf when it is empty: an idle
// connection holds none.
func (f *referee) drop(n int) {
	if f.buf = f.buf[n:]; len(f.buf) == 0 {
		f.buf = nil
	}
}

// more reads where lines are expected.
func (f *referee) more() error {
	n := len(f.buf)
	if cap(f.buf)-n < refereeRead/8 {
		f.buf = slices.Grow(f.buf, refereeRead)
	}
	k, err := f.from.Read(f.buf[n:cap(f.buf)])
	f.buf = f.buf[:n+k]
	switch {
	case k > 0:
		return nil // the error comes again
	case n == 0:
		f.buf = nil
	case errors.Is(err, io.EOF) && f.part == partHead:
		f.bad = &Malformed{RejectMessage, "the header is cut short"}
		return nil
	}
	return err //nolint:wrapcheck // goes to net/http
}

// lines looks at the lines that are there, until some of them may be given out,
// or more have to be read.
func (f *referee) lines() *Malformed {
	for {
		rest := f.buf[f.seen:]
		if f.part == partEnd && !bytes.HasPrefix(rest, []byte("\r\n")) && !bytes.HasPrefix([]byte("\r\n"), rest) {
			return &Malformed{RejectChunk, "a chunk is longer than it says"}
		}
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return f.length(len(rest))
		}
		if bad := f.length(i + 1); bad != nil {
			return bad
		}
		if i == 0 || bytes.IndexByte(rest, '\r') != i-1 {
			return &Malformed{RejectLineEnd, "a line does not end in CR LF"}
		}
		if bad := f.take(rest[:i-1], i+1); bad != nil || f.good > 0 {
			return bad
		}
	}
}

// length bounds the line that is n bytes long, or at least so.
func (f *referee) length(n int) *Malformed {
	switch {
	case f.part == partHead && f.seen+n > f.most:
		return &Malformed{RejectHeaderSize, "the header is too large"}
	case f.part == partSize && n > maxChunkLine:
		return &Malformed{RejectChunk, "a line between chunks is too long"}
	case f.part == partTrailer && f.seen+n > maxChunkLine:
		return &Malformed{RejectChunk, "the fields behind a body are too large"}
	}
	return nil
}

// take takes the next line, which is n bytes with its end.
func (f *referee) take(line []byte, n int) *Malformed {
	switch f.part {
	case partHead:
		return f.headLine(line, n)
	case partSize:
		size, bad := chunkSize(line)
		if bad != nil {
			return bad
		}
		if size == 0 { // it is given out with what follows
			f.seen, f.part = n, partTrailer
			return nil
		}
		f.good, f.raw, f.part = n, size, partEnd
	case partEnd:
		f.good, f.part = n, partSize
	case partTrailer:
		if len(line) == 0 {
			f.good, f.seen, f.part = f.seen+n, 0, partHead
			return nil
		}
		_, bad := checkField(line)
		f.seen += n
		return bad
	}
	return nil
}

// headLine takes the next line of a header, which is given out with its last.
func (f *referee) headLine(line []byte, n int) *Malformed {
	switch {
	case len(line) == 0 && f.seen == 0 && !f.head.led:
		f.drop(n) // RFC 9112 §2.2: one empty line before a request is none
		f.head.led = true
		return nil
	case f.seen == 0:
		f.seen = n
		f.note(line)
		return f.head.begin(line)
	case len(line) > 0:
		f.seen += n
		return f.head.field(line)
	}
	length, chunked, bad := f.head.end()
	if bad != nil {
		return bad
	}
	f.good, f.seen = f.seen+n, 0
	f.head = framing{}
	f.raw = length
	if chunked {
		f.part = partSize
	}
	return nil
}

// framing is what the lines of a header say about where the message ends.
type framing struct {
	led     bool // an empty line was before it
	old     bool // HTTP/1.0
	lengths int
	length  int64
	codings int
}

// begin takes the request line (RFC 9112 §3).
func (f *framing) begin(line []byte) *Malformed {
	const version = "HTTP/1.0"
	method, rest, _ := bytes.Cut(line, []byte(" "))
	target, protocol, _ := bytes.Cut(rest, []byte(" "))
	for _, c := range target {
		if c <= ' ' || c == 0x7f {
			return &Malformed{RejectMessage, "the request line is malformed"}
		}
	}
	if !isToken(method) || len(target) == 0 || len(protocol) != len(version) || !bytes.HasPrefix(protocol, []byte(version[:7])) {
		return &Malformed{RejectMessage, "the request line is malformed"}
	}
	f.old = string(protocol) == version
	return nil
}

// field takes a field line.
func (f *framing) field(line []byte) *Malformed {
	field, bad := checkField(line)
	switch {
	case bad != nil:
		return bad
	case len(field.Name) == len("content-length") && field.Is("content-length"):
		f.lengths++
		if f.length, bad = contentLength(field.Value); bad != nil {
			return bad
		}
	case len(field.Name) == len("transfer-encoding") && field.Is("transfer-encoding"):
		f.codings++
		if !field.valueIs("chunked") {
			return &Malformed{RejectLength, "Transfer-Encoding is not chunked"}
		}
	}
	return nil
}

// end says how long the body is (RFC 9112 §6.3), if that is certain.
func (f *framing) end() (length int64, chunked bool, bad *Malformed) {
	switch {
	case f.codings > 0 && f.lengths > 0:
		return 0, false, &Malformed{RejectLength, "there is a Content-Length and a Transfer-Encoding"}
	case f.codings > 1:
		return 0, false, &Malformed{RejectLength, "there are several Transfer-Encoding"}
	case f.lengths > 1:
		return 0, false, &Malformed{RejectLength, "there are several Content-Length"}
	case f.codings > 0 && f.old:
		return 0, false, &Malformed{RejectLength, "HTTP/1.0 has no Transfer-Encoding"}
	}
	return f.length, f.codings > 0, nil
}

func contentLength(value []byte) (int64, *Malformed) {
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, &Malformed{RejectLength, "Content-Length is no number"}
		}
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0, &Malformed{RejectLength, "Content-Length is no number"}
	}
	return n, nil
}

// checkField reads a field line as RFC 9112 §5 writes it; other than in a
// [Request], values may have bytes beyond ASCII.
func checkField(line []byte) (f Field, bad *Malformed) {
	if line[0] == ' ' || line[0] == '\t' {
		return f, &Malformed{RejectField, "a field is folded"}
	}
	name, value, ok := bytes.Cut(line, []byte(":"))
	switch {
	case !ok || !isToken(trim(name)):
		return f, &Malformed{RejectField, "a field has no valid name"}
	case len(trim(name)) < len(name):
		return f, &Malformed{RejectField, "there is white space before a colon"}
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return f, &Malformed{RejectField, "a field has control characters"}
		}
	}
	return Field{Name: name, Value: trim(value)}, nil
}

func isToken(s []byte) bool {
	for _, c := range s {
		if !inName().has(c) {
			return false
		}
	}
	return len(s) > 0
}

// chunkSize reads the line before a chunk (RFC 9112 §7.1). Extensions are read
// over.
func chunkSize(line []byte) (int64, *Malformed) {
	digits, extension, _ := bytes.Cut(line, []byte(";"))
	const most = 15 // digits of a length that int64 has
	if len(digits) == 0 || len(digits) > most {
		return 0, &Malformed{RejectChunk, "the length of a chunk is malformed"}
	}
	for _, c := range digits {
		if !isHex(c) {
			return 0, &Malformed{RejectChunk, "the length of a chunk is malformed"}
		}
	}
	for _, c := range extension {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return 0, &Malformed{RejectChunk, "an extension of a chunk is malformed"}
		}
	}
	n, err := strconv.ParseInt(string(digits), 16, 64)
	if err != nil {
		return 0, &Malformed{RejectChunk, "the length of a chunk is malformed"}
	}
	return n, nil
}
