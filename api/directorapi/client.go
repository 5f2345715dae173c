package directorapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Client speaks with the admin listener of one director. Only Base must be set. It may be
// used by several goroutines at once. Every error of an answer is an [*Error].
type Client struct {
	// Base is the URL of the listener, "http://127.0.0.1:9600".
	Base string
	// Token is sent with every request, unless it is empty.
	Token string
	// HTTP makes the requests; nil stands for http.DefaultClient.
	HTTP *http.Client

	limit int64 // of answers, in bytes; 0: maxAnswer
}

// Bounds of answers, in bytes.
const (
	maxAnswer = 256 << 20
	maxError  = 4 << 20
)

// EditOptions are those of a request that changes the catalogue.
type EditOptions struct {
	// DryRun changes nothing, and tells what would change.
	DryRun bool
	// Note is kept in the history.
	Note string
	// IfMatch is the ETag of the catalogue that the change was made of; empty: whatever it
	// is. New: there must be no item of that name yet.
	IfMatch string
	New     bool
}

// Catalogue returns the catalogue.
func (c *Client) Catalogue(ctx context.Context) (*Catalogue, error) {
	var answer Catalogue
	err := c.get(ctx, CataloguePath, nil, &answer)
	return &answer, err
}

// Item reads a [Project], [Site] or [Mirror]. The ETag is that of the catalogue.
func (c *Client) Item(ctx context.Context, items Items, name string, into any) (etag string, err error) {
	header, err := c.send(ctx, http.MethodGet, ItemPath(items, url.PathEscape(name)), nil, nil, nil, into)
	return header.Get("ETag"), err
}

// Replace puts another catalogue in the place of all that there is.
func (c *Client) Replace(ctx context.Context, catalogue *Catalogue, opt EditOptions) (Change, error) {
	return c.edit(ctx, http.MethodPut, CataloguePath, catalogue, opt)
}

// Put adds an item, a [Project], [Site] or [Mirror], or changes the one of that name.
func (c *Client) Put(ctx context.Context, items Items, name string, item any, opt EditOptions) (Change, error) {
	return c.edit(ctx, http.MethodPut, ItemPath(items, url.PathEscape(name)), item, opt)
}

// Remove removes an item.
func (c *Client) Remove(ctx context.Context, items Items, name string, opt EditOptions) (Change, error) {
	return c.edit(ctx, http.MethodDelete, ItemPath(items, url.PathEscape(name)), nil, opt)
}

// HistoryQuery says which changes are wanted.
type HistoryQuery struct {
	// Before is the Next of the answer before; 0: from the newest.
	Before int64
	// Items and Name are what was changed; empty: anything.
	Items Items
	Name  string
	// Limit is how many at most; 0: as the director likes.
	Limit int
}

// History returns changes, newest first.
func (c *Client) History(ctx context.Context, q HistoryQuery) (h History, err error) {
	query := make(url.Values)
	set(query, "kind", string(q.Items))
	set(query, "name", q.Name)
	if q.Before > 0 {
		query.Set("before", strconv.FormatInt(q.Before, 10))
	}
	if q.Limit > 0 {
		query.Set("limit", strconv.Itoa(q.Limit))
	}
	err = c.get(ctx, HistoryPath, query, &h)
	return h, err
}

// Scans returns what is known of inventories, of one mirror and one project if these are
// not empty.
func (c *Client) Scans(ctx context.Context, mirror, project string) (list ScanList, err error) {
	query := make(url.Values)
	set(query, "mirror", mirror)
	set(query, "project", project)
	err = c.get(ctx, ScansPath, query, &list)
	return list, err
}

// Scan has it found out anew what a mirror has. It does not wait for that.
func (c *Client) Scan(ctx context.Context, req ScanRequest) error {
	_, err := c.send(ctx, http.MethodPost, ScansPath, nil, nil, req, nil)
	return err
}

// WhyQuery is a request that is to be explained.
type WhyQuery struct {
	// Path is that on the director.
	Path string
	// Client is the address of the client; empty: that of who asks.
	Client string
	// Mirror is the one that it is about; empty: all.
	Mirror string
}

// Why explains how a request is answered.
func (c *Client) Why(ctx context.Context, q WhyQuery) (why Why, err error) {
	query := url.Values{"path": {q.Path}}
	set(query, "client", q.Client)
	set(query, "mirror", q.Mirror)
	err = c.get(ctx, WhyPath, query, &why)
	return why, err
}

// Report tells what was seen of mirrors.
func (c *Client) Report(ctx context.Context, reports Reports) error {
	_, err := c.send(ctx, http.MethodPost, ReportsPath, nil, nil, reports, nil)
	return err
}

func set(query url.Values, key, value string) {
	if value != "" {
		query.Set(key, value)
	}
}

func (c *Client) get(ctx context.Context, path string, query url.Values, out any) error {
	_, err := c.send(ctx, http.MethodGet, path, query, nil, nil, out)
	return err
}

func (c *Client) edit(ctx context.Context, method, path string, in any, opt EditOptions) (change Change, err error) {
	query, header := make(url.Values), make(http.Header)
	set(query, "note", opt.Note)
	if opt.DryRun {
		query.Set("dry-run", "true")
	}
	if opt.IfMatch != "" {
		header.Set("If-Match", opt.IfMatch)
	}
	if opt.New {
		header.Set("If-None-Match", "*")
	}
	_, err = c.send(ctx, method, path, query, header, in, &change)
	return change, err
}

// send marshals in (unless nil) as the body, calls, and decodes the answer into out
// (unless nil). It returns the header of the answer.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, header http.Header, in, out any) (http.Header, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode %T: %w", in, err)
		}
		body = bytes.NewReader(text)
	}
	target := strings.TrimSuffix(c.Base, "/") + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("director %q: %w", c.Base, err)
	}
	if header != nil {
		req.Header = header
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.do(req, out)
}

// do sends a request and decodes the answer into out (unless nil). It returns the header
// of the answer.
func (c *Client) do(req *http.Request, out any) (http.Header, error) {
	req.Header.Set("Accept", "application/json")
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("director: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // what is left is not wanted
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, readError(resp)
	}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return resp.Header, nil
	}
	limit := cmp.Or(c.limit, maxAnswer)
	if err := json.NewDecoder(io.LimitReader(resp.Body, limit)).Decode(out); err != nil {
		return nil, fmt.Errorf("read the director's answer: %w", err)
	}
	return resp.Header, nil
}

// readError is what an answer that is no success says.
func readError(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
	var answer Error
	if err != nil || json.Unmarshal(text, &answer) != nil || answer.Reason == "" {
		answer = Error{Reason: "unknown", Message: "unexpected answer: is this the admin listener of a director, and http or https as it speaks?"}
	}
	answer.Status = resp.StatusCode
	return &answer
}
