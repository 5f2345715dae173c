package catalogue

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"

	"freshet/api/directorapi"
)

// kind is one of the lists of a catalogue, whatever its items are.
type kind interface {
	// all calls yield for each item, with its name.
	all(c *directorapi.Catalogue, yield func(name string, item any))
	// put adds the item that body is, or puts it in the place of the one of that name.
	put(c *directorapi.Catalogue, name string, body []byte) error
	// add adds the item that body is, of which there is none yet. Keys that nobody knows
	// come from a newer version, and are left out.
	add(c *directorapi.Catalogue, name, body string) error
	// remove reports whether there was one.
	remove(c *directorapi.Catalogue, name string) bool
	// sort brings the list in order.
	sort(c *directorapi.Catalogue)
}

// list implements kind.
type list[T any] struct {
	of   func(*directorapi.Catalogue) *[]T
	name func(*T) *string
}

// kindOf returns the list of that name.
func kindOf(items directorapi.Items) (kind, bool) {
	switch items {
	case directorapi.Projects:
		return list[directorapi.Project]{
			func(c *directorapi.Catalogue) *[]directorapi.Project { return &c.Projects },
			func(p *directorapi.Project) *string { return &p.Name },
		}, true
	case directorapi.Sites:
		return list[directorapi.Site]{
			func(c *directorapi.Catalogue) *[]directorapi.Site { return &c.Sites },
			func(s *directorapi.Site) *string { return &s.Name },
		}, true
	case directorapi.Mirrors:
		return list[directorapi.Mirror]{
			func(c *directorapi.Catalogue) *[]directorapi.Mirror { return &c.Mirrors },
			func(m *directorapi.Mirror) *string { return &m.Name },
		}, true
	}
	return nil, false
}

// kinds are the names of all lists, in the order in which they are told of.
func kinds() []directorapi.Items {
	return []directorapi.Items{directorapi.Projects, directorapi.Sites, directorapi.Mirrors}
}

func (l list[T]) all(c *directorapi.Catalogue, yield func(string, any)) {
	for i := range *l.of(c) {
		item := &(*l.of(c))[i]
		yield(*l.name(item), item)
	}
}

func (l list[T]) add(c *directorapi.Catalogue, name, body string) error {
	var item T
	if err := json.Unmarshal([]byte(body), &item); err != nil {
		return err
	}
	*l.name(&item) = name
	*l.of(c) = append(*l.of(c), item)
	return nil
}

func (l list[T]) put(c *directorapi.Catalogue, name string, body []byte) error {
	var item T
	if err := decode(body, &item); err != nil {
		return err
	}
	if given := *l.name(&item); given != "" && given != name {
		return fmt.Errorf("name: is %q in the body and %q in the path", given, name)
	}
	*l.name(&item) = name
	if i := l.index(c, name); i >= 0 {
		(*l.of(c))[i] = item
	} else {
		*l.of(c) = append(*l.of(c), item)
	}
	return nil
}

func (l list[T]) remove(c *directorapi.Catalogue, name string) bool {
	i := l.index(c, name)
	if i >= 0 {
		*l.of(c) = slices.Delete(*l.of(c), i, i+1)
	}
	return i >= 0
}

func (l list[T]) index(c *directorapi.Catalogue, name string) int {
	return slices.IndexFunc(*l.of(c), func(item T) bool { return *l.name(&item) == name })
}

func (l list[T]) sort(c *directorapi.Catalogue) {
	slices.SortStableFunc(*l.of(c), func(a, b T) int { return cmp.Compare(*l.name(&a), *l.name(&b)) })
	if *l.of(c) == nil {
		*l.of(c) = []T{} // a list in JSON, never null
	}
}

// sorted brings all lists in order.
func sorted(c *directorapi.Catalogue) {
	for _, items := range kinds() {
		k, _ := kindOf(items)
		k.sort(c)
	}
}

// decode reads one JSON value, and refuses keys that nobody knows.
func decode(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("not the JSON that is wanted: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("not the JSON that is wanted: something follows it")
	}
	return nil
}

// itemKey names an item of a catalogue.
type itemKey struct {
	items directorapi.Items
	name  string
}

// texts are all items of a catalogue, in JSON.
func texts(c *directorapi.Catalogue) (map[itemKey]string, error) {
	m := make(map[itemKey]string)
	var failed error
	for _, items := range kinds() {
		k, _ := kindOf(items)
		k.all(c, func(name string, item any) {
			text, err := json.Marshal(item)
			failed = errors.Join(failed, err)
			m[itemKey{items, name}] = string(text)
		})
	}
	return m, failed
}

// itemChange is an item that differs; empty is one that is not there.
type itemChange struct {
	itemKey
	before, after string
}

// compare returns what differs, in the order of kinds and names.
func compare(before, after map[itemKey]string) (changes []itemChange) {
	for key, text := range before {
		if after[key] != text {
			changes = append(changes, itemChange{key, text, after[key]})
		}
	}
	for key, text := range after {
		if _, was := before[key]; !was {
			changes = append(changes, itemChange{key, "", text})
		}
	}
	slices.SortFunc(changes, func(a, b itemChange) int {
		return cmp.Or(cmp.Compare(slices.Index(kinds(), a.items), slices.Index(kinds(), b.items)), cmp.Compare(a.name, b.name))
	})
	return changes
}

// told is the change as the API has it.
func (c itemChange) told() directorapi.ItemChange {
	t := directorapi.ItemChange{Items: c.items, Name: c.name, Action: directorapi.ActionChange}
	if c.before == "" {
		t.Action = directorapi.ActionAdd
	} else {
		t.Before = json.RawMessage(c.before)
	}
	if c.after == "" {
		t.Action = directorapi.ActionRemove
	} else {
		t.After = json.RawMessage(c.after)
	}
	if t.Action == directorapi.ActionChange {
		t.Keys = differing(c.before, c.after)
	}
	return t
}

// differing are the keys of two JSON objects that do not have the same value, sorted.
func differing(before, after string) []string {
	var a, b map[string]any
	if json.Unmarshal([]byte(before), &a) != nil || json.Unmarshal([]byte(after), &b) != nil {
		return nil
	}
	keys := make(map[string]bool)
	for key := range a {
		keys[key] = true
	}
	for key := range b {
		keys[key] = true
	}
	maps.DeleteFunc(keys, func(key string, _ bool) bool { return reflect.DeepEqual(a[key], b[key]) })
	return slices.Sorted(maps.Keys(keys))
}
