package rsync

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"freshet/internal/landlock"
)

// Transfer says from where and to where files are fetched. URL and Folder are required.
type Transfer struct {
	// URL is that of a folder, see [CheckURL].
	URL string
	// Folder is an absolute path, of a folder that is the caller's alone. Files come to
	// the same names below it; folders are made.
	Folder string
	// Partial keeps what has come of a file that is cut off, in a folder called
	// [PartialFolder], and goes on with what was kept before. To look for that takes
	// several calls of the system for each file: it is for long ones.
	Partial bool
	// Silence is how long the server may say nothing; 0: two minutes. How long all of it
	// may take is up to the context.
	Silence time.Duration
	// Dial connects to the server; nil: rsync does it by itself.
	Dial Dial
	// Idle lets everybody else come first at the disk.
	Idle bool
	// MaxSize leaves out files that are longer, in bytes, without a word; 0: none.
	MaxSize int64
	// EndSize is how long a file gets on the disk, in bytes, where the server sends more than it has
	// told of: the rest is read and thrown away, and ends in an error; 0: any.
	EndSize int64
}

// fetchMemory is what rsync may take to fetch files: names are some thousand bytes long at most,
// and no more than [Program.Most] are asked for.
const fetchMemory = 1 << 30

// PartialFolder is the name of folders in which rsync keeps what it has of files that it
// could not fetch whole. They lie beside where the files will be.
const PartialFolder = ".rsync-partial"

// Fetched is what became of a file.
type Fetched struct {
	// Name is the one that was asked for.
	Name string
	// Err is nil if the file has come, with the time that the server tells. It is there,
	// unless rsync's own checksum shows that it is broken; then it comes once more, or is
	// never there. Err is [fs.ErrNotExist] or [fs.ErrPermission] if the server
	// has no such file or must not read it, and another error for other remarks of it.
	Err error
}

// Fetch fetches files by their paths below the URL, clean and relative, in any bytes, and
// yields what became of each as it does; one that was there already, with the same
// size and time, and one that no word is said of, is not yielded. A link is fetched as
// what it leads to.
//
// The sequence ends with an error if something went wrong with all of it, or with files of which
// nobody knows which they are ([OfSome]): an [ExitError].
// It can be used once. It reads names while it goes on, in another goroutine, and no more
// of them once it has ended. Ending the loop, or ctx, ends rsync.
func (p *Program) Fetch(ctx context.Context, t Transfer, names iter.Seq[string]) iter.Seq2[Fetched, error] {
	return func(yield func(Fetched, error) bool) {
		if err := p.fetch(ctx, t, names, yield); err != nil && !errors.Is(err, errStopped) {
			yield(Fetched{}, fmt.Errorf("fetch from %s: %w", t.URL, err))
		}
	}
}

func (p *Program) fetch(ctx context.Context, t Transfer, names iter.Seq[string], yield func(Fetched, error) bool) error {
	if err := CheckURL(t.URL); err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	list, feed := io.Pipe()
	fed := make(chan error, 1)
	go func() {
		_, above := splitURL(t.URL)
		err := writeNames(feed, path.Join(above, ".")+"/./", names)
		_ = feed.CloseWithError(err)
		fed <- err
	}()
	starve := func() error {
		_ = list.CloseWithError(errStopped)
		return <-fed
	}
	complaints := newComplaints(t.URL)
	r, err := p.start(running, process{
		url: t.URL, dial: t.Dial, args: t.arguments(p.trusts()), stdin: list, stderr: complaints, dir: t.Folder, idle: t.Idle,
		memory: fetchMemory, size: t.EndSize,
	})
	if err != nil {
		_ = starve()
		return err
	}
	last, err := readArrivals(r.out, yield)
	if err != nil {
		cancel()
	}
	ended := r.wait()
	unfed := starve()
	switch {
	case errors.Is(err, errStopped):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(unfed, errName):
		return unfed
	case err != nil:
		return err
	}
	err = complaints.explain(ended)
	if last != "" && (err == nil || OfSome(err)) && !yield(Fetched{Name: last}, nil) || !complaints.tell(yield) {
		return errStopped
	}
	return err
}

// trusts reports whether rsync need not look at whether each name that a server sends is
// one of those that it was asked for, which takes a time that grows with the square of how
// many they are: it can write nowhere else than in the folder anyway.
func (p *Program) trusts() bool {
	return landlock.Confines() && !p.version.Before(Version{3, 2, 5})
}

// Most is how many names one transfer should have at most: with more of them the beginnings
// and ends of transfers do not matter any more, and with many more rsync takes its time.
func (p *Program) Most() int {
	if p.trusts() {
		return 100_000
	}
	return 2000
}

// splitURL splits the URL of a folder into that of its module and the path below.
func splitURL(text string) (module, folder string) {
	at := strings.Index(text, "://") + len("://")
	if slash := strings.IndexByte(text[at:], '/'); slash >= 0 {
		at += slash + 1
	}
	name, folder, _ := strings.Cut(text[at:], "/")
	return text[:at] + name + "/", strings.Trim(folder, "/")
}

// arguments are those of rsync, without its own name. The module is what is asked: a server
// of version 3.5.0 without chroot finds no file if a folder below it is.
func (t Transfer) arguments(trust bool) []string {
	silence := seconds(cmp.Or(t.Silence, defaultSilence))
	module, _ := splitURL(t.URL)
	args := []string{
		"--files-from=-", "--from0", "--times", "--omit-dir-times", "--copy-links", "--no-implied-dirs",
		"--no-motd", "--outbuf=Block", "--out-format=%i %n",
		"--timeout=" + silence, "--contimeout=" + silence, "--sockopts=TCP_NODELAY",
	}
	if t.Partial {
		args = append(args, "--partial-dir="+PartialFolder)
	} else {
		args = append(args, "--whole-file") // there is nothing to make a file of but what is sent
	}
	if trust {
		args = append(args, "--trust-sender")
	}
	if t.MaxSize > 0 {
		args = append(args, "--max-size="+strconv.FormatInt(t.MaxSize, 10))
	}
	return append(args, "--", module, "./")
}

