package mirrorlist

import "fmt"

// maxProblems is how many problems are told in words.
const maxProblems = 20

// Problems are the parts of a snapshot that make no sense. They are left out: an
// entry that one mirror's owner has mistyped must not hold up all others.
type Problems struct {
	// Count is how many there are, and First says what the first of them are.
	Count int
	First []string
}

// AddProblem tells of an entry that was left out: the table by its name in the schema,
// the key, and a sentence without its subject.
func (b *Builder) AddProblem(table, key, what string) {
	p := &b.s.problems
	p.Count++
	if len(p.First) < maxProblems {
		p.First = append(p.First, fmt.Sprintf("%s: %.200q %s", table, key, what))
	}
}
