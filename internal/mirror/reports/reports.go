// Package reports keeps what came of syncs: a file for each project, a line of JSON for
// each sync, bounded.
package reports

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"freshet/api/mirrorapi"
	"freshet/internal/durable"
)

// maxFile is the size from which a file is cut to its newest half, in bytes.
const maxFile = 4 << 20

// Log is the reports of all projects, in one folder. Safe for concurrent use.
type Log struct {
	dir durable.Dir

	mu   sync.Mutex
	last map[string]mirrorapi.Report
}

// New returns the log in a folder, which is there.
func New(dir durable.Dir) *Log {
	return &Log{dir: dir, last: make(map[string]mirrorapi.Report)}
}

func name(project string) string { return project + ".jsonl" }

// Append numbers a report and adds it. It survives a crash when Append returns.
func (l *Log) Append(report mirrorapi.Report) (mirrorapi.Report, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, err := l.read(report.Project)
	if err != nil {
		return report, err
	}
	if last, ok := l.newest(report.Project, text); ok {
		report.Serial = last.Serial
	}
	report.Serial++
	line, err := json.Marshal(report)
	if err != nil {
		return report, fmt.Errorf("report of %s: %w", report.Project, err)
	}
	// The file is small and written seldom: to write it anew leaves no half a line.
	text = append(append(cut(text, maxFile-len(line)), line...), '\n')
	if err := l.dir.WriteFile(name(report.Project), text, 0o644); err != nil {
		return report, fmt.Errorf("report of %s: %w", report.Project, err)
	}
	l.last[report.Project] = report
	return report, nil
}

// cut returns text, or when it is longer than limit, its newest lines of half of that.
func cut(text []byte, limit int) []byte {
	if len(text) <= limit {
		return text
	}
	text = text[len(text)-max(limit, 0)/2:]
	return text[bytes.IndexByte(text, '\n')+1:]
}

// Last returns the newest report of a project; false if there is none.
func (l *Log) Last(project string) (mirrorapi.Report, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.last[project]; ok {
		return last, true, nil
	}
	text, err := l.read(project)
	if err != nil {
		return mirrorapi.Report{}, false, err
	}
	last, ok := l.newest(project, text)
	return last, ok, nil
}

// Newest returns the newest reports of a project, newest first, at most so many.
func (l *Log) Newest(project string, limit int) ([]mirrorapi.Report, error) {
	l.mu.Lock()
	text, err := l.read(project)
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	list := []mirrorapi.Report{}
	for line := range backwards(text) {
		var r mirrorapi.Report
		if json.Unmarshal(line, &r) != nil {
			continue // of another version, or damaged: the others are worth more
		}
		if list = append(list, r); len(list) == limit {
			break
		}
	}
	return list, nil
}

// newest is the newest report in a text, and remembers it.
func (l *Log) newest(project string, text []byte) (mirrorapi.Report, bool) {
	for line := range backwards(text) {
		var r mirrorapi.Report
		if json.Unmarshal(line, &r) == nil {
			l.last[project] = r
			return r, true
		}
	}
	return mirrorapi.Report{}, false
}

// backwards yields the lines of text, the last first.
func backwards(text []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for text = bytes.TrimSuffix(text, []byte("\n")); len(text) > 0; {
			cut := bytes.LastIndexByte(text, '\n')
			if !yield(text[cut+1:]) {
				return
			}
			text = text[:max(cut, 0)]
		}
	}
}

func (l *Log) read(project string) ([]byte, error) {
	f, err := l.dir.Root.Open(name(project))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	// A file that somebody else made long is not read as a whole.
	text, err := io.ReadAll(io.LimitReader(bufio.NewReader(f), 2*maxFile))
	if err != nil {
		return nil, fmt.Errorf("read reports: %w", err)
	}
	return slices.Clip(text), nil
}
