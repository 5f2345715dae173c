package control

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// AuditMessage is the message of audit records in the log.
const AuditMessage = "order"

// Order is what somebody wanted of the edge, and what came of it.
type Order struct {
	Time time.Time `json:"time"`
	// Client is its name; empty if it is not known. From is the address it came
	// from, Via the listener: "admin" or "public".
	Client string `json:"client"`
	From   string `json:"from"`
	Via    string `json:"via"`
	// Action is the verb, What describes it.
	Action string `json:"action"`
	What   any    `json:"what,omitempty"`
	// Result is "done", or the reason word of the refusal or failure.
	Result string `json:"result"`
	Detail string `json:"detail,omitempty"`
	// Count is how much it met, -1 if that was not counted.
	Count int `json:"count"`
}

// Audit notes orders. The zero value notes nothing. Safe for concurrent use.
type Audit struct {
	log *slog.Logger

	mu   sync.Mutex
	file *os.File
}

// OpenAudit notes orders in the log, and in the file unless its name is empty.
func OpenAudit(file string, log *slog.Logger) (*Audit, error) {
	a := &Audit{log: log}
	if file == "" {
		return a, nil
	}
	var err error
	if a.file, err = os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640); err != nil {
		return nil, fmt.Errorf("audit file: %w", err)
	}
	return a, nil
}

// Note notes an order. What was done is on the disk when it returns; a refusal
// may be lost with the power. A file that cannot be written is told to the log.
func (a *Audit) Note(ctx context.Context, o Order) {
	if a.log == nil {
		return
	}
	o.Time = time.Now().UTC()
	what, err := json.Marshal(o.What)
	if len(what) > maxWhat {
		o.What = fmt.Sprintf("%s… (%d bytes)", what[:maxWhat], len(what))
		what = append(what[:maxWhat:maxWhat], "…"...)
	}
	if len(o.Detail) > maxWhat {
		o.Detail = o.Detail[:maxWhat]
	}
	var line []byte
	if err == nil {
		line, err = json.Marshal(o)
	}
	if err != nil {
		a.log.ErrorContext(ctx, "audit not written", slog.Any("error", err))
		return
	}
	level := slog.LevelInfo
	if o.Result != Done {
		level = slog.LevelWarn
	}
	a.log.Log(ctx, level, AuditMessage, slog.String("client", o.Client), slog.String("from", o.From), slog.String("via", o.Via),
		slog.String("action", o.Action), slog.String("what", string(what)), slog.String("result", o.Result),
		slog.String("detail", o.Detail), slog.Int("count", o.Count))
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return
	}
	_, err = a.file.Write(append(line, '\n'))
	if err == nil && o.Result == Done {
		err = a.file.Sync()
	}
	if err != nil {
		a.log.ErrorContext(ctx, "audit not written", slog.Any("error", err))
	}
}

// maxWhat bounds what a record tells of an order, in bytes.
const maxWhat = 8 << 10

// Done is the result of an order that was carried out.
const Done = "done"

// Close closes the file.
func (a *Audit) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file = nil
	return err
}
