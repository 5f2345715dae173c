// Package config reads Freshet's one TOML file into typed structs, strictly:
// every unknown key, value of the wrong type and rejected setting is reported,
// all at once, with file, line and key.
//
// It also prints a commented default file and the reference page from the doc
// comments of the same structs (see [Reference]), so that these cannot drift.
//
// Fields are named by their toml tag. Supported are strings, booleans,
// integers, floats, [time.Duration] (written "90s"), anything with
// UnmarshalText (written as a string), structs and pointers to structs
// (tables), slices, and maps with string keys.
package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Problem is one thing wrong in a configuration.
type Problem struct {
	// File and Line say where, Line counting from 1. Line is 0 when the key is
	// not in the file.
	File string
	Line int
	// Key is the dotted path ("hub.repos.stable.collection-id"); empty for
	// a syntax error.
	Key string
	// Message says what is wrong and, where it can, what to write instead.
	Message string
}

func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
		if p.Line > 0 {
			fmt.Fprintf(&b, "%d:", p.Line)
		}
		b.WriteByte(' ')
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is everything wrong in a configuration, in the order of the file.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Validator is a table that checks more than types. Validate returns every
// problem with Key relative to the table ("repos.stable.title"); File and Line
// are filled in by the caller.
type Validator interface {
	Validate() []Problem
}

// Load reads the file at path into cfg, a pointer to a struct. Settings that
// the file does not name keep the value they have. The error is a [Problems]
// when the file could be read.
func Load(path string, cfg any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return Decode(path, data, cfg)
}

// Decode is [Load] for a file in memory; name stands for the file in problems.
func Decode(name string, data []byte, cfg any) error {
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		return Problems{syntaxProblem(name, err)}
	}
	d := &decoder{file: name, lines: lineNumbers(data)}
	d.decode("", tree, cfg)
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return a.Line - b.Line })
	if len(d.problems) > 0 {
		return d.problems
	}
	return nil
}

// Check returns what the validators inside cfg, a struct or a pointer to one,
// say, as [Problems] or nil. It is what [Decode] does at its end; configurations
// that were made of flags alone call it themselves.
func Check(cfg any) error {
	var d decoder
	d.validate("", cfg)
	if len(d.problems) > 0 {
		return d.problems
	}
	return nil
}

func syntaxProblem(name string, err error) Problem {
	p := Problem{File: name, Message: err.Error()}
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		p.Line, _ = decode.Position()
		p.Key = strings.Join(decode.Key(), ".")
		p.Message = strings.TrimPrefix(decode.Error(), "toml: ")
	}
	return p
}
