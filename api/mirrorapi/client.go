package mirrorapi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Client speaks with a mirror: with its admin listener, and for [Client.Trigger] with its
// public one. Only Base must be set. It may be used by several goroutines at once. Every
// error of an answer is an [*Error].
type Client struct {
	// Base is the URL of the listener, "http://127.0.0.1:9600".
	Base string
	// Token is sent with every request, unless it is empty.
	Token string
	// HTTP makes the requests; nil stands for http.DefaultClient.
	HTTP *http.Client
}

// Bounds of answers, in bytes.
const (
	maxAnswer = 64 << 20
	maxHead   = 1 << 20 // of a mirror of somebody else
	maxLine   = 8 << 20
	maxError  = 1 << 20
)

// Status returns what the mirror does and has.
func (c *Client) Status(ctx context.Context) (st Status, err error) {
	err = c.call(ctx, http.MethodGet, StatusPath, nil, &st)
	return st, err
}

// Project returns what the mirror does with a project.
func (c *Client) Project(ctx context.Context, project string) (st ProjectStatus, err error) {
	err = c.call(ctx, http.MethodGet, ProjectPath(project, ""), nil, &st)
	return st, err
}

// Doctor returns what the mirror finds wrong with itself.
func (c *Client) Doctor(ctx context.Context) (d Diagnosis, err error) {
	err = c.call(ctx, http.MethodGet, DoctorPath, nil, &d)
	return d, err
}

// Log returns the newest reports of a project; limit 0: as many as the mirror likes.
func (c *Client) Log(ctx context.Context, project string, limit int) (l Log, err error) {
	path := ProjectPath(project, LogPath)
	if limit > 0 {
		path += "?" + url.Values{"limit": {strconv.Itoa(limit)}}.Encode()
	}
	err = c.call(ctx, http.MethodGet, path, nil, &l)
	return l, err
}

// Generations returns those of a project.
func (c *Client) Generations(ctx context.Context, project string) (g Generations, err error) {
	err = c.call(ctx, http.MethodGet, ProjectPath(project, GenerationsPath), nil, &g)
	return g, err
}

// Rollback serves an older generation of a project, which is held then.
func (c *Client) Rollback(ctx context.Context, project string, req GenerationRequest) (g Generations, err error) {
	err = c.call(ctx, http.MethodPost, ProjectPath(project, RollbackPath), req, &g)
	return g, err
}

// Drop removes a generation of a project that is not the current one.
func (c *Client) Drop(ctx context.Context, project string, req GenerationRequest) (g Generations, err error) {
	err = c.call(ctx, http.MethodPost, ProjectPath(project, DropPath), req, &g)
	return g, err
}

// Remove removes a project that is not in the mirror's configuration with all that it has.
func (c *Client) Remove(ctx context.Context, project string) (r Removal, err error) {
	err = c.call(ctx, http.MethodDelete, ProjectPath(project, ""), nil, &r)
	return r, err
}

// Plan returns what a project will take.
func (c *Client) Plan(ctx context.Context, project string) (p Plan, err error) {
	err = c.call(ctx, http.MethodGet, ProjectPath(project, PlanPath), nil, &p)
	return p, err
}

// Sync has a project synced, and does not wait for it.
func (c *Client) Sync(ctx context.Context, project string, req SyncRequest) (answer SyncAnswer, err error) {
	req.Wait = false
	err = c.call(ctx, http.MethodPost, ProjectPath(project, SyncPath), req, &answer)
	return answer, err
}

// Cancel ends the sync of a project that runs, and takes back one that waits.
func (c *Client) Cancel(ctx context.Context, project string) (answer SyncAnswer, err error) {
	err = c.call(ctx, http.MethodPost, ProjectPath(project, CancelPath), nil, &answer)
	return answer, err
}

