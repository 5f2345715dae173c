package inventory

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"strings"
	"time"

	"freshet/internal/durable"
)

// ErrFormat is wrapped by errors of files that are none of this package, or damaged.
var ErrFormat = errors.New("not a sound inventory")

// Load reads a file that Save has written. What was known then is known again, except
// which listings were refused. Without the file the error is fs.ErrNotExist.
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
	return v, nil
}

// Read reads what Write has written. Of any other content it takes memory in proportion
// to what there is to read, and the error wraps ErrFormat.
func Read(from io.Reader) (*Inventory, error) {
	r := reader{from: bufio.NewReaderSize(from, 1<<18), v: new(Inventory)}
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r.from, head); err != nil || string(head) != magic {
		return nil, ended(err, "it does not begin with "+magic)
	}
	for !r.ended {
		kind, content, err := r.next()
		if err == nil {
			err = r.block(kind, content)
		}
		if err != nil {
			return nil, err
		}
	}
	switch _, err := r.from.ReadByte(); {
	case err == nil:
		return nil, wrong("something follows the end")
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return r.v, nil
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

// reader reads one file.
type reader struct {
	from     *bufio.Reader
	buffer   []byte
	v        *Inventory
	holders  []Holder // by their numbers in the file
	begun    bool     // the holders are read
	project  *project
	versions uint64
	ended    bool
}

// project is one while it is read.
type project struct {
	tree   *Tree
	root   *root
	folder *folder // the last
	sets   []Set
	counts []int // of the versions with this set
	files  int   // of the origin
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
	switch {
	case kind == blockHolders && !r.begun:
		r.begun = true
		r.readHolders(&c)
	case kind == blockProject && r.begun:
		r.finish()
		r.readProject(&c)
	case kind == blockSets && r.project != nil:
		r.readSets(&c)
	case kind == blockFiles && r.project != nil:
		r.readFiles(&c)
	case kind == blockEnd && r.begun:
		r.finish()
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
	r.holders = []Holder{Origin}
	for n := c.uvarint(); n > 0 && c.err == nil; n-- {
		name := c.string()
		if _, twice := r.v.Lookup(name); twice {
			c.fail("the mirror %q is there twice", name)
			return
		}
		h, err := r.v.Holder(name)
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
	if _, twice := r.v.trees[name]; twice {
		c.fail("the project %q is there twice", name)
		return
	}
	start := emptyRoot
	start.standings = make(map[Holder]Standing)
	for n := c.uvarint(); n > 0 && c.err == nil; n-- {
		h := r.holder(c)
		start.standings[h] = Standing{Updated: time.UnixMicro(c.varint()).UTC(), Generation: c.string()}
	}
	r.project = &project{tree: r.v.Project(name), root: &start, folder: new(folder), sets: []Set{{}}, counts: []int{0}}
}

// finish makes the project that was read readable.
func (r *reader) finish() {
	p := r.project
	if p == nil {
		return
	}
	p.close()
	files := map[Holder]int{Origin: p.files}
	for i, s := range p.sets {
		for h := range s.All() {
			files[h] += p.counts[i]
		}
	}
	for h := range maps.Keys(p.root.standings) {
		s := p.root.standings[h]
		s.Files = files[h]
		p.root.standings[h] = s
	}
	p.tree.publish(p.root)
	r.project = nil
}

// close puts the folder that was read last in its place.
func (p *project) close() {
	if len(p.folder.leaves) == 0 {
		return
	}
	shard := &p.root.shards[shardOf(p.folder.path)]
	if *shard == nil {
		*shard = make(map[string]*folder)
	}
	(*shard)[p.folder.path] = p.folder
}

func (r *reader) readSets(c *cursor) {
	p := r.project
	for len(c.b) > 0 && c.err == nil {
		b := c.bytes()
		if len(b) > (maxHolders+1)/8 {
			c.fail("a set of %d bytes", len(b))
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
			last = name
		case i == 0 || v.current():
			c.fail("a version of %q is not expected here", last)
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
		prints[i] = printOf(l.name(i))
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
