package mirrorlist

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Limits of the decoder.
const (
	maxRows   = 1 << 20 // entries of a table
	maxTrees  = 1 << 22 // of those of directories and files
	maxCache  = 1 << 16 // entries of its memory of what it has seen
	maxCached = 256     // bytes of one
)

// decoder turns the entries of a file into a snapshot.
type decoder struct {
	b     *Builder
	text  text
	entry entry
	rows  [fieldDirectory + 1]int

	// What was seen before is known by its bytes. Most directories differ from another
	// one in their names alone, and most hosts are in all sets with the same URLs.
	sets  map[fingerprint]MirrorSet
	links map[string]link
	names map[string]string

	mirrors  []byte // a directory without its name
	versions []Version
}

func newDecoder() *decoder {
	return &decoder{
		b:     NewBuilder(),
		sets:  make(map[fingerprint]MirrorSet),
		links: make(map[string]link),
		names: make(map[string]string),
	}
}

// field takes in a field of MirrorList.
func (d *decoder) field(f wireField) error {
	if f.number == fieldTime && f.kind == protowire.VarintType {
		d.b.SetTime(f.value)
		return nil
	}
	if f.number > fieldDirectory || f.kind != protowire.BytesType {
		return nil // of a later schema
	}
	limit := maxRows
	if f.number == fieldFiles || f.number == fieldDirectory {
		limit = maxTrees
	}
	if d.rows[f.number]++; d.rows[f.number] > limit {
		return fmt.Errorf("%s has more than %d entries: %w", tableName(f.number), limit, ErrTooMany)
	}
	err := d.row(f)
	if err == nil {
		err = d.b.err
	}
	if err != nil {
		return fmt.Errorf("%s: %w", tableName(f.number), err)
	}
	return nil
}

func (d *decoder) row(f wireField) error {
	switch f.number {
	case fieldDirectory:
		return d.directory(f.bytes)
	case fieldFiles:
		return d.files(f.bytes)
	case fieldNetblockCountry, fieldContinentRedirect, fieldRedirect, fieldRepository:
		return d.textByText(f)
	case fieldURL, fieldHostCountry:
		return d.textByNumber(f)
	case fieldMaxConnections, fieldBandwidth:
		return d.numberByNumber(f)
	case fieldLocation, fieldNetblock:
		return d.hostsByText(f)
	case fieldASN:
		if err := d.entry.read(f.bytes, false, false); err != nil {
			return err
		}
		d.b.AddASN(d.entry.number, d.entry.numbers)
	case fieldAllowed:
		return d.allowed(f.bytes)
	case fieldDisabled:
		return d.disabled(f.bytes)
	default: // of a later schema
	}
	return nil
}

func (d *decoder) textByText(f wireField) error {
	if err := d.entry.read(f.bytes, true, true); err != nil {
		return err
	}
	value, err := d.entry.text()
	if err != nil {
		return err
	}
	add := d.b.AddRepository
	switch f.number {
	case fieldNetblockCountry:
		add = d.b.AddNetblockCountry
	case fieldContinentRedirect:
		add = d.b.AddContinent
	case fieldRedirect:
		add = d.b.AddRedirect
	default: // the table of repositories
	}
	add(d.text.keep(d.entry.key), d.name(value))
	return nil
}

func (d *decoder) textByNumber(f wireField) error {
	if err := d.entry.read(f.bytes, false, true); err != nil {
		return err
	}
	value, err := d.entry.text()
	switch {
	case err != nil:
		return err
	case f.number == fieldURL:
		d.b.AddURL(d.entry.number, d.text.keep(value))
	default:
		d.b.AddHostCountry(d.entry.number, d.name(value))
	}
	return nil
}

func (d *decoder) numberByNumber(f wireField) error {
	if err := d.entry.read(f.bytes, false, false); err != nil {
		return err
	}
	value, err := d.entry.value()
	switch {
	case err != nil:
		return err
	case f.number == fieldBandwidth:
		d.b.AddBandwidth(d.entry.number, value)
	default:
		d.b.AddMaxConnections(d.entry.number, value)
	}
	return nil
}

func (d *decoder) hostsByText(f wireField) error {
	if err := d.entry.read(f.bytes, true, false); err != nil {
		return err
	}
	key := d.text.keep(d.entry.key)
	if f.number == fieldNetblock {
		d.b.AddNetblock(key, d.entry.numbers)
	} else {
		d.b.AddLocation(key, d.entry.numbers)
	}
	return nil
}

func (d *decoder) allowed(b []byte) error {
	if err := d.entry.read(b, false, true); err != nil {
		return err
	}
	codes := make([]string, 0, len(d.entry.texts))
	for _, text := range d.entry.texts {
		codes = append(codes, d.name(text))
	}
	d.b.AddAllowedCountries(d.entry.number, codes)
	return nil
}

func (d *decoder) disabled(b []byte) error {
	if err := d.entry.read(b, true, false); err != nil {
		return err
	}
	value, err := d.entry.value()
	if err != nil {
		return err
	}
	d.b.AddDisabled(d.text.keep(d.entry.key), value != 0)
	return nil
}

// name keeps a text that is there often, such as a country code or repomd.xml.
func (d *decoder) name(b []byte) string {
	name, known := d.names[string(b)]
	if !known {
		name = d.text.keep(b)
		if len(d.names) < maxCache && len(b) <= maxCached {
			d.names[name] = name
		}
	}
	return name
}

