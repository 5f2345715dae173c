// Package keyfile reads and writes key files, the INI-like format of GLib's
// GKeyFile: the config of an OSTree repository, the metadata of a Flatpak
// application, .flatpakrepo and .flatpakref files.
//
//	# a comment
//	[Application]
//	name=org.example.App
//	tags=stable;proprietary;
//
// What is read is kept as it stood: the order of groups and keys, comments,
// and the raw text of values, so that changing one value changes one line.
// Where the same group comes twice, its keys are joined; where the same key
// comes twice in a group, the last one counts, both as GLib does it.
//
// Groups and keys are case-sensitive. Translated keys ("Name[de]") are keys
// like any other.
package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// ErrSyntax is wrapped by every error of [Parse].
var ErrSyntax = errors.New("malformed key file")

// File is a key file in memory. The zero value is an empty one. It must not be
// changed while others read it.
type File struct {
	preamble []string // lines before the first group
	groups   []*group
	byName   map[string]*group
}

type group struct {
	name  string
	lines []line
	byKey map[string]int // index into lines
}

// line is a key with its raw value, or, when key is empty, a comment or blank
// line, which stands in value.
type line struct {
	key, value string
}

// Parse reads a key file. The memory it takes is in proportion to data, which
// it does not keep.
func Parse(data []byte) (*File, error) {
	f := &File{}
	var g *group
	number := 0
	for text := range strings.Lines(string(data)) {
		number++
		text = strings.TrimRight(text, "\r\n")
		trimmed := strings.TrimLeft(text, " \t\r\v\f")
		switch {
		case trimmed == "" || trimmed[0] == '#':
			if g == nil {
				f.preamble = append(f.preamble, text)
			} else {
				g.lines = append(g.lines, line{value: text})
			}
		case trimmed[0] == '[':
			name, rest, ok := strings.Cut(trimmed[1:], "]")
			if !ok || !validGroup(name) || strings.TrimSpace(rest) != "" {
				return nil, fmt.Errorf("line %d: %w: not a group: %.40q", number, ErrSyntax, text)
			}
			g = f.group(name)
		default:
			key, value, ok := strings.Cut(trimmed, "=")
			key = strings.TrimRight(key, " \t")
			if !ok || !validKey(key) {
				return nil, fmt.Errorf("line %d: %w: neither a key, a group nor a comment: %.40q", number, ErrSyntax, text)
			}
			if g == nil {
				return nil, fmt.Errorf("line %d: %w: key %.40q comes before any group", number, ErrSyntax, key)
			}
			g.set(key, strings.TrimLeft(value, " \t"))
		}
	}
	return f, nil
}

