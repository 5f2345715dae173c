package tree

import (
	"fmt"
	"strings"

	"freshet/api/hubapi"
)

// Limits of what a refusal lists.
const (
	maxProblems     = 1000
	maxProblemBytes = 512 << 10
	maxProblemPath  = 1000 // bytes of a path
	maxTold         = 3    // problems in the text
	maxShown        = 200  // bytes of a path in the text
)

// RefusalError lists what is wrong with a tree. It is [ErrRefused]. Its text, one
// line, has the first of the problems and what to do.
type RefusalError struct {
	// Problems are in the order of the metadata files.
	Problems []hubapi.TreeProblem
	// More is how many there are besides those.
	More int

	remedy string
}

func (e *RefusalError) Error() string {
	var text strings.Builder
	text.WriteString(ErrRefused.Error())
	by := ""
	for i, p := range e.Problems[:min(len(e.Problems), maxTold)] {
		text.WriteString([...]string{": ", ", "}[min(i, 1)])
		if p.By != by && p.By != "" {
			fmt.Fprintf(&text, "%s names what clients could not get: ", cut(p.By, maxShown))
		}
		by = p.By
		p.File = cut(p.File, maxShown)
		text.WriteString(p.String())
	}
	if more := len(e.Problems) + e.More - maxTold; more > 0 {
		fmt.Fprintf(&text, ", and %d more", more)
	}
	if e.remedy != "" {
		text.WriteString("; " + e.remedy)
	}
	return text.String()
}

// Unwrap makes it an [ErrRefused].
func (e *RefusalError) Unwrap() error { return ErrRefused }

// findings gathers problems.
type findings struct {
	RefusalError
	bytes int
}

// add adds a problem. The remedy of the first one is told.
func (f *findings) add(p hubapi.TreeProblem, remedy string) {
	p.File = cut(p.File, maxProblemPath)
	size := len(p.File) + len(p.By) + len(p.Want) + len(p.Got) + len(p.Detail)
	if len(f.Problems) == maxProblems || f.bytes+size > maxProblemBytes {
		f.More++
		return
	}
	if len(f.Problems) == 0 {
		f.remedy = remedy
	}
	f.bytes += size
	f.Problems = append(f.Problems, p)
}

// err returns the problems, or nil when there are none.
func (f *findings) err() error {
	if len(f.Problems) == 0 {
		return nil
	}
	return &f.RefusalError
}

// cut shortens a path that is told to people.
func cut(name string, most int) string {
	if len(name) > most {
		return strings.ToValidUTF8(name[:most], "") + "…"
	}
	return name
}
