package config

import (
	"encoding"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// lineNumbers maps the dotted path of every key and table of a document to
// its line. The document is known to be valid TOML.
func lineNumbers(data []byte) map[string]int {
	lines := make(map[string]int)
	arrays := make(map[string]int) // tables seen so far of each array of tables
	var p unstable.Parser
	p.Reset(data)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		path, line := "", 0
		for it := e.Key(); it.Next(); {
			node := it.Node()
			if line == 0 {
				line = p.Shape(node.Raw).Start.Line
			}
			path = joinKey(path, string(node.Data))
		}
		switch e.Kind {
		case unstable.Table:
			table = indexArrays(path, arrays)
			path = table
		case unstable.ArrayTable:
			parent := indexArrays(path, arrays)
			n := arrays[parent]
			arrays[parent] = n + 1
			table = parent + "[" + strconv.Itoa(n) + "]"
			path = table
		case unstable.KeyValue:
			path = joinKey(table, path)
		default:
			continue
		}
		if _, seen := lines[path]; !seen {
			lines[path] = line
		}
	}
	return lines
}

// indexArrays puts the index of the newest element behind each proper prefix
// of path that is an array of tables.
func indexArrays(path string, arrays map[string]int) string {
	elems := strings.Split(path, ".")
	out := ""
	for i, elem := range elems {
		out = joinKey(out, elem)
		if n := arrays[out]; n > 0 && i < len(elems)-1 {
			out += "[" + strconv.Itoa(n-1) + "]"
		}
	}
	return out
}

func joinKey(table, key string) string {
	if table == "" {
		return key
	}
	return table + "." + key
}

// decoder puts the values of a document into structs and notes in file what
// it cannot.
type decoder struct{ file *File }

func (d *decoder) problem(key, format string, args ...any) {
	d.file.problems = append(d.file.problems, d.file.locate(Problem{Key: key, Message: fmt.Sprintf(format, args...)}))
}

// fail is problem for a value that cannot be taken.
func (d *decoder) fail(key, format string, args ...any) {
	d.file.failed[key] = true
	d.problem(key, format, args...)
}

func (d *decoder) table(key string, tree map[string]any, into reflect.Value) {
	fields := fieldsOf(into.Type())
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if i < 0 {
			d.problem(joinKey(key, name), "unknown key%s", suggestion(name, fields))
			continue
		}
		d.value(joinKey(key, name), tree[name], into.FieldByIndex(fields[i].index))
	}
}

func (d *decoder) value(key string, v any, into reflect.Value) {
	if into.Kind() == reflect.Pointer {
		if into.IsNil() {
			into.Set(reflect.New(into.Type().Elem()))
		}
		d.value(key, v, into.Elem())
		return
	}
	if into.CanAddr() && d.text(key, v, into.Addr().Interface()) {
		return
	}
	switch into.Kind() {
	case reflect.Struct:
		if tree, ok := v.(map[string]any); ok {
			d.table(key, tree, into)
			return
		}
		d.fail(key, "want a table, got %s", kindOf(v))
	case reflect.Map:
		d.mapping(key, v, into)
	case reflect.Slice:
		d.slice(key, v, into)
	default:
		d.scalar(key, v, into)
	}
}

// text takes values of the types that are written as text, and reports whether
// into points to one of them.
func (d *decoder) text(key string, v, into any) bool {
	s, isString := v.(string)
	var err error
	switch into := into.(type) {
	case *time.Duration:
		if !isString {
			d.fail(key, "want %s, got %s", durationForm, kindOf(v))
			return true
		}
		*into, err = ParseDuration(s)
	case *slog.Level:
		if !isString {
			d.fail(key, "want %s, got %s", levelForm, kindOf(v))
			return true
		}
		*into, err = ParseLevel(s)
	case *Size:
		if n, isInteger := v.(int64); isInteger {
			s, isString = strconv.FormatInt(n, 10), true
		}
		if !isString {
			d.fail(key, "want %s, got %s", sizeForm, kindOf(v))
			return true
		}
		*into, err = ParseSize(s)
	case encoding.TextUnmarshaler:
		if _, isTable := v.(map[string]any); isTable && reflect.TypeOf(into).Elem().Kind() == reflect.Struct {
			return false // the long form
		}
		if !isString {
			d.fail(key, "want a string, got %s", kindOf(v))
			return true
		}
		err = into.UnmarshalText([]byte(s))
	default:
		return false
	}
	if err != nil {
		d.fail(key, "%v", err)
	}
	return true
}