func validGroup(name string) bool {
	if name == "" {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c == '[' || c == ']' || c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

func validKey(key string) bool {
	name, locale, translated := strings.Cut(key, "[") // Name[de_DE]
	if translated {
		locale, closed := strings.CutSuffix(locale, "]")
		if !closed || locale == "" || strings.ContainsAny(locale, "[]= ") {
			return false
		}
	}
	return name != "" && !strings.ContainsAny(name, "[]=#\n\r") && strings.TrimSpace(name) == name
}

// group returns the group of the name, which it adds when there is none.
func (f *File) group(name string) *group {
	if g := f.byName[name]; g != nil {
		return g
	}
	g := &group{name: name, byKey: map[string]int{}}
	if f.byName == nil {
		f.byName = map[string]*group{}
	}
	f.byName[name] = g
	f.groups = append(f.groups, g)
	return g
}

func (g *group) set(key, raw string) {
	if i, ok := g.byKey[key]; ok {
		g.lines[i].value = raw
		return
	}
	// A new key goes before the blank lines that part this group from the next.
	end := len(g.lines)
	for end > 0 && g.lines[end-1].key == "" && strings.TrimSpace(g.lines[end-1].value) == "" {
		end--
	}
	blank := g.lines[end:]
	if len(blank) == 0 {
		g.lines = append(g.lines, line{key: key, value: raw})
	} else {
		g.lines = append(g.lines, line{})
		copy(g.lines[end+1:], g.lines[end:])
		g.lines[end] = line{key: key, value: raw}
	}
	g.byKey[key] = end
}

// Groups returns the names of all groups in the order of the file.
func (f *File) Groups() []string {
	names := make([]string, len(f.groups))
	for i, g := range f.groups {
		names[i] = g.name
	}
	return names
}

// HasGroup tells whether the file has a group of this name, be it empty.
func (f *File) HasGroup(name string) bool { return f.byName[name] != nil }

// Keys returns the keys of a group in the order of the file; none when there
// is no such group.
func (f *File) Keys(groupName string) []string {
	g := f.byName[groupName]
	if g == nil {
		return nil
	}
	keys := make([]string, 0, len(g.byKey))
	for _, l := range g.lines {
		if l.key != "" {
			keys = append(keys, l.key)
		}
	}
	return keys
}

// Raw returns the value of a key as it stands in the file, escapes and all.
func (f *File) Raw(groupName, key string) (raw string, ok bool) {
	g := f.byName[groupName]
	if g == nil {
		return "", false
	}
	i, ok := g.byKey[key]
	if !ok {
		return "", false
	}
	return g.lines[i].value, true
}

// Get returns the value of a key with its escapes (\s \n \t \r \\) undone. A
// backslash before any other character stands for itself.
func (f *File) Get(groupName, key string) (value string, ok bool) {
	raw, ok := f.Raw(groupName, key)
	if !ok {
		return "", false
	}
	return unescape(raw), true
}

// List returns the values of a list, which are separated by semicolons; a last
// semicolon is an end mark and adds no empty value. An absent key gives none.
func (f *File) List(groupName, key string) []string {
	raw, ok := f.Raw(groupName, key)
	if !ok || raw == "" {
		return nil
	}
	var values []string
	start := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '\\':
			i++
		case ';':
			values = append(values, unescape(raw[start:i]))
			start = i + 1
		}
	}
	if start < len(raw) {
		values = append(values, unescape(raw[start:]))
	}
	return values
}

