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
	"strings"
	"sync"

	"freshet/api/mirrorapi"
	"freshet/internal/durable"
)

// maxFile is the size from which a file is cut to its newest half, in bytes.
const maxFile = 4 << 20

// Log is the reports of all projects, in one folder. Safe for concurrent use.
type Log struct {
	dir durable.Dir

	mu      sync.Mutex
	last    map[string]mirrorapi.Report
	unsaved map[string][]byte // lines by project, while the disk does not take them
}

// New returns the log in a folder, which is there.
func New(dir durable.Dir) *Log {
	return &Log{dir: dir, last: make(map[string]mirrorapi.Report), unsaved: make(map[string][]byte)}
}

func name(project string) string { return project + ".jsonl" }

// Append numbers a report and adds it. It survives a crash when Append returns without an
// error; after one it is kept in memory, and is written with the next.
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
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n') // of a line that is damaged
	}
	text = append(append(cut(text, maxFile-len(line)), line...), '\n')
	l.last[report.Project] = report
	if err := l.dir.WriteFile(name(report.Project), text, 0o644); err != nil {
		l.keep(report.Project, line)
		return report, fmt.Errorf("report of %s: %w", report.Project, err)
	}
	delete(l.unsaved, report.Project)
	return report, nil
}

// maxUnsaved bounds the reports of a project that wait for room on the disk, in bytes.
const maxUnsaved = 256 << 10

// keep keeps a line for the next file.
func (l *Log) keep(project string, line []byte) {
	l.unsaved[project] = cut(append(append(l.unsaved[project], line...), '\n'), maxUnsaved)
}

// Forget removes the reports of a project.
func (l *Log) Forget(project string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.last, project)
	delete(l.unsaved, project)
	return l.dir.Remove(name(project))
}

// Mend removes the lines of all files that are no reports, as a loss of power or a disk
// leaves them, and returns how many it removed, by project. A file that cannot be read is put
// aside, as NAME.damaged, and counts as one. Numbers go on behind the
// newest report that is left.
func (l *Log) Mend() (map[string]int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	names, err := fs.Glob(l.dir.Root.FS(), name("*"))
	if err != nil {
		return nil, err
	}
	removed := make(map[string]int)
	for _, file := range names {
		project := strings.TrimSuffix(file, name(""))
		text, err := l.read(project)
		if err != nil { // the disk does not give it
			if err := l.dir.Rename(file, file+".damaged"); err != nil {
				return removed, err
			}
			removed[project]++
			continue
		}
		var sound []byte
		for line := range bytes.Lines(text) {
			var r mirrorapi.Report
			if json.Unmarshal(line, &r) != nil {
				removed[project]++
				continue
			}
			sound = append(append(sound, bytes.TrimSuffix(line, []byte("\n"))...), '\n')
		}
		if bytes.Equal(sound, text) {
			continue
		}
		if err := l.dir.WriteFile(file, sound, 0o644); err != nil {
			return removed, fmt.Errorf("reports of %s: %w", project, err)
		}
	}
	return removed, nil
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
		return slices.Clone(l.unsaved[project]), nil
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
	if more := l.unsaved[project]; len(more) > 0 {
		if len(text) > 0 && text[len(text)-1] != '\n' {
			text = append(text, '\n')
		}
		text = append(text, more...)
	}
	return slices.Clip(text), nil
}
