package watchapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Bounds of what is read of an answer.
const (
	maxAnswer = 64 << 10
	maxAfter  = 5 * time.Minute
)

// Client delivers batches to a watch. It may be used by several goroutines at once; the
// batches of a node are to be delivered one after the other.
type Client struct {
	// Base is the URL of the watch, Token that of the node.
	Base, Token string
	// HTTP makes the requests; nil: [http.DefaultClient].
	HTTP *http.Client
}

// Push delivers a batch, compressed with zstd, whose ID is the one in its first line. After
// an error it is not known whether the watch has it, and it is delivered again, unless it
// is an [*Error] that is [Error.Final].
func (c *Client) Push(ctx context.Context, id ID, batch []byte) (ack Ack, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.Base, "/")+BatchesPath, bytes.NewReader(batch))
	if err != nil {
		return ack, fmt.Errorf("watch %q: %w", c.Base, err)
	}
	req.Header.Set("Content-Type", MediaType)
	req.Header.Set("Content-Encoding", "zstd")
	req.Header.Set("Accept", "application/json")
	req.Header.Set(BatchHeader, id.String())
	req.Header.Set(SentHeader, strconv.FormatInt(time.Now().UnixMilli(), 10))
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return ack, fmt.Errorf("watch: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // what is left is not wanted
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return ack, fmt.Errorf("read the watch's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return ack, errorOf(resp, text)
	}
	if err := json.Unmarshal(text, &ack); err != nil || ack.Batch != id.String() {
		return ack, fmt.Errorf("unexpected answer of %s: is this the URL of a watch?", c.Base)
	}
	return ack, nil
}

// errorOf is what an answer that is no success says.
func errorOf(resp *http.Response, text []byte) error {
	e := new(Error)
	if json.Unmarshal(text, e) != nil || e.Reason == "" {
		*e = Error{Reason: "unknown", Message: "unexpected answer: is this the URL of a watch?"}
	}
	e.Status = resp.StatusCode
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.After = min(time.Duration(min(seconds, 3600))*time.Second, maxAfter)
	}
	return e
}