// Bool returns the value of a key as a truth value, and absent when there is no
// such key. Only "true", "1", "false" and "0" are well-formed.
func (f *File) Bool(groupName, key string, absent bool) (bool, error) {
	raw, ok := f.Raw(groupName, key)
	if !ok {
		return absent, nil
	}
	switch strings.TrimRight(raw, " \t") {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, fmt.Errorf("key %s in group %s: %.40q is neither true nor false", key, groupName, raw)
}

// Int returns the value of a key as a decimal number, and absent when there is
// no such key.
func (f *File) Int(groupName, key string, absent int64) (int64, error) {
	raw, ok := f.Raw(groupName, key)
	if !ok {
		return absent, nil
	}
	n, err := strconv.ParseInt(strings.TrimRight(raw, " \t"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("key %s in group %s: %w", key, groupName, err)
	}
	return n, nil
}

// SetRaw gives a key the raw value, which is written as it is and so must hold
// neither line ends nor leading blanks. A key or group that is not there is
// added at the end. It reports an error, and changes nothing, when the group
// name, the key or the value cannot stand in a key file.
func (f *File) SetRaw(groupName, key, raw string) error {
	if !validGroup(groupName) {
		return fmt.Errorf("%.40q is not a group name", groupName)
	}
	if !validKey(key) {
		return fmt.Errorf("%.40q is not a key", key)
	}
	if strings.ContainsAny(raw, "\n\r\x00") || strings.TrimLeft(raw, " \t") != raw {
		return fmt.Errorf("key %s in group %s: %.40q needs escaping", key, groupName, raw)
	}
	f.group(groupName).set(key, raw)
	return nil
}

// Set gives a key a value, which it escapes; see [File.SetRaw] for the rest.
func (f *File) Set(groupName, key, value string) error {
	return f.SetRaw(groupName, key, escape(value, false))
}

// SetList gives a key a list of values, each of which is followed by a
// semicolon.
func (f *File) SetList(groupName, key string, values []string) error {
	var raw strings.Builder
	for _, value := range values {
		raw.WriteString(escape(value, true))
		raw.WriteByte(';')
	}
	return f.SetRaw(groupName, key, raw.String())
}

// SetBool gives a key a truth value.
func (f *File) SetBool(groupName, key string, value bool) error {
	return f.SetRaw(groupName, key, strconv.FormatBool(value))
}

// SetInt gives a key a number.
func (f *File) SetInt(groupName, key string, value int64) error {
	return f.SetRaw(groupName, key, strconv.FormatInt(value, 10))
}

// Delete removes a key; that it is not there is no error.
func (f *File) Delete(groupName, key string) {
	g := f.byName[groupName]
	if g == nil {
		return
	}
	i, ok := g.byKey[key]
	if !ok {
		return
	}
	g.lines = append(g.lines[:i], g.lines[i+1:]...)
	delete(g.byKey, key)
	for k, j := range g.byKey {
		if j > i {
			g.byKey[k] = j - 1
		}
	}
}

// DeleteGroup removes a group with all its keys and comments.
func (f *File) DeleteGroup(name string) {
	if f.byName[name] == nil {
		return
	}
	delete(f.byName, name)
	for i, g := range f.groups {
		if g.name == name {
			f.groups = append(f.groups[:i], f.groups[i+1:]...)
			return
		}
	}
}

// Clone returns a copy that shares nothing with f.
func (f *File) Clone() *File {
	c := &File{preamble: append([]string(nil), f.preamble...)}
	for _, g := range f.groups {
		cg := c.group(g.name)
		cg.lines = append([]line(nil), g.lines...)
		maps.Copy(cg.byKey, g.byKey)
	}
	return c
}

// Bytes returns the text of the file. A blank line parts a group from the one
// before, unless a comment stands between them.
func (f *File) Bytes() []byte {
	var b bytes.Buffer
	for _, text := range f.preamble {
		b.WriteString(text)
		b.WriteByte('\n')
	}
	part := false
	for _, g := range f.groups {
		if part {
			b.WriteByte('\n')
		}
		b.WriteString("[" + g.name + "]\n")
		part = true
		for _, l := range g.lines {
			part = l.key != ""
			if l.key != "" {
				b.WriteString(l.key)
				b.WriteByte('=')
			}
			b.WriteString(l.value)
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

func unescape(raw string) string {
	if strings.IndexByte(raw, '\\') < 0 {
		return raw
	}
	b := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' || i+1 == len(raw) {
			b = append(b, raw[i])
			continue
		}
		i++
		switch raw[i] {
		case 's':
			b = append(b, ' ')
		case 'n':
			b = append(b, '\n')
		case 't':
			b = append(b, '\t')
		case 'r':
			b = append(b, '\r')
		case '\\', ';':
			b = append(b, raw[i])
		default:
			b = append(b, '\\', raw[i])
		}
	}
	return string(b)
}

// escape is what g_key_file_set_string does to a value: blanks only need it
// where a reader would strip them, and separators only inside lists.
func escape(value string, inList bool) string {
	b := make([]byte, 0, len(value))
	leading := true
	for i := range len(value) {
		c := value[i]
		switch {
		case c == ' ' && leading:
			b = append(b, '\\', 's')
			continue
		case c == '\t' && leading:
			b = append(b, '\\', 't')
			continue
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\\':
			b = append(b, '\\', '\\')
		case c == ';' && inList:
			b = append(b, '\\', ';')
		default:
			b = append(b, c)
		}
		leading = false
	}
	return string(b)
}
