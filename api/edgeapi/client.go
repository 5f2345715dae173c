package edgeapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
)

// Client speaks with the admin listener of one edge. Only Base must be set. It
// may be used by several goroutines at once.
type Client struct {
	// Base is the URL of the listener, "http://127.0.0.1:9600".
	Base string
	// Token is sent with every request, unless it is empty.
	Token string
	// HTTP makes the requests; nil stands for http.DefaultClient.
	HTTP *http.Client
}

// maxLine bounds a line of a stream, and an error.
const maxLine = 1 << 20

// Purge purges. The error is an [*Error] if the edge refused.
func (c *Client) Purge(ctx context.Context, req PurgeRequest) (PurgeResult, error) {
	var result PurgeResult
	body, err := c.post(ctx, PurgePath, req)
	if err != nil {
		return result, err
	}
	defer func() { _ = body.Close() }() // read to its end
	if err := json.NewDecoder(io.LimitReader(body, maxLine)).Decode(&result); err != nil {
		return result, fmt.Errorf("read the edge's answer: %w", err)
	}
	return result, nil
}

// ErrCut says that a stream ended before its last line.
var ErrCut = errors.New("the edge's answer was cut")

// Warm yields the progress of a warming until it ends; the last one has End
// set, or there is an error. Leaving the loop ends the warming.
func (c *Client) Warm(ctx context.Context, req WarmRequest) iter.Seq2[WarmProgress, error] {
	return func(yield func(WarmProgress, error) bool) {
		body, err := c.post(ctx, WarmPath, req)
		if err != nil {
			yield(WarmProgress{}, err)
			return
		}
		defer func() { _ = body.Close() }() // what is left is not wanted
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			var p WarmProgress
			if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
				yield(p, fmt.Errorf("read the edge's answer: %w", err))
				return
			}
			if !yield(p, nil) || p.End {
				return
			}
		}
		err = lines.Err()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		yield(WarmProgress{}, errors.Join(ErrCut, err))
	}
}

// post sends v and returns the body of a success.
func (c *Client) post(ctx context.Context, path string, v any) (io.ReadCloser, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.Base, "/")+path, bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("edge %q: %w", c.Base, err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }() // the status says enough
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxLine))
	answer := &Error{Status: resp.StatusCode}
	if err != nil || json.Unmarshal(text, answer) != nil || answer.Reason == "" {
		answer.Reason, answer.Message = "unknown", "unexpected answer: is this the admin listener of an edge, and http or https as it speaks?"
	}
	answer.Status = resp.StatusCode
	return nil, answer
}
