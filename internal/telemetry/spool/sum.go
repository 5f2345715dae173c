package spool

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"freshet/api/watchapi"
)

// A Sum adds up lines of batches. The zero value is empty. It is for one goroutine at a
// time.
type Sum struct {
	cells    map[cell]*watchapi.Count
	projects map[string]watchapi.Project
	disk     *watchapi.Disk
	dropped  map[string]watchapi.Dropped // by reason
}

// cell is what of a count is not added up.
type cell struct {
	cube      string
	width, at int64
	labels    string
}

const hour = 3600

// Add adds a line, which the sum keeps.
func (s *Sum) Add(l watchapi.Line) {
	switch {
	case l.Count != nil:
		s.count(l.Count)
	case l.Project != nil:
		if old, ok := s.projects[l.Project.Name]; ok && old.At.After(l.Project.At) {
			return
		}
		if s.projects == nil {
			s.projects = make(map[string]watchapi.Project)
		}
		s.projects[l.Project.Name] = *l.Project
	case l.Disk != nil:
		if s.disk == nil || !s.disk.At.After(l.Disk.At) {
			s.disk = l.Disk
		}
	case l.Dropped != nil:
		d := s.dropped[l.Dropped.Reason]
		d.Reason = l.Dropped.Reason
		d.Batches += l.Dropped.Batches
		d.Requests += l.Dropped.Requests
		d.Bytes += l.Dropped.Bytes
		if s.dropped == nil {
			s.dropped = make(map[string]watchapi.Dropped)
		}
		s.dropped[d.Reason] = d
	}
}

func (s *Sum) count(c *watchapi.Count) {
	k := cell{c.Cube, c.Width, c.At, strings.Join(c.Labels, "\x00")}
	if s.cells == nil {
		s.cells = make(map[cell]*watchapi.Count)
	}
	if old := s.cells[k]; old != nil {
		old.Requests += c.Requests
		old.Bytes += c.Bytes
		old.Times = addTimes(old.Times, c.Times)
		return
	}
	s.cells[k] = c
}

// addTimes adds the buckets of two histograms.
func addTimes(a, b []watchapi.Bucket) []watchapi.Bucket {
	if len(a) == 0 || len(b) == 0 {
		return append(a, b...)
	}
	sums := make(map[int64]int64, len(a)+len(b))
	for _, bucket := range append(slices.Clone(a), b...) {
		sums[bucket[0]] += bucket[1]
	}
	list := make([]watchapi.Bucket, 0, len(sums))
	for _, index := range slices.Sorted(maps.Keys(sums)) {
		list = append(list, watchapi.Bucket{index, sums[index]})
	}
	return list
}

// Coarsen makes minutes hours. Nothing else is lost.
func (s *Sum) Coarsen() {
	cells := s.cells
	s.cells = nil
	for _, c := range cells {
		if c.Width < hour {
			c.Width, c.At = hour, c.At-c.At%hour
		}
		s.count(c)
	}
}

// Len is how many lines the sum has.
func (s *Sum) Len() int {
	n := len(s.cells) + len(s.projects) + len(s.dropped)
	if s.disk != nil {
		n++
	}
	return n
}

// Lines returns what was added up, in a fixed order. They belong to the caller, and the sum
// is empty afterwards.
func (s *Sum) Lines() []watchapi.Line {
	list := make([]watchapi.Line, 0, s.Len())
	keys := slices.SortedFunc(maps.Keys(s.cells), func(a, b cell) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.cube, b.cube), cmp.Compare(a.width, b.width), cmp.Compare(a.labels, b.labels))
	})
	for _, k := range keys {
		list = append(list, watchapi.Line{Count: s.cells[k]})
	}
	for _, name := range slices.Sorted(maps.Keys(s.projects)) {
		p := s.projects[name]
		list = append(list, watchapi.Line{Project: &p})
	}
	if s.disk != nil {
		list = append(list, watchapi.Line{Disk: s.disk})
	}
	list = append(list, s.droppedLines()...)
	*s = Sum{}
	return list
}

// droppedLines are what the sum tells of batches that were dropped.
func (s *Sum) droppedLines() []watchapi.Line {
	var list []watchapi.Line
	for _, reason := range slices.Sorted(maps.Keys(s.dropped)) {
		d := s.dropped[reason]
		list = append(list, watchapi.Line{Dropped: &d})
	}
	return list
}

// Served is what a sum counts: finished transfers, and bytes. Each of them is in the cube
// of protocols once.
func (s *Sum) Served() (requests, bytes int64) {
	for _, c := range s.cells {
		if c.Cube == watchapi.CubeProtocols {
			requests += c.Requests
			bytes += c.Bytes
		}
	}
	return requests, bytes
}
