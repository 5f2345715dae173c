package config

import (
	"encoding"
	"fmt"
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

type decoder struct {
	file     string
	lines    map[string]int
	problems Problems
}

func (d *decoder) decode(key string, tree map[string]any, cfg any) {
	d.table(key, tree, reflect.ValueOf(cfg).Elem())
	d.validate(key, cfg)
}

// problem records a problem at key, or at the nearest table around it that
// the file names.
func (d *decoder) problem(key, format string, args ...any) {
	p := Problem{File: d.file, Key: key, Message: fmt.Sprintf(format, args...)}
	for k := key; k != ""; {
		if line := d.lines[k]; line > 0 {
			p.Line = line
			break
		}
		cut := strings.LastIndexAny(k, ".[")
		if cut < 0 {
			break
		}
		k = k[:cut]
	}
	d.problems = append(d.problems, p)
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
	if into.CanAddr() {
		if text, ok := reflect.TypeAssert[encoding.TextUnmarshaler](into.Addr()); ok {
			s, isString := v.(string)
			if !isString {
				d.problem(key, "want a string, got %s", kindOf(v))
			} else if err := text.UnmarshalText([]byte(s)); err != nil {
				d.problem(key, "%v", err)
			}
			return
		}
	}
	if into.Type() == reflect.TypeFor[time.Duration]() {
		s, isString := v.(string)
		dur, err := time.ParseDuration(s)
		if !isString || err != nil {
			d.problem(key, `want a duration like "90s", "15m" or "24h", got %s`, literal(v))
			return
		}
		into.SetInt(int64(dur))
		return
	}
	switch into.Kind() {
	case reflect.Struct:
		if tree, ok := v.(map[string]any); ok {
			d.table(key, tree, into)
			return
		}
		d.problem(key, "want a table, got %s", kindOf(v))
	case reflect.Map:
		d.mapping(key, v, into)
	case reflect.Slice:
		d.slice(key, v, into)
	default:
		d.scalar(key, v, into)
	}
}

func (d *decoder) mapping(key string, v any, into reflect.Value) {
	tree, ok := v.(map[string]any)
	if !ok {
		d.problem(key, "want a table, got %s", kindOf(v))
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
		d.problem(key, "want a list, got %s", kindOf(v))
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
			d.problem(key, "%d is out of range", from.Int())
			return
		}
		into.SetInt(from.Int())
	case into.CanUint() && from.CanInt():
		if from.Int() < 0 || into.OverflowUint(uint64(from.Int())) {
			d.problem(key, "%d is out of range", from.Int())
			return
		}
		into.SetUint(uint64(from.Int()))
	case into.CanFloat() && (from.CanFloat() || from.CanInt()):
		into.Set(from.Convert(into.Type()))
	default:
		d.problem(key, "want %s, got %s", into.Kind(), kindOf(v))
	}
}

// validate calls the validators of v and of everything inside it.
func (d *decoder) validate(key string, v any) {
	value := reflect.ValueOf(v)
	if value.Kind() == reflect.Pointer && value.IsNil() {
		return
	}
	if checker, ok := v.(Validator); ok {
		for _, p := range checker.Validate() {
			d.problem(joinKey(key, p.Key), "%s", p.Message)
		}
		return // it answers for what is inside it
	}
	value = reflect.Indirect(value)
	if value.Kind() != reflect.Struct {
		return
	}
	for _, f := range fieldsOf(value.Type()) {
		d.validate(joinKey(key, f.name), value.FieldByIndex(f.index).Interface())
	}
}

// field is one setting of a table.
type field struct {
	name  string // the key
	goID  string // "freshet/internal/hub.Config.Dir"
	index []int
}

func fieldsOf(t reflect.Type) []field {
	var fields []field
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
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

func literal(v any) string {
	if s, ok := v.(string); ok {
		return strconv.Quote(s)
	}
	return kindOf(v)
}
