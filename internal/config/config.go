// Package config reads Freshet's one TOML file into typed structs, strictly:
// every unknown key, value of the wrong type and rejected setting is reported,
// all at once, with file, line and key, in the form that editors jump to
// ("freshet.toml:3: hub.listen: …").
//
// It also prints a commented default file and the reference page from the doc
// comments of the same structs (see [Settings]), so that these cannot drift.
//
// Fields are named by their toml tag. Supported are strings, booleans,
// integers, floats, [time.Duration] (written "90s", "30d"), [Size] ("10GB"),
// [slog.Level] ("info"), anything with UnmarshalText (written as a string),
// structs and pointers to structs (tables), slices, and maps with string keys. The
// fields of an embedded struct are fields of the table itself; what it checks, the
// struct around it asks for.
package config

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Problem is one thing wrong in a configuration.
type Problem struct {
	// File and Line say where, Line counting from 1. What the file says nothing
	// of stands at the nearest table around it, else at line 1. Both are empty
	// for settings that did not come from a file.
	File string
	Line int
	// Key is the dotted path ("hub.repos.stable.collection-id"); empty when it
	// is about the file as a whole.
	Key string
	// Message says what is wrong and, where it can, what to write instead.
	Message string
	// Missing tells that the setting is required and was not given at all.
	Missing bool
}

// Missing is the problem of a required setting that was not given; what says
// in a few words what the setting is.
func Missing(key, what string) Problem {
	return Problem{Key: key, Message: "is required: " + what, Missing: true}
}

// Error returns "file:line: key: message" without the parts that are empty.
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

// Error returns a line with the number of problems and the file, and then a
// line for each. A single problem without a file is a line by itself.
func (ps Problems) Error() string {
	if len(ps) == 1 && ps[0].File == "" {
		return ps[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d problem", len(ps))
	if len(ps) != 1 {
		b.WriteByte('s')
	}
	if i := slices.IndexFunc(ps, func(p Problem) bool { return p.File != "" }); i >= 0 {
		b.WriteString(" in " + ps[i].File)
	}
	for _, p := range ps {
		b.WriteString("\n" + p.Error())
	}
	return b.String()
}

// Validator is a table that checks more than types. Validate returns every
// problem with Key relative to the table ("repos.stable.title"); File and Line
// are filled in by the caller. It looks at nothing but the settings, so that a
// file can be checked on another machine than the one it is for.
type Validator interface {
	Validate() []Problem
}

// FileChecker is a table that names files which must be there. CheckFiles
// looks for them, reads nothing and changes nothing; its problems are like
// those of [Validator].
type FileChecker interface {
	CheckFiles() []Problem
}

// File is a configuration file that was read into a struct: it knows on which
// line each key stands. A nil File stands for no file, when everything came by
// flags.
type File struct {
	name     string
	lines    map[string]int
	problems Problems        // of the form: unknown keys, wrong types
	failed   map[string]bool // keys whose value could not be taken
}

// Read reads the file at path into cfg, a pointer to a struct. Settings that
// the file does not name keep the value they have. An error means that the
// file cannot be read or is no TOML; what else is wrong is told by
// [File.Check], so that flags can be put over the settings before.
func Read(path string, cfg any) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return parse(path, data, cfg)
}

func parse(name string, data []byte, cfg any) (*File, error) {
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		return nil, Problems{syntaxProblem(name, err)}
	}
	f := &File{name: name, lines: lineNumbers(data), failed: make(map[string]bool)}
	d := &decoder{file: f}
	d.table("", tree, reflect.ValueOf(cfg).Elem())
	return f, nil
}

// Check returns everything wrong with cfg, the struct that f was read into and
// that may have been changed since, as [Problems] or nil: unknown keys and
// wrong types of the file, what the validators inside cfg say, and files that
// are named but absent. It is what a process asks before it runs.
func (f *File) Check(cfg any) error {
	return f.check(cfg, validators, fileCheckers)
}

// Form returns what is wrong with the form of the file alone, as [Problems]
// or nil: unknown keys and values of the wrong type.
func (f *File) Form() error {
	return f.check(nil)
}

func (f *File) check(cfg any, checks ...func(any) []Problem) error {
	if f == nil {
		f = new(File)
	}
	problems := slices.Clone(f.problems)
	for _, check := range checks {
		walk("", cfg, func(key string, v any) {
			for _, p := range check(v) {
				if p.Key != "" || key == "" {
					p.Key = strings.TrimPrefix(key+"."+p.Key, ".")
				}
				if !f.knownBad(p.Key) {
					problems = append(problems, f.locate(p))
				}
			}
		})
	}
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.Line - b.Line })
	return problems
}

func validators(v any) []Problem {
	if v, ok := v.(Validator); ok {
		return v.Validate()
	}
	return nil
}

func fileCheckers(v any) []Problem {
	if v, ok := v.(FileChecker); ok {
		return v.CheckFiles()
	}
	return nil
}

// locate fills in where a problem is: at its key, or at the nearest table
// around it that the file names.
func (f *File) locate(p Problem) Problem {
	if f.name == "" {
		return p
	}
	p.File, p.Line = f.name, 1
	for key := range around(p.Key) {
		if line := f.lines[key]; line > 0 {
			p.Line = line
			break
		}
	}
	return p
}

// knownBad reports whether the value of key, or of a table around it, could
// not be taken: nothing more is to be said about what stands there instead.
func (f *File) knownBad(key string) bool {
	for key := range around(key) {
		if f.failed[key] {
			return true
		}
	}
	return false
}

// around yields key and then the keys of the tables and lists around it.
func around(key string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for key != "" && yield(key) {
			key = key[:max(0, strings.LastIndexAny(key, ".["))]
		}
	}
}

// walk calls visit for v, a struct or a pointer to one, and for every table
// inside it that is a struct.
func walk(key string, v any, visit func(key string, v any)) {
	value := reflect.ValueOf(v)
	if !value.IsValid() || value.Kind() == reflect.Pointer && value.IsNil() {
		return
	}
	if value = reflect.Indirect(value); value.Kind() != reflect.Struct {
		return
	}
	visit(key, v)
	for _, f := range fieldsOf(value.Type()) {
		walk(joinKey(key, f.name), value.FieldByIndex(f.index).Interface(), visit)
	}
}

// Load is [Read] and a check of everything but the files that are named. The
// error is a [Problems] when the file could be read.
func Load(path string, cfg any) error {
	f, err := Read(path, cfg)
	if err != nil {
		return err
	}
	return f.check(cfg, validators)
}

// Decode is [Load] for a file in memory; name stands for the file in problems.
func Decode(name string, data []byte, cfg any) error {
	f, err := parse(name, data, cfg)
	if err != nil {
		return err
	}
	return f.check(cfg, validators)
}

// Check returns what the validators inside cfg, a struct or a pointer to one,
// say, as [Problems] or nil. It is for settings that came from no file.
func Check(cfg any) error {
	return (*File)(nil).check(cfg, validators)
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
