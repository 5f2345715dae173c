package control

import (
	"context"
	"encoding/json"
	"errors"
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
//
// Anybody can be refused as often as they like. Of refused orders whose giver is not known
// 60 are noted in a minute, with the beginning of what they were; how many others there
// were is told in a record of its own, with the action [Unnoted].
type Audit struct {
	log *slog.Logger

	mu        sync.Mutex
	file      *os.File
	torn      bool // it ends within a line
	strangers strangers
}

// Unnoted is the action of the record that counts orders which were not noted one by one.
const Unnoted = "unnoted"

// strangers bounds the records of those who are not known.
type strangers struct {
	since   time.Time // when the minute began
	noted   int       // in it
	unnoted int       // since the last record that tells of them
}

const (
	strangersMost  = 60 // in strangersEvery
	strangersEvery = time.Minute
	strangersWhat  = 500 // what a record of theirs tells, in bytes
)

// turn begins another minute if the last one is over, and returns the record that tells of
// what was not noted in it, if anything was.
func (s *strangers) turn(now time.Time) (o Order, any bool) {
	if passed := now.Sub(s.since); passed >= 0 && passed < strangersEvery {
		return o, false
	}
	o, any = s.rest(now)
	s.since, s.noted = now, 0
	return o, any
}

// rest is the record of what was not noted.
func (s *strangers) rest(now time.Time) (o Order, any bool) {
	if s.unnoted == 0 {
		return o, false
	}
	o = Order{
		Time: now, Action: Unnoted, Result: "unauthorized", Count: s.unnoted,
		Detail: fmt.Sprintf("%d orders more were refused since %s whose givers are not known", s.unnoted, s.since.Format(time.RFC3339)),
	}
	s.unnoted = 0
	return o, true
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
	stranger := o.Client == "" && o.Result != Done
	a.mu.Lock()
	before, any := a.strangers.turn(o.Time)
	noted := true
	if stranger {
		if noted = a.strangers.noted < strangersMost; noted {
			a.strangers.noted++
		} else {
			a.strangers.unnoted++
		}
	}
	a.mu.Unlock()
	if any {
		a.note(ctx, before, maxWhat)
	}
	switch {
	case stranger && noted:
		a.note(ctx, o, strangersWhat)
	case noted:
		a.note(ctx, o, maxWhat)
	}
}

// note notes an order, and at most so many bytes of what it was and of what came of it.
func (a *Audit) note(ctx context.Context, o Order, most int) {
	what, err := json.Marshal(o.What)
	if len(what) > most {
		o.What = fmt.Sprintf("%s… (%d bytes)", what[:most], len(what))
		what = append(what[:most:most], "…"...)
	}
	if len(o.Detail) > most {
		o.Detail = o.Detail[:most]
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
	if err := a.write(line, o.Result == Done); err != nil {
		a.log.ErrorContext(ctx, "audit not written", slog.Any("error", err))
	}
}

// write adds a line to the file. It is called with mu.
func (a *Audit) write(line []byte, durable bool) error {
	if a.file == nil {
		return nil
	}
	line = append(line, '\n')
	if a.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := a.file.Write(line)
	if n > 0 {
		a.torn = line[n-1] != '\n'
	}
	if err == nil && durable {
		err = a.file.Sync()
	}
	return err
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
	var err error
	if rest, any := a.strangers.rest(time.Now().UTC()); any {
		line, _ := json.Marshal(rest) // strings and numbers
		err = a.write(line, false)
	}
	err = errors.Join(err, a.file.Close())
	a.file = nil
	return err
}