// Hold has a project stay as it is until [Client.Release]. A sync of it that runs is ended.
func (c *Client) Hold(ctx context.Context, project string, req HoldRequest) (answer SyncAnswer, err error) {
	err = c.call(ctx, http.MethodPost, ProjectPath(project, HoldPath), req, &answer)
	return answer, err
}

// Release ends the hold of a project: what waited begins.
func (c *Client) Release(ctx context.Context, project string) (answer SyncAnswer, err error) {
	err = c.call(ctx, http.MethodPost, ProjectPath(project, ReleasePath), nil, &answer)
	return answer, err
}

// ErrCut says that a stream ended before its last line.
var ErrCut = errors.New("the mirror's answer was cut")

// SyncWaiting has a project synced, and yields how it goes; the last event has the report,
// or there is an error. Leaving the loop does not end the sync.
func (c *Client) SyncWaiting(ctx context.Context, project string, req SyncRequest) iter.Seq2[SyncEvent, error] {
	req.Wait = true
	return stream(ctx, c, ProjectPath(project, SyncPath), req, func(e SyncEvent) bool { return e.Report != nil })
}

// Verify has the files of a project compared with their checksums, and yields how it goes;
// the last has End, or there is an error. Leaving the loop ends it.
func (c *Client) Verify(ctx context.Context, project string, req VerifyRequest) iter.Seq2[VerifyProgress, error] {
	return stream(ctx, c, ProjectPath(project, VerifyPath), req, func(p VerifyProgress) bool { return p.End })
}

// Trigger sends a trigger to the public listener of a mirror.
func (c *Client) Trigger(ctx context.Context, t SignedTrigger) (answer TriggerAnswer, err error) {
	err = c.call(ctx, http.MethodPost, TriggerPath, t, &answer)
	return answer, err
}

// SignTrigger signs a trigger for the mirror, and sends it to its public listener.
func (c *Client) SignTrigger(ctx context.Context, t Trigger, key ed25519.PrivateKey) (TriggerAnswer, error) {
	u, err := url.Parse(c.Base)
	if err != nil {
		return TriggerAnswer{}, fmt.Errorf("mirror: %w", err)
	}
	t.Host = u.Host
	signed, err := t.Sign(key)
	if err != nil {
		return TriggerAnswer{}, err
	}
	return c.Trigger(ctx, signed)
}

// call sends in (unless nil) as the body, and decodes the answer into out.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	return c.callBounded(ctx, maxAnswer, method, path, in, out)
}

// callBounded is call for answers of so many bytes at most.
func (c *Client) callBounded(ctx context.Context, most int64, method, path string, in, out any) error {
	body, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // what is left is not wanted
	if err := json.NewDecoder(io.LimitReader(body, most)).Decode(out); err != nil {
		return fmt.Errorf("read the mirror's answer: %w", err)
	}
	return nil
}

// stream yields the lines of an answer until one of them is the last.
func stream[T any](ctx context.Context, c *Client, path string, in any, last func(T) bool) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		body, err := c.send(ctx, http.MethodPost, path, in)
		if err != nil {
			yield(zero, err)
			return
		}
		defer func() { _ = body.Close() }() // what is left is not wanted
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			var v T
			if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
				yield(zero, fmt.Errorf("read the mirror's answer: %w", err))
				return
			}
			if !yield(v, nil) || last(v) {
				return
			}
		}
		err = lines.Err()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		yield(zero, errors.Join(ErrCut, err))
	}
}

// send sends a request and returns the body of a success.
func (c *Client) send(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode %T: %w", in, err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.Base, "/")+path, body)
	if err != nil {
		return nil, fmt.Errorf("mirror %q: %w", c.Base, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }() // the status says enough
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
	answer := &Error{}
	if err != nil || json.Unmarshal(text, answer) != nil || answer.Reason == "" {
		answer.Reason, answer.Message = "unknown", "unexpected answer: is this a listener of a mirror, and http or https as it speaks?"
	}
	answer.Status = resp.StatusCode
	return nil, answer
}
