package config

import (
	"encoding"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Docs are the doc comments of configuration fields, by
// "import/path.Type.Field". Package configdoc reads them from the source.
type Docs map[string]string

// Setting is one key or table of a configuration, as [Settings] lists them.
type Setting struct {
	// Key is the dotted path. "NAME" stands for the name of an entry of a map,
	// "[]" for an element of an array of tables.
	Key string
	// Table tells a table from a value.
	Table bool
	// Type is the type in words, and Default the value in TOML that is used
	// when the key is absent. Both are empty for tables.
	Type, Default string
	// Doc is the comment of the field.
	Doc string
}

// Settings lists what can be written in the file for cfg, a struct that holds
// the defaults: the values of each table before its inner tables.
func Settings(cfg any, docs Docs) []Setting {
	return settings("", reflect.Indirect(reflect.ValueOf(cfg)), docs)
}

func settings(table string, v reflect.Value, docs Docs) []Setting {
	var values, tables []Setting
	for _, f := range fieldsOf(v.Type()) {
		key, fv, doc := joinKey(table, f.name), v.FieldByIndex(f.index), strings.TrimSpace(docs[f.goID])
		inner, suffix := tableOf(fv)
		if !inner.IsValid() {
			values = append(values, Setting{Key: key, Type: typeName(fv), Default: tomlValue(fv), Doc: doc})
			continue
		}
		key += suffix
		tables = append(tables, Setting{Key: key, Table: true, Doc: doc})
		tables = append(tables, settings(key, inner, docs)...)
	}
	return append(values, tables...)
}

// tableOf returns the struct that a field's table describes and what to put
// behind its key, or an invalid value when the field is not a table.
func tableOf(v reflect.Value) (inner reflect.Value, suffix string) {
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
		if v.IsNil() {
			v = reflect.New(t)
		}
		v = v.Elem()
	}
	if isText(v) {
		return reflect.Value{}, ""
	}
	switch t.Kind() {
	case reflect.Struct:
		return withDefaults(v), ""
	case reflect.Map:
		if t.Elem().Kind() == reflect.Struct {
			return withDefaults(reflect.New(t.Elem()).Elem()), ".NAME"
		}
	case reflect.Slice:
		if elem := reflect.New(t.Elem()).Elem(); t.Elem().Kind() == reflect.Struct && !isText(elem) {
			return withDefaults(elem), "[]"
		}
	default:
	}
	return reflect.Value{}, ""
}

// withDefaults calls the method of a Config that fills in its defaults, if it
// has one: func (C) WithDefaults() C.
func withDefaults(v reflect.Value) reflect.Value {
	m := v.MethodByName("WithDefaults")
	if m.IsValid() && m.Type().NumIn() == 0 && m.Type().NumOut() == 1 && m.Type().Out(0) == v.Type() {
		return m.Call(nil)[0]
	}
	return v
}

func isText(v reflect.Value) bool {
	return reflect.PointerTo(v.Type()).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func typeName(v reflect.Value) string {
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return strings.ToLower(t.Name())
	case t.Kind() == reflect.Slice:
		return "list of " + typeName(reflect.New(t.Elem()).Elem())
	case t.Kind() == reflect.Map:
		return "table of " + typeName(reflect.New(t.Elem()).Elem())
	case v.CanInt() || v.CanUint():
		return "integer"
	case v.CanFloat():
		return "number"
	default:
		return t.Kind().String()
	}
}

func tomlValue(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return tomlValue(reflect.New(v.Type().Elem()).Elem())
		}
		v = v.Elem()
	}
	if d, ok := reflect.TypeAssert[time.Duration](v); ok {
		return strconv.Quote(FormatDuration(d))
	}
	if level, ok := reflect.TypeAssert[slog.Level](v); ok {
		return strconv.Quote(strings.ToLower(level.String()))
	}
	if text, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok {
		if b, err := text.MarshalText(); err == nil {
			return strconv.Quote(string(b))
		}
	}
	switch v.Kind() {
	case reflect.String:
		return strconv.Quote(v.String())
	case reflect.Slice:
		elems := make([]string, v.Len())
		for i := range elems {
			elems[i] = tomlValue(v.Index(i))
		}
		return "[" + strings.Join(elems, ", ") + "]"
	case reflect.Map:
		return "{}"
	default:
		return fmt.Sprint(v.Interface())
	}
}

// WriteDefault prints a configuration file in which every key stands with its
// default, commented out, below its documentation.
func WriteDefault(w io.Writer, list []Setting) error {
	var b strings.Builder
	b.WriteString("# Freshet's configuration. Every key stands here with its default.\n" +
		"# A role runs when its table ([hub], [edge], …) is in the file.\n")
	for _, s := range list {
		b.WriteString("\n" + commented(s.Doc))
		if !s.Table {
			fmt.Fprintf(&b, "#%s = %s\n", s.Key[strings.LastIndexByte(s.Key, '.')+1:], s.Default)
			continue
		}
		if name, ok := strings.CutSuffix(s.Key, "[]"); ok {
			fmt.Fprintf(&b, "#[[%s]]\n", name)
			continue
		}
		fmt.Fprintf(&b, "#[%s]\n", s.Key)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func commented(doc string) string {
	if doc == "" {
		return ""
	}
	return "# " + strings.ReplaceAll(strings.ReplaceAll(doc, "\n", "\n# "), "# \n", "#\n") + "\n"
}

// WriteReference prints the reference page in Markdown.
func WriteReference(w io.Writer, list []Setting) error {
	var b strings.Builder
	b.WriteString("# Configuration\n\n" +
		"One TOML file configures every role of a process; a role runs when its table is there.\n" +
		"`freshet config default` prints this as a file to edit, `freshet config check FILE` reports\n" +
		"every problem of one at once, as `FILE:LINE: KEY: what is wrong`. Unknown keys are errors.\n\n" +
		"- Durations are written `\"90s\"`, `\"15m\"`, `\"24h\"`, `\"30d\"` or `\"1d12h\"`.\n" +
		"- Sizes are a number of bytes, or one with a unit: `\"500MB\"`, `\"10GB\"` (powers of 1000),\n" +
		"  `\"512KiB\"`, `\"2TiB\"` (powers of 1024).\n" +
		"- Addresses are `\"host:port\"`, `\":port\"` for every address of the machine, or `\"mem:NAME\"` to be\n" +
		"  reached by the other roles of the process alone.\n" +
		"- Files and folders that do not begin with a slash lie below the folder in which the process was started.\n\n" +
		"This page is generated from the source: edit the comments there and run `make generate`.\n\n" +
		"## Top level\n")
	for _, s := range list {
		if s.Table {
			fmt.Fprintf(&b, "\n## `[%s]`\n", s.Key)
			if s.Doc != "" {
				b.WriteString("\n" + s.Doc + "\n")
			}
			continue
		}
		name := s.Key[strings.LastIndexByte(s.Key, '.')+1:]
		fmt.Fprintf(&b, "\n- **`%s`** (%s, default `%s`)  \n", name, s.Type, s.Default)
		b.WriteString("  " + strings.ReplaceAll(s.Doc, "\n", "\n  ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
