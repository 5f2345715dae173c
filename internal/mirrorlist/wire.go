package mirrorlist

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of the fields of MirrorList.
const (
	fieldTime              = 1
	fieldNetblockCountry   = 2
	fieldLocation          = 3
	fieldURL               = 4
	fieldFiles             = 5
	fieldDisabled          = 6
	fieldContinentRedirect = 7
	fieldRedirect          = 8
	fieldRepository        = 9
	fieldASN               = 10
	fieldMaxConnections    = 11
	fieldHostCountry       = 12
	fieldBandwidth         = 13
	fieldAllowed           = 14
	fieldNetblock          = 15
	fieldDirectory         = 16
)

// Numbers of the fields of MirrorListCacheType.
const (
	directoryName      = 1
	directoryGlobal    = 2
	directorySubpath   = 3
	directoryCountry   = 4
	directoryInternet2 = 5
	directoryHost      = 6
)

// tableName is what the schema calls a field of MirrorList.
func tableName(field protowire.Number) string {
	names := [...]string{
		fieldTime: "Time", fieldNetblockCountry: "NetblockCountryCache", fieldLocation: "LocationCache",
		fieldURL: "HCUrlCache", fieldFiles: "FileDetailsCache", fieldDisabled: "DisabledRepositoryCache",
		fieldContinentRedirect: "CountryContinentRedirectCache", fieldRedirect: "RepositoryRedirectCache",
		fieldRepository: "RepoArchToDirectoryName", fieldASN: "HostAsnCache",
		fieldMaxConnections: "HostMaxConnectionCache", fieldHostCountry: "HostCountryCache",
		fieldBandwidth: "HostBandwidthCache", fieldAllowed: "HostCountryAllowedCache",
		fieldNetblock: "HostNetblockCache", fieldDirectory: "MirrorListCache",
	}
	if field < 1 || int(field) >= len(names) {
		return fmt.Sprint("field ", field)
	}
	return names[field]
}

var errDamaged = fmt.Errorf("entry is damaged: %w", ErrMalformed)

// cursor goes through the fields of a message.
type cursor struct {
	rest []byte
	// The field that next found: value if it is of kind VarintType, bytes if BytesType.
	number protowire.Number
	kind   protowire.Type
	value  uint64
	bytes  []byte
	bad    bool
}

// next finds the next field. At the end, and at bytes that are no field, there is none;
// bad tells which.
func (c *cursor) next() bool {
	if len(c.rest) == 0 {
		return false
	}
	tag, ok := c.varint()
	c.kind = protowire.Type(tag & 7)
	c.number, _ = protowire.DecodeTag(tag)
	if !ok || !c.number.IsValid() {
		return c.stop()
	}
	switch c.kind {
	case protowire.VarintType:
		c.value, ok = c.varint()
	case protowire.BytesType:
		var n uint64
		if n, ok = c.varint(); ok {
			ok = c.cut(n)
		}
	case protowire.Fixed32Type:
		ok = c.cut(4)
	case protowire.Fixed64Type:
		ok = c.cut(8)
	default:
		ok = false
	}
	return ok || c.stop()
}

func (c *cursor) stop() bool {
	c.bad, c.rest = true, nil
	return false
}

func (c *cursor) cut(n uint64) bool {
	if n > uint64(len(c.rest)) {
		return false
	}
	c.bytes, c.rest = c.rest[:n], c.rest[n:]
	return true
}

func (c *cursor) varint() (uint64, bool) {
	if len(c.rest) > 0 && c.rest[0] < 0x80 {
		v := uint64(c.rest[0])
		c.rest = c.rest[1:]
		return v, true
	}
	v, n := protowire.ConsumeVarint(c.rest)
	if n < 0 {
		return 0, false
	}
	c.rest = c.rest[n:]
	return v, true
}

// isText and isNumber tell whether the field has this number and kind.
func (c *cursor) isText(number protowire.Number) bool {
	return c.number == number && c.kind == protowire.BytesType
}

func (c *cursor) isNumber(number protowire.Number) bool {
	return c.number == number && c.kind == protowire.VarintType
}

// appendNumbers appends the numbers of a repeated field: one, or several packed.
func (c *cursor) appendNumbers(to []int64) []int64 {
	switch c.kind {
	case protowire.VarintType:
		return append(to, int64(c.value))
	case protowire.BytesType:
		for packed := (cursor{rest: c.bytes}); len(packed.rest) > 0; {
			v, ok := packed.varint()
			if !ok {
				c.stop()
				return to
			}
			to = append(to, int64(v))
		}
	default: // no numbers
	}
	return to
}

// entry is one of a table: a key, and one or several values.
type entry struct {
	key      []byte
	number   int64
	texts    [][]byte
	numbers  []int64
	keyFound bool
}

// read decodes an entry whose key and values are texts or numbers.
func (e *entry) read(b []byte, textKey, textValue bool) error {
	*e = entry{texts: e.texts[:0], numbers: e.numbers[:0]}
	c := cursor{rest: b}
	for c.next() {
		switch {
		case textKey && c.isText(1):
			e.key, e.keyFound = c.bytes, true
		case !textKey && c.isNumber(1):
			e.number, e.keyFound = int64(c.value), true
		case textValue && c.isText(2):
			e.texts = append(e.texts, c.bytes)
		case !textValue && c.number == 2:
			e.numbers = c.appendNumbers(e.numbers)
		}
	}
	switch {
	case c.bad:
		return errDamaged
	case !e.keyFound:
		return fmt.Errorf("entry without key: %w", ErrMalformed)
	}
	return nil
}

// text and value are the value of an entry that must have one. The last one counts, as
// in every protocol buffer.
func (e *entry) text() ([]byte, error) {
	if len(e.texts) == 0 {
		return nil, fmt.Errorf("entry without value: %w", ErrMalformed)
	}
	return e.texts[len(e.texts)-1], nil
}

func (e *entry) value() (int64, error) {
	if len(e.numbers) == 0 {
		return 0, fmt.Errorf("entry without value: %w", ErrMalformed)
	}
	return e.numbers[len(e.numbers)-1], nil
}
