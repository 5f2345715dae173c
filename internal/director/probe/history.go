package probe

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"freshet/internal/durable"
)

// Change is one of a way.
type Change struct {
	At     time.Time
	Works  bool
	Why    Reason
	Detail string
}

const (
	historyFile = "health.log"
	mostChanges = 64 // of a way
	maxLine     = 4 << 10
	maxDetail   = 300
	// maxHistory is how long the file may become, unless what is to be kept is longer.
	maxHistory = 4 << 20
	// trusted is how old the last sign of life in the file may be for a way to count as
	// working without a look. A sign is given every minute.
	trusted = 10 * time.Minute
)

// history is what changed, in memory and in a file that only grows until it is written
// anew. docs/formats/director-health.md describes it.
type history struct {
	changes map[Way][]Change
	fresh   bool        // the file was in use a moment ago
	dir     durable.Dir // without a Root: in memory only
	file    *os.File
	size    int64 // of the file
	limit   int64 // at which it is written anew
	// unwritten is why it could not be written anew at the start, such as a full disk.
	unwritten error
}

// record is a line of the file.
type record struct {
	Time    time.Time `json:"time"`
	Mirror  string    `json:"mirror"`
	Project string    `json:"project"`
	Scheme  string    `json:"scheme"`
	Family  string    `json:"family"`
	Works   bool      `json:"works"`
	Why     Reason    `json:"why,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

func recordOf(w Way, c Change) record {
	return record{c.At.UTC(), w.Mirror, w.Project, w.Scheme.String(), w.Family.String(), c.Works, c.Why, c.Detail}
}

func (r *record) way() Way {
	w := Way{Mirror: r.Mirror, Project: r.Project}
	if r.Scheme == HTTPS.String() {
		w.Scheme = HTTPS
	}
	if r.Family == IPv6.String() {
		w.Family = IPv6
	}
	return w
}

// openHistory reads the history in a folder. An empty folder keeps it in memory.
func openHistory(folder string, now time.Time) (*history, error) {
	h := &history{changes: make(map[Way][]Change)}
	if folder == "" {
		return h, nil
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("history of mirrors: %w", err)
	}
	h.dir = durable.Dir{Root: root}
	if err := h.open(now); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", filepath.Join(folder, historyFile), err), root.Close())
	}
	return h, nil
}

func (h *history) open(now time.Time) error {
	if _, err := h.dir.Sweep("."); err != nil {
		return err
	}
	f, err := h.dir.Root.Open(historyFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		info, err := f.Stat()
		if err == nil {
			h.fresh = now.Sub(info.ModTime()).Abs() < trusted
			err = h.read(f)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	h.unwritten = h.rewrite() // it is tried again every minute
	return nil
}

// read takes the lines of a file. Those that are no records, such as the last one of a
// file that was cut, are left out.
func (h *history) read(r io.Reader) error {
	lines := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		var rec record
		if err == nil && json.Unmarshal(line, &rec) == nil && rec.Mirror != "" {
			h.keep(rec.way(), Change{rec.Time, rec.Works, rec.Why, rec.Detail})
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

func (h *history) keep(w Way, c Change) {
	changes := append(h.changes[w], c)
	if len(changes) > mostChanges {
		changes = changes[1:]
	}
	h.changes[w] = changes
}

// add takes a change. It is in the file when add returns, though not necessarily on the
// disk.
func (h *history) add(w Way, c Change) error {
	if len(c.Detail) > maxDetail {
		c.Detail = c.Detail[:maxDetail]
	}
	h.keep(w, c)
	switch {
	case h.dir.Root == nil:
		return nil
	case h.file == nil || h.size > h.limit:
		return h.rewrite()
	}
	return h.append(h.file, w, c)
}

func (h *history) append(out io.Writer, w Way, c Change) error {
	line, err := json.Marshal(recordOf(w, c))
	if err != nil {
		return err
	}
	n, err := out.Write(append(line, '\n'))
	h.size += int64(n)
	return err
}

// rewrite writes the file anew, with what is kept.
func (h *history) rewrite() error {
	h.size = 0
	err := h.dir.Write(historyFile, 0o644, func(out io.Writer) error {
		buffered := bufio.NewWriter(out)
		for w, changes := range h.changes {
			for _, c := range changes {
				if err := h.append(buffered, w, c); err != nil {
					return err
				}
			}
		}
		return buffered.Flush()
	})
	if err != nil {
		return err
	}
	h.limit = max(maxHistory, 2*h.size)
	if err := h.close(); err != nil {
		return err
	}
	h.file, err = h.dir.Root.OpenFile(historyFile, os.O_WRONLY|os.O_APPEND, 0)
	return err
}

// alive gives a sign of life.
func (h *history) alive(now time.Time) error {
	switch {
	case h.dir.Root == nil:
		return nil
	case h.file == nil:
		return h.rewrite()
	}
	return h.dir.Root.Chtimes(historyFile, now, now)
}

// close closes the file.
func (h *history) close() error {
	if h.file == nil {
		return nil
	}
	err := h.file.Close()
	h.file = nil
	return err
}

// judge goes on with a way where the history ends. One that worked is taken to do so
// still if the history was in use a moment ago.
func (h *history) judge(w Way) judge {
	changes := h.changes[w]
	if len(changes) == 0 {
		return judge{Health: Health{Why: Unprobed}}
	}
	last := changes[len(changes)-1]
	health := Health{Works: last.Works, Why: last.Why, Detail: last.Detail, Since: last.At}
	if last.Works && !h.fresh {
		return judge{Health: Health{Why: Unprobed}}
	}
	var falls []time.Time
	seen := false
	for _, c := range changes {
		if seen && !c.Works {
			falls = append(falls, c.At)
		}
		seen = seen || c.Works
	}
	if !seen {
		return judge{Health: health}
	}
	return restored(health, falls)
}