// errName is that of a name that is not to be asked for.
var errName = errors.New("it is no path of a file")

// isPath reports whether a name is the clean path of a file below a folder, in any bytes.
func isPath(name string) bool {
	return filepath.IsLocal(name) && name != "." && path.Clean(name) == name && !strings.ContainsRune(name, 0)
}

// writeNames writes the names as --from0 reads them. Each begins with the folder and "/./",
// behind which is what the file is called here too; so none looks like something else.
func writeNames(w io.Writer, above string, names iter.Seq[string]) error {
	b := bufio.NewWriterSize(w, 32<<10)
	for name := range names {
		if !isPath(name) {
			return fmt.Errorf("%.300q: %w", name, errName)
		}
		if _, err := b.WriteString(above); err != nil {
			return err
		}
		if _, err := b.WriteString(name); err != nil {
			return err
		}
		if err := b.WriteByte(0); err != nil {
			return err
		}
	}
	return b.Flush()
}

// readArrivals yields the files that rsync says it has received. It says so before it
// gives a file its name, and one after the other: when it speaks of the next one, the one
// before is there. The last one is returned: it is there if rsync has done all that it could,
// and may be one that was cut otherwise.
func readArrivals(out io.Reader, yield func(Fetched, error) bool) (last string, err error) {
	lines := bufio.NewReaderSize(out, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return last, nil
		case errors.Is(err, io.EOF):
			return last, fmt.Errorf("%w: %.80q", errCut, line)
		case errors.Is(err, bufio.ErrBufferFull):
			return last, fmt.Errorf("%w: %.80q", errLongLine, line)
		case err != nil:
			return last, err
		}
		name, ok := parseArrival(line[:len(line)-1])
		if !ok {
			continue // of a folder
		}
		if last != "" && !yield(Fetched{Name: last}, nil) {
			return "", errStopped
		}
		last = name
	}
}

// parseArrival parses a line of "%i %n", for a file whose content was received:
//
//	>f+++++++++ a\#012b
func parseArrival(line []byte) (name string, ok bool) {
	const width = len(">f+++++++++ ")
	if len(line) <= width || line[0] != '>' || line[1] != 'f' || line[width-1] != ' ' {
		return "", false
	}
	return unescape(line[width:]), true
}

// complaints are what rsync and the server say of files that cannot be had:
//
//	rsync: [sender] link_stat "/a/b" (in m) failed: No such file or directory (2)
//	rsync: [sender] send_files failed to open "/a/b" (in m): Permission denied (13)
//	file has vanished: "/a/b" (in m)
//
// Where names are relative to is up to the server: the module, or a folder above it.
type complaints struct {
	above string // the path below the module, with a slash at its end
	rest  []byte // of a line that has not ended
	files []Fetched
	odd   head // what is of no file
}

// maxComplaints bounds how many files are spoken of one by one; of the others is known
// only that they have not come.
const maxComplaints = 200_000

func newComplaints(server string) *complaints {
	c := new(complaints)
	if _, above := splitURL(server); above != "" {
		c.above = above + "/"
	}
	return c
}

// Write takes what rsync writes to standard error.
func (c *complaints) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, rest, ended := bytes.Cut(p, []byte{'\n'})
		if len(c.rest)+len(line) <= maxLine {
			c.rest = append(c.rest, line...)
		}
		if !ended {
			return n, nil
		}
		c.note(string(c.rest))
		c.rest, p = c.rest[:0], rest
	}
}

// note sorts a line.
func (c *complaints) note(line string) {
	name, why := c.parse(line)
	if why == nil || len(c.files) == maxComplaints {
		if !strings.HasPrefix(line, "rsync error: some files") && !strings.HasPrefix(line, "rsync warning: some files") {
			_, _ = c.odd.Write([]byte(line + "\n"))
		}
		return
	}
	c.files = append(c.files, Fetched{name, why})
}

// parse parses a line that speaks of a file; otherwise the error is nil.
func (c *complaints) parse(line string) (name string, why error) {
	_, text, _ := strings.Cut(line, `"`)
	end := strings.LastIndex(text, `" (in `)
	if end < 0 {
		return "", nil
	}
	switch said := strings.TrimSpace(text[end:]); {
	case strings.HasSuffix(said, "(2)"), strings.HasPrefix(line, "file has vanished"):
		why = fs.ErrNotExist
	case strings.HasSuffix(said, "(13)"), strings.HasSuffix(said, "(1)"):
		why = fs.ErrPermission
	default:
		return "", nil
	}
	name = strings.TrimPrefix(unescape([]byte(text[:end])), "/")
	return strings.TrimPrefix(name, c.above), fmt.Errorf("the server says %q: %w", oneLine(line), why)
}

// tell yields what was said of files.
func (c *complaints) tell(yield func(Fetched, error) bool) bool {
	for _, f := range c.files {
		if !yield(f, nil) {
			return false
		}
	}
	return true
}

// explain is the error of how rsync ended. Code 23 is that some files could not be had,
// and 24 that some vanished, of which all is known from what was said of them.
func (c *complaints) explain(ended error) error {
	if exit, ok := exitCode(ended); ok && (exit == 24 || exit == 23 && len(c.files) > 0 && len(c.odd.kept) == 0) {
		return nil
	}
	return explain(ended, c.odd.String(), 0)
}
