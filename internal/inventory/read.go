package inventory

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strings"
	"time"

	"freshet/internal/durable"
)

// ErrFormat is wrapped by errors of files that are none of this package, or damaged.
var ErrFormat = errors.New("not a sound inventory")

// Load reads a file that Save has written. What was known then is known again, except
// which listings were refused; no listing is of a time to come. Without the file the error is fs.ErrNotExist.
func Load(dir durable.Dir, name string) (*Inventory, error) {
	f, err := dir.Root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // opened for reading
	v, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	v.until(time.Now())
	return v, nil
}

// until makes listings of times to come, from before a clock was set right, those of now:
// otherwise nothing newer would be looked for until then. Nobody else uses v yet.
func (v *Inventory) until(now time.Time) {
	for _, t := range v.trees {
		standings := t.load().standings
		for h, s := range standings {
			if s.Updated.After(now) {
				s.Updated = now
				standings[h] = s
			}
		}
	}
}

// Read reads what Write has written. Of any other content it takes memory in proportion
// to what there is to read, and the error wraps ErrFormat.
func Read(from io.Reader) (*Inventory, error) {
	v := new(Inventory)
	r := reader{from: bufio.NewReaderSize(from, 1<<18), names: v, projects: make(map[string]*root)}
	if err := r.all(); err != nil {
		return nil, err
	}
	for name, is := range r.projects {
		v.Project(name).publish(is)
	}
	return v, nil
}

func wrong(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrFormat)...)
}

// ended returns what is wrong if reading ended with err, or too early.
func ended(err error, what string) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return wrong("%s", what)
	}
	return err
}

// maxProjects bounds those of a file: each takes some kilobytes, and a few bytes there.
const maxProjects = 1<<16 - 1

// reader reads one file.
type reader struct {
	from   *bufio.Reader
	buffer []byte
	names  *Inventory // gives holders their numbers
	// known are the projects as they are here: what is the same is shared. A file that
	// tells what has changed since the edition base changes these; base is empty if
	// there is none that it may start from.
	known map[string]*root
	base  string

	since    bool                // it tells what has changed
	projects map[string]*root    // those that were read
	holders  []Holder            // by their numbers in the file
	seen     map[string]struct{} // names of mirrors
	project  *project
	versions uint64
	ended    bool
}

