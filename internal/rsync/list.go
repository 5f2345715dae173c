package rsync

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os/exec"
	"strings"
	"time"
)

// Listing says what to list. Only URL is required.
type Listing struct {
	// URL is that of a folder, see [CheckURL].
	URL string
	// Silence is how long the server may say nothing; 0: two minutes. How long all of it
	// may take is up to the context.
	Silence time.Duration
	// MaxEntries is how many there may be; 0: 20 million.
	MaxEntries int
	// Excludes are patterns of rsync, of what is not to be listed.
	Excludes []string
	// Dial connects to the server; nil: rsync does it by itself.
	Dial Dial
}

const (
	defaultSilence = 2 * time.Minute
	defaultEntries = 20_000_000

	// leastMemory and entryMemory are what rsync may take of it for a listing: of a server
	// that tells all at once, it keeps all, in a hundred bytes or so and the name of each.
	leastMemory = 64 << 20
	entryMemory = 200

	// maxLine is the longest line that is read: a path of 4096 bytes to a target of the
	// same length, all of them escaped, is shorter.
	maxLine = 64 << 10
)

// PartialError ends a listing that lacks something that the server could not read, or
// that went away meanwhile. What was listed is there.
type PartialError struct {
	Code   int    // of rsync's end
	Detail string // the first lines of what it said
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("the listing lacks what could not be read (rsync %d): %s", e.Code, e.Detail)
}

// ExitError is a failure of rsync.
type ExitError struct {
	Code   int    // -1: it was killed
	Detail string // the first lines of what it said
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("rsync: %s (%d): %s", e.Meaning(), e.Code, cmp.Or(e.Detail, "it said nothing"))
}

// OfSome reports whether an error is that rsync has done all that it was to do, but for some
// of the files: what it said of them is no more than text.
func OfSome(err error) bool {
	exit, ok := errors.AsType[*ExitError](err)
	return ok && exit.Code == 23
}

// Meaning says in a few words what the code means.
func (e *ExitError) Meaning() string {
	switch e.Code {
	case 1:
		return "it does not understand what it is to do"
	case 4:
		return "the server sends or asks for what must not be"
	case 2, 12:
		return "the server does not speak rsync as expected"
	case 5:
		return "the server refuses"
	case 10:
		return "the server cannot be reached"
	case 20, -1:
		return "it was ended"
	case 22:
		return "the server sends more than there is memory for"
	case 23:
		return "the folder cannot be read"
	case 30:
		return "the server was silent for too long"
	case 35:
		return "the server did not answer in time"
	}
	return "it failed"
}

// List lists all that is below a folder, in the order in which the server tells it, the
// folder itself first. Links are listed and not followed. The sequence ends with an error
// if the listing is not all there is, a [PartialError] if only some of it could not be
// read; entries before an error may be used at the caller's risk. It can be used once.
// Memory is bounded whatever the server sends, that of rsync too: about 4 GB for as many entries
// as there may be. Ending the loop, or ctx, ends rsync.
func (p *Program) List(ctx context.Context, l Listing) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := p.list(ctx, l, yield); err != nil && !errors.Is(err, errStopped) {
			yield(Entry{}, fmt.Errorf("list %s: %w", l.URL, err))
		}
	}
}

// errStopped is that the caller wants no more.
var errStopped = errors.New("stopped")

func (p *Program) list(ctx context.Context, l Listing, yield func(Entry, error) bool) error {
	if err := CheckURL(l.URL); err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	var said head
	most := cmp.Or(l.MaxEntries, defaultEntries)
	r, err := p.start(running, process{url: l.URL, dial: l.Dial, args: l.arguments(), stderr: &said, memory: leastMemory + entryMemory*int64(most)})
	if err != nil {
		return err
	}
	n, err := readEntries(r.out, most, yield)
	if err != nil && !errors.Is(err, errCut) {
		cancel()
	}
	ended := r.wait()
	switch {
	case errors.Is(err, errStopped):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && !errors.Is(err, errCut):
		return err
	}
	return cmp.Or(explain(ended, said.String(), n), err)
}

// arguments are those of rsync, without its own name.
func (l Listing) arguments() []string {
	silence := seconds(cmp.Or(l.Silence, defaultSilence))
	args := []string{
		"--list-only", "--recursive", "--links", "--no-motd", "--no-human-readable",
		"--timeout=" + silence, "--contimeout=" + silence, "--sockopts=TCP_NODELAY",
	}
	for _, pattern := range l.Excludes {
		args = append(args, "--exclude="+pattern)
	}
	return append(args, "--", strings.TrimRight(l.URL, "/")+"/")
}

// explain is the error of how rsync ended after so many entries.
func explain(ended error, said string, entries int) error {
	code, exited := exitCode(ended)
	switch {
	case ended == nil:
		return nil
	case !exited:
		return ended
	case entries > 0 && (code == 23 || code == 24):
		return &PartialError{Code: code, Detail: said}
	}
	return &ExitError{Code: code, Detail: said}
}

// exitCode is the code by which a program told that it failed, -1 if it was killed.
func exitCode(ended error) (code int, ok bool) {
	exit, ok := errors.AsType[*exec.ExitError](ended)
	if !ok {
		return 0, false
	}
	return exit.ExitCode(), true
}

// ErrTooMany is wrapped by the error of a listing with more than [Listing.MaxEntries].
var ErrTooMany = errors.New("there are more entries than may be")

// What else can be wrong with a listing as a whole.
var (
	errLongLine = errors.New("a line is too long for a listing")
	errCut      = errors.New("it ends within a line")
)

// readEntries yields the entries of a listing, and returns how many there were.
func readEntries(r io.Reader, most int, yield func(Entry, error) bool) (n int, err error) {
	lines := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return n, nil
		case errors.Is(err, io.EOF):
			return n, fmt.Errorf("%w: %.80q", errCut, line)
		case errors.Is(err, bufio.ErrBufferFull):
			return n, fmt.Errorf("%w: %.80q", errLongLine, line)
		case err != nil:
			return n, err
		}
		line = line[:len(line)-1]
		e, err := parseEntry(line)
		switch {
		case err != nil && isRemark(line):
			continue
		case err != nil:
			return n, fmt.Errorf("line %.80q: %w", line, err)
		case n >= most:
			return n, fmt.Errorf("%w: %d", ErrTooMany, most)
		}
		n++
		if !yield(e, nil) {
			return n, errStopped
		}
	}
}

// isRemark reports whether a line is none of the listing, but one of those that rsync
// writes among them: nothing, or what it leaves out.
func isRemark(line []byte) bool {
	return len(bytes.TrimSpace(line)) == 0 || bytes.HasPrefix(line, []byte("skipping "))
}

// head keeps the beginning of what is written to it, as one line.
type head struct{ kept []byte }

const maxHead = 1 << 10

func (h *head) Write(p []byte) (int, error) {
	h.kept = append(h.kept, p[:min(len(p), maxHead-len(h.kept))]...)
	return len(p), nil
}

func (h *head) String() string {
	text := strings.ToValidUTF8(string(h.kept), "?")
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < ' ' }), "; ")
}