func (d *decoder) mapping(key string, v any, into reflect.Value) {
	tree, ok := v.(map[string]any)
	if !ok {
		d.fail(key, "want a table, got %s", kindOf(v))
		return
	}
	if into.IsNil() {
		into.Set(reflect.MakeMap(into.Type()))
	}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		elem := reflect.New(into.Type().Elem()).Elem()
		d.value(joinKey(key, name), tree[name], elem)
		into.SetMapIndex(reflect.ValueOf(name).Convert(into.Type().Key()), elem)
	}
}

func (d *decoder) slice(key string, v any, into reflect.Value) {
	list, ok := v.([]any)
	if !ok {
		d.fail(key, "want a list, got %s", kindOf(v))
		return
	}
	out := reflect.MakeSlice(into.Type(), len(list), len(list))
	for i, elem := range list {
		d.value(key+"["+strconv.Itoa(i)+"]", elem, out.Index(i))
	}
	into.Set(out)
}

func (d *decoder) scalar(key string, v any, into reflect.Value) {
	from := reflect.ValueOf(v)
	switch {
	case into.Kind() == reflect.String && from.Kind() == reflect.String:
		into.SetString(from.String())
	case into.Kind() == reflect.Bool && from.Kind() == reflect.Bool:
		into.SetBool(from.Bool())
	case into.CanInt() && from.CanInt():
		if into.OverflowInt(from.Int()) {
			d.fail(key, "%d is out of range", from.Int())
			return
		}
		into.SetInt(from.Int())
	case into.CanUint() && from.CanInt():
		if from.Int() < 0 || into.OverflowUint(uint64(from.Int())) {
			d.fail(key, "%d is out of range", from.Int())
			return
		}
		into.SetUint(uint64(from.Int()))
	case into.CanFloat() && (from.CanFloat() || from.CanInt()):
		into.Set(from.Convert(into.Type()))
	default:
		d.fail(key, "want %s, got %s", kindWanted(into), kindOf(v))
	}
}

// field is one setting of a table.
type field struct {
	name  string // the key
	goID  string // "freshet/internal/hub.Config.Dir"
	index []int
}

// fieldsOf lists the settings of a table, those of embedded structs among them.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
		if f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct {
			for _, inner := range fieldsOf(f.Type) {
				inner.index = slices.Concat(f.Index, inner.index)
				fields = append(fields, inner)
			}
			continue
		}
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		fields = append(fields, field{name: name, goID: t.PkgPath() + "." + t.Name() + "." + f.Name, index: f.Index})
	}
	return fields
}

// suggestion names the known key that is nearest to a mistyped one.
func suggestion(name string, fields []field) string {
	best, distance := "", len(name)/2+1
	for _, f := range fields {
		if d := editDistance(name, f.name); d < distance {
			best, distance = f.name, d
		}
	}
	if best == "" {
		return ""
	}
	return " (did you mean " + best + "?)"
}

// editDistance is the Levenshtein distance of two short words.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// kindWanted says in words what into, which is no table and no list, can hold.
func kindWanted(into reflect.Value) string {
	switch {
	case into.Kind() == reflect.String:
		return "a string"
	case into.Kind() == reflect.Bool:
		return "a boolean (true or false)"
	case into.CanInt() || into.CanUint():
		return "an integer"
	case into.CanFloat():
		return "a number"
	default:
		return into.Kind().String()
	}
}

// kindOf says in words what kind of value stands in a file.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	default:
		return "a date or time"
	}
}
