package catalogue

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"freshet/api/directorapi"
)

// File is a catalogue in a file, such as directors follow: it is changed by the methods
// that a [directorapi.Client] has as well. One that does not exist is empty. Two programs
// must not change it at the same time.
type File struct{ Name string }

// Catalogue reads it. It may have problems.
func (f File) Catalogue(context.Context) (*directorapi.Catalogue, error) {
	var c directorapi.Catalogue
	text, err := readBounded(f.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := decode(text, &c); err != nil {
			return nil, err
		}
	}
	sorted(&c)
	return &c, nil
}

// Item reads one item.
func (f File) Item(ctx context.Context, items directorapi.Items, name string, into any) (etag string, err error) {
	c, err := f.Catalogue(ctx)
	if err != nil {
		return "", err
	}
	key := itemKey{items, name}
	all, err := texts(c)
	if err != nil {
		return "", err
	}
	if all[key] == "" {
		return "", missing(key)
	}
	return "", json.Unmarshal([]byte(all[key]), into)
}

// Put adds or changes an item.
func (f File) Put(ctx context.Context, items directorapi.Items, name string, item any, opt directorapi.EditOptions) (directorapi.Change, error) {
	key := itemKey{items, name}
	body, err := json.Marshal(item)
	if err != nil {
		return directorapi.Change{}, err
	}
	return f.edit(ctx, opt, func(c *directorapi.Catalogue) error {
		if opt.New && key.in(c) {
			return exists(key)
		}
		k, _ := kindOf(items)
		return k.put(c, name, body)
	})
}

// Remove removes an item.
func (f File) Remove(ctx context.Context, items directorapi.Items, name string, opt directorapi.EditOptions) (directorapi.Change, error) {
	return f.edit(ctx, opt, func(c *directorapi.Catalogue) error {
		if k, _ := kindOf(items); !k.remove(c, name) {
			return missing(itemKey{items, name})
		}
		return nil
	})
}

// Replace replaces all of it.
func (f File) Replace(ctx context.Context, next *directorapi.Catalogue, opt directorapi.EditOptions) (directorapi.Change, error) {
	return f.edit(ctx, opt, func(c *directorapi.Catalogue) error {
		*c = *next
		return nil
	})
}

func (f File) edit(ctx context.Context, opt directorapi.EditOptions, change func(*directorapi.Catalogue) error) (result directorapi.Change, err error) {
	c, err := f.Catalogue(ctx)
	if err != nil {
		return result, err
	}
	changes, err := apply(c, change)
	if err != nil {
		return result, told(err)
	}
	result = changed(c, opt.DryRun, changes)
	if opt.DryRun || len(changes) == 0 {
		return result, nil
	}
	c.Serial++
	c.Changed = time.Now().UTC().Truncate(time.Second)
	result.Serial = c.Serial
	return result, writeFile(f.Name, c)
}