// directory takes in an entry of MirrorListCache.
func (d *decoder) directory(b []byte) error {
	var name, subpath []byte
	named := false
	d.mirrors = d.mirrors[:0]
	c := cursor{rest: b}
	start := 0 // of what tells of mirrors
	for before := b; c.next(); before = c.rest {
		if !c.isText(directoryName) && !c.isText(directorySubpath) {
			continue
		}
		d.mirrors = append(d.mirrors, b[start:len(b)-len(before)]...)
		start = len(b) - len(c.rest)
		if c.number == directoryName {
			name, named = c.bytes, true
		} else {
			subpath = c.bytes
		}
	}
	switch {
	case c.bad:
		return errDamaged
	case !named:
		return fmt.Errorf("entry without directory: %w", ErrMalformed)
	}
	d.mirrors = append(d.mirrors, b[start:]...)
	set, err := d.set(d.mirrors)
	if err != nil {
		return fmt.Errorf("%.200q: %w", name, err)
	}
	kept := d.text.keep(name)
	if len(subpath) <= len(kept) && kept[len(kept)-len(subpath):] == string(subpath) {
		d.b.AddDirectory(kept, kept[len(kept)-len(subpath):], set)
	} else {
		d.b.AddDirectory(kept, d.text.keep(subpath), set)
	}
	return nil
}

// set is the number of the mirrors that fields of MirrorListCacheType tell of.
func (d *decoder) set(b []byte) (MirrorSet, error) {
	sum := d.b.sets.fingerprint(b)
	if set, known := d.sets[sum]; known {
		return set, nil
	}
	m := d.b.draft()
	c := cursor{rest: b}
	for c.next() {
		var err error
		switch c.number {
		case directoryGlobal:
			d.entry.numbers = c.appendNumbers(d.entry.numbers[:0])
			for _, id := range d.entry.numbers {
				m.addGlobal(id)
			}
		case directoryCountry:
			err = d.group(m, &m.byCountry, &c)
		case directoryInternet2:
			err = d.group(m, &m.internet2, &c)
		case directoryHost:
			err = d.host(m, &c)
		default: // nothing that is asked for
		}
		if err != nil {
			return 0, err
		}
	}
	if c.bad {
		return 0, errDamaged
	}
	set := m.done()
	d.sets[sum] = set
	return set, nil
}

func (d *decoder) group(m *draft, to *members, c *cursor) error {
	if c.kind != protowire.BytesType {
		return nil
	}
	if err := d.entry.read(c.bytes, true, false); err != nil {
		return err
	}
	m.addGroup(to, d.name(d.entry.key), d.entry.numbers)
	return nil
}

func (d *decoder) host(m *draft, c *cursor) error {
	if c.kind != protowire.BytesType {
		return nil
	}
	if l, known := d.links[string(c.bytes)]; known {
		m.links = append(m.links, l)
		return nil
	}
	if err := d.entry.read(c.bytes, false, false); err != nil {
		return err
	}
	l, ok := m.link(d.entry.number, d.entry.numbers)
	if !ok {
		return d.b.err
	}
	m.links = append(m.links, l)
	if len(d.links) < maxCache && len(c.bytes) <= maxCached {
		d.links[string(c.bytes)] = l
	}
	return nil
}

// files takes in an entry of FileDetailsCache.
func (d *decoder) files(b []byte) error {
	directory, err := keyed(b)
	if err != nil {
		return err
	}
	kept := d.text.keep(directory)
	c := cursor{rest: b}
	for c.next() {
		if !c.isText(2) {
			continue
		}
		if err := d.file(kept, c.bytes); err != nil {
			return fmt.Errorf("%.200q: %w", directory, err)
		}
	}
	return nil
}

// keyed returns the key of a message, of which it looks at each field.
func keyed(b []byte) (key []byte, err error) {
	found := false
	c := cursor{rest: b}
	for c.next() {
		if c.isText(1) {
			key, found = c.bytes, true
		}
	}
	switch {
	case c.bad:
		return nil, errDamaged
	case !found:
		return nil, fmt.Errorf("entry without name: %w", ErrMalformed)
	}
	return key, nil
}

func (d *decoder) file(directory string, b []byte) error {
	name, err := keyed(b)
	if err != nil {
		return err
	}
	d.versions = d.versions[:0]
	c := cursor{rest: b}
	for c.next() {
		if !c.isText(2) {
			continue
		}
		v, err := d.version(c.bytes)
		if err != nil {
			return fmt.Errorf("%.200q: %w", name, err)
		}
		d.versions = append(d.versions, v)
	}
	d.b.AddFile(directory, d.name(name), d.versions)
	return nil
}

func (d *decoder) version(b []byte) (Version, error) {
	var v Version
	var timed, sized bool
	c := cursor{rest: b}
	for c.next() {
		switch {
		case c.isNumber(1):
			v.Timestamp, timed = c.value, true
		case c.isNumber(2):
			v.Size, sized = c.value, true
		case c.isText(3):
			v.SHA1 = d.text.keep(c.bytes)
		case c.isText(4):
			v.MD5 = d.text.keep(c.bytes)
		case c.isText(5):
			v.SHA256 = d.text.keep(c.bytes)
		case c.isText(6):
			v.SHA512 = d.text.keep(c.bytes)
		}
	}
	switch {
	case c.bad:
		return v, errDamaged
	case !timed || !sized:
		return v, fmt.Errorf("version without time or size: %w", ErrMalformed)
	}
	return v, nil
}
