package autoindex

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

// object is an element of a listing in JSON: that of nginx's autoindex_format, and that
// of Caddy's file_server.
type object struct {
	Name  string `json:"name"`
	Type  string `json:"type"`   // nginx
	IsDir bool   `json:"is_dir"` // Caddy, whose names of folders end in a slash
	Size  *int64 `json:"size"`
	MTime string `json:"mtime"`    // nginx
	Time  string `json:"mod_time"` // Caddy
	Href  string `json:"href"`     // a mirror of Freshet, of which it is the exact name: JSON has UTF-8 alone
}

// parseJSON reads a listing in JSON, an array of objects.
func parseJSON(r io.Reader, c *collector) error {
	d := json.NewDecoder(r)
	if token, err := d.Token(); err != nil || token != json.Delim('[') {
		return asListing(err)
	}
	for d.More() {
		var o object
		if err := d.Decode(&o); err != nil {
			return asListing(err)
		}
		if err := c.addObject(&o); err != nil {
			return err
		}
	}
	_, err := d.Token()
	if err != nil {
		return asListing(err)
	}
	return nil
}

// asListing is the error of JSON that is no listing, or of reading it.
func asListing(err error) error {
	_, isSyntax := errors.AsType[*json.SyntaxError](err)
	_, isType := errors.AsType[*json.UnmarshalTypeError](err)
	if err == nil || isSyntax || isType {
		return fmt.Errorf("%w: JSON of something else", ErrNoListing)
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// modTime is the time of an element: nginx writes it as HTTP does, Caddy as RFC 3339 says.
func (o *object) modTime() time.Time {
	if t, err := time.Parse(time.RFC1123, o.MTime); err == nil {
		return t.UTC()
	}
	t, err := time.Parse(time.RFC3339, o.Time)
	if err != nil {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Second)
}

func (c *collector) addObject(o *object) error {
	name, slash := strings.CutSuffix(o.Name, "/")
	if href, ok := strings.CutPrefix(o.Href, "./"); ok {
		if exact, err := url.PathUnescape(strings.TrimSuffix(href, "/")); err == nil {
			name = exact
		}
	}
	if !isName(name) {
		return nil
	}
	e := Entry{Name: name, Folder: slash || o.IsDir || o.Type == "directory", Size: -1, Most: -1}
	e.Stamp = o.MTime + o.Time
	e.ModTime = o.modTime()
	if !e.Folder {
		if o.Type != "" && o.Type != "file" {
			return nil
		}
		if o.Size != nil && *o.Size >= 0 && *o.Size < 1<<53 {
			e.Size, e.Least, e.Most = *o.Size, *o.Size, *o.Size
			e.Stamp += fmt.Sprint(" ", e.Size)
		}
	}
	return c.add(e)
}
