// Package remote gets something again and again from where others keep it: from another
// director, which answers when there is something new, from any web server, or from a
// file. It is asked for by what is known of it, so that nothing is sent twice.
package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/watchdog"
)

// Options say what is got. From and Path are needed.
type Options struct {
	// From is the URL of a director's admin listener or of a file, or the path of a file.
	From string
	// Path is where a director has it. A URL without a path, or with this one, is that of
	// a director.
	Path string
	// Query is added to what a director is asked.
	Query url.Values
	// Token is shown to the server; empty: none is.
	Token string
	// HTTP makes the requests; nil stands for http.DefaultClient.
	HTTP *http.Client
}

// Resource is what is got. It does not change, and any goroutine may use it.
type Resource struct {
	o        Options
	url      *url.URL // nil: it is a file
	director bool
}

// New returns a resource. The error says what is wrong with From.
func New(o Options) (*Resource, error) {
	r := &Resource{o: o}
	if o.HTTP == nil {
		r.o.HTTP = http.DefaultClient
	}
	if !strings.Contains(o.From, "://") {
		return r, nil
	}
	var err error
	if r.url, err = url.Parse(o.From); err != nil || r.url.Scheme != "http" && r.url.Scheme != "https" || r.url.Host == "" {
		return nil, fmt.Errorf("want a URL with http:// or https://, or the path of a file, got %q", o.From)
	}
	if r.url.Path == "" || r.url.Path == "/" {
		r.url.Path = o.Path
	}
	r.director = strings.HasSuffix(r.url.Path, o.Path)
	return r, nil
}

// Version tells one content from others. The zero Version is none.
type Version struct {
	// ETag is that of an answer, as it was sent.
	ETag string
	info os.FileInfo
}

// Answer is what came.
type Answer struct {
	// Body is the content, which the caller closes. Nil: it is as before.
	Body    io.ReadCloser
	Version Version
	// Waited is true if the server answered when there was something new, or as late
	// as it could: it can be asked again at once.
	Waited bool
}

// Times of requests.
const (
	askFor  = time.Minute      // how long a director may wait before it answers
	silence = 30 * time.Second // how long nothing may come otherwise
)

// Get asks once for what differs from the version that the caller has.
func (r *Resource) Get(ctx context.Context, have Version) (Answer, error) {
	if r.url == nil {
		return r.open(have)
	}
	target, limit := *r.url, silence
	if r.director {
		query := target.Query()
		maps.Copy(query, r.o.Query)
		if have.ETag != "" {
			query.Set("wait", askFor.String())
			limit += askFor
		}
		target.RawQuery = query.Encode()
	}
	return r.ask(ctx, target.String(), have, limit)
}

// ask makes a request, whose answer begins within a time.
func (r *Resource) ask(ctx context.Context, target string, have Version, limit time.Duration) (Answer, error) {
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return Answer{}, err
	}
	if have.ETag != "" {
		req.Header.Set("If-None-Match", have.ETag)
	}
	if r.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.o.Token)
	}
	resp, err := watchdog.Do(r.o.HTTP, req, limit, silence)
	if err != nil {
		return Answer{}, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		v := Version{ETag: resp.Header.Get("ETag")} // a date does not tell what changes within a second
		// An answer that nobody asked to be another comes from who knows no ETag.
		return Answer{Body: resp.Body, Version: v, Waited: r.director && v.ETag != "" && v.ETag != have.ETag}, nil
	case http.StatusNotModified:
		_ = resp.Body.Close() // it has none
		return Answer{Version: have, Waited: r.director && time.Since(begin) >= askFor}, nil
	}
	defer func() { _ = resp.Body.Close() }() // what is left is not wanted
	return Answer{}, fmt.Errorf("%s: answered %s%s", r.url.Redacted(), resp.Status, reasonIn(resp))
}

// reasonIn is what a director says of a refusal.
func reasonIn(resp *http.Response) string {
	var refused directorapi.Error
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || json.Unmarshal(text, &refused) != nil || refused.Message == "" {
		return ""
	}
	return ": " + refused.Message
}

// open opens a file if it has changed.
func (r *Resource) open(have Version) (Answer, error) {
	f, err := os.Open(r.o.From)
	if err != nil {
		return Answer{}, err
	}
	info, err := f.Stat()
	if err == nil && have.info != nil && os.SameFile(have.info, info) && have.info.Size() == info.Size() && have.info.ModTime().Equal(info.ModTime()) {
		return Answer{Version: have}, f.Close()
	}
	if err != nil {
		return Answer{}, errors.Join(err, f.Close())
	}
	return Answer{Body: f, Version: Version{info: info}}, nil
}