// all reads the file.
func (r *reader) all() error {
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r.from, head); err != nil || string(head) != magic {
		return ended(err, "it does not begin with "+magic)
	}
	for !r.ended {
		kind, content, err := r.next()
		if err == nil {
			err = r.block(kind, content)
		}
		if err != nil {
			return err
		}
	}
	switch _, err := r.from.ReadByte(); {
	case err == nil:
		return wrong("something follows the end")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// next returns the next block, which is valid until the one after it is read.
func (r *reader) next() (byte, []byte, error) {
	var head [blockHead]byte
	if _, err := io.ReadFull(r.from, head[:]); err != nil {
		return 0, nil, ended(err, "it ends within")
	}
	length := int(binary.LittleEndian.Uint32(head[1:]))
	if length > blockLimit {
		return 0, nil, wrong("a block of %d bytes", length)
	}
	if cap(r.buffer) < length {
		r.buffer = make([]byte, length)
	}
	content := r.buffer[:length]
	if _, err := io.ReadFull(r.from, content); err != nil {
		return 0, nil, ended(err, "it ends within a block")
	}
	if sum := crc32.Update(crc32.Checksum(head[:5], castagnoli()), castagnoli(), content); sum != binary.LittleEndian.Uint32(head[5:]) {
		return 0, nil, wrong("a block is damaged")
	}
	return head[0], content, nil
}

func (r *reader) block(kind byte, content []byte) error {
	c := cursor{b: content}
	begun := r.holders != nil
	switch {
	case kind == blockBase && !begun && !r.since:
		r.since = true
		if tag := c.string(); c.err == nil && (r.base == "" || tag != r.base) {
			return fmt.Errorf("it tells what has changed since edition %.80q, known is %.80q: %w", tag, r.base, ErrGap)
		}
	case kind == blockHolders && !begun:
		r.readHolders(&c)
	case kind == blockProject && begun:
		r.finish(&c)
		r.readProject(&c)
	case kind == blockSets && r.project != nil:
		r.readSets(&c)
	case kind == blockGone && r.project != nil && r.since:
		r.readGone(&c)
	case kind == blockFiles && r.project != nil:
		r.readFiles(&c)
	case kind == blockEnd && begun:
		r.finish(&c)
		r.ended = true
		if n := c.uvarint(); n != r.versions {
			c.fail("it has %d versions and tells of %d", r.versions, n)
		}
	default:
		c.fail("a block of kind %d is not expected here", kind)
	}
	if len(c.b) > 0 {
		c.fail("a block of kind %d is longer than its content", kind)
	}
	return c.err
}

func (r *reader) readHolders(c *cursor) {
	r.holders, r.seen = []Holder{Origin}, map[string]struct{}{"": {}}
	for n := c.uvarint(); n > 0 && c.err == nil; n-- {
		name := c.string()
		if _, twice := r.seen[name]; twice {
			c.fail("the mirror %q is there twice", name)
			return
		}
		r.seen[name] = struct{}{}
		h, err := r.names.Holder(name)
		if err != nil {
			c.fail("%v", err)
		}
		r.holders = append(r.holders, h)
	}
}

func (r *reader) holder(c *cursor) Holder {
	n := c.uvarint()
	if n >= uint64(len(r.holders)) {
		c.fail("there is no mirror %d", n)
		return Origin
	}
	return r.holders[n]
}

func (r *reader) readProject(c *cursor) {
	name := c.string()
	if r.projects[name] != nil {
		c.fail("the project %q is there twice", name)
		return
	}
	if len(r.projects) == maxProjects {
		c.fail("more than %d projects", maxProjects)
		return
	}
	p := &project{name: name, root: new(root), known: r.known[name], folder: new(folder), sets: []Set{{}}, most: len(r.holders)}
	p.counts, p.lost = []int{0}, make(map[Set]int)
	p.root.standings = make(map[Holder]Standing)
	for n := c.uvarint(); n > 0 && c.err == nil; n-- {
		h, at := r.holder(c), time.UnixMicro(c.varint()).UTC()
		if at.Year() < 1 || at.Year() > 9999 {
			c.fail("a listing of the year %d", at.Year())
		}
		p.root.standings[h] = Standing{Updated: at, Generation: c.string()}
	}
	if r.since && p.known != nil && len(p.root.standings) > 0 {
		p.base = p.known
		p.root.shards = p.base.shards
	}
	r.project, r.projects[name] = p, p.root
}

// finish completes the project that was read.
func (r *reader) finish(c *cursor) {
	p := r.project
	if p == nil {
		return
	}
	r.project = nil
	p.close()
	files := make(map[Holder]int)
	if p.base != nil {
		for h, s := range p.base.standings {
			files[h] = s.Files
		}
	}
	files[Origin] += p.files
	for i, s := range p.sets {
		for h := range s.All() {
			files[h] += p.counts[i]
		}
	}
	for s, n := range p.lost {
		for h := range s.All() {
			files[h] -= n
		}
	}
	for h, n := range files {
		s, ok := p.root.standings[h]
		if n > 0 && !ok && h != Origin {
			c.fail("a mirror has files and was never heard of")
		}
		if ok {
			s.Files = n
			p.root.standings[h] = s
		}
	}
}

// readGone reads which folders are not there any more.
func (r *reader) readGone(c *cursor) {
	p := r.project
	var last []byte
	for len(c.b) > 0 && c.err == nil {
		if last = c.front(nil, last, maxPath); c.err == nil {
			p.put(string(last), nil)
		}
	}
}

func (r *reader) readSets(c *cursor) {
	p := r.project
	for len(c.b) > 0 && c.err == nil {
		b := c.bytes()
		if len(b) > (maxHolders+1)/8 {
			c.fail("a set of %d bytes", len(b))
		}
		if len(b) == 0 {
			c.fail("a set of nobody")
		}
		var m members
		for h := range members(b).set().All() {
			switch {
			case h == Origin || int(h) >= len(r.holders):
				c.fail("there is no mirror %d", h)
			case p.root.standings[r.holders[h]].Updated.IsZero():
				c.fail("mirror %d has files and was never heard of", h)
			default:
				m.add(r.holders[h])
			}
		}
		p.sets, p.counts = append(p.sets, m.set()), append(p.counts, 0)
	}
}

func (r *reader) readFiles(c *cursor) {
	p := r.project
	var last, names []byte
	for len(c.b) > 0 && c.err == nil {
		last = c.front(nil, last, maxPath)
		if c.err != nil {
			return
		}
		path := p.folder.path
		if string(last) != path {
			path = string(last)
			if len(p.folder.leaves) > 0 && path <= p.folder.path || !cleanFolder(path) || !strings.HasSuffix(path, "/") {
				c.fail("the folder %q is not expected here", path)
				return
			}
			p.close()
			p.folder = &folder{path: path}
		}
		l := p.readLeaf(c, &names)
		if n := len(p.folder.leaves); n > 0 && c.err == nil {
			before := &p.folder.leaves[n-1]
			if before.name(len(before.versions)-1) >= l.first {
				c.fail("the files of %q are not sorted", path)
			}
		}
		if c.err == nil {
			p.folder.leaves = append(p.folder.leaves, l)
			r.versions += uint64(len(l.versions))
		}
	}
}

// readLeaf reads one leaf; names is a buffer.
func (p *project) readLeaf(c *cursor, names *[]byte) leaf {
	n := c.uvarint()
	if n == 0 || n > uint64(len(c.b))/7 {
		c.fail("a part with %d files", n)
		return leaf{}
	}
	l, prints := leaf{versions: make([]version, n)}, make([]byte, n)
	*names = (*names)[:0]
	var last []byte
	same := 0 // versions of the last name
	for i := range l.versions {
		v := &l.versions[i]
		flags := c.byte()
		v.flags = flags & (flagCurrent | flagAgain)
		switch start := len(*names); {
		case !v.again():
			*names = c.front(*names, last, maxName)
			name := (*names)[start:]
			if !cleanName(name) || i > 0 && bytes.Compare(name, last) <= 0 {
				c.fail("the file %q is not expected here", name)
			}
			last, same = name, 1
		case i == 0 || v.current() || same == p.most:
			c.fail("a version of %q is not expected here", last)
		default:
			same++
		}
		if len(*names) > math.MaxUint16 {
			c.fail("a part with too many files")
		}
		v.end = uint16(len(*names))
		v.size = int64(c.uvarint())
		v.modTime = c.uint32()
		v.holders = p.set(c, v.current())
		if flags&flagHashed != 0 {
			if l.sums == nil {
				l.sums = make([][32]byte, n)
			}
			copy(l.sums[i][:], c.take(32))
		}
		if flags&^(flagCurrent|flagAgain|flagHashed) != 0 || v.size < 0 {
			c.fail("the file %q has length %d and flags %d", last, v.size, flags)
		}
		if c.err != nil {
			return leaf{}
		}
	}
	l.names = string(*names)
	l.first = l.names[:l.versions[0].end]
	for i := range prints {
		if l.versions[i].again() {
			prints[i] = prints[i-1]
		} else {
			prints[i] = printOf(l.name(i))
		}
	}
	l.prints = string(prints)
	return l
}

// set reads the number of the set of a version.
func (p *project) set(c *cursor, current bool) Set {
	n := c.uvarint()
	switch {
	case n >= uint64(len(p.sets)):
		c.fail("there is no set %d", n)
		return Set{}
	case p.sets[n] == (Set{}) && !current:
		c.fail("a version that nobody has")
	}
	p.counts[n]++
	if current {
		p.files++
	}
	return p.sets[n]
}

// cursor reads what a block is made of. After an error it reads zeros.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = wrong(format, args...)
	}
	c.b = nil
}

func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.fail("a block ends within")
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail("a block has no number where one belongs")
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.fail("a block has no number where one belongs")
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) bytes() []byte {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.fail("a block ends within")
		return nil
	}
	return c.take(int(n))
}

func (c *cursor) string() string { return string(c.bytes()) }

// front appends what appendFront has written behind last.
func (c *cursor) front(to, last []byte, limit int) []byte {
	n, rest := c.uvarint(), c.bytes()
	if n > uint64(len(last)) || int(n)+len(rest) > limit {
		c.fail("a name that is too long")
		return to
	}
	return append(append(to, last[:n]...), rest...)
}
