// Package openapitest makes descriptions of HTTP APIs (OpenAPI 3.1) of the Go types that
// they send, and compares what is answered with them. A description that is committed
// beside an API is so kept true by tests: of the types by [Check], of the handlers by
// [Document].
package openapitest

import (
	"bytes"
	"encoding"
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Operation is what can be asked for by one method at one path.
type Operation struct {
	Method, Path string // in lower case; with {names}
	Does         string // one sentence or two
	Needs        string // what a client needs for it; empty: nothing
	Query        []string
	Enums        map[string][]string // of parameters of the path
	// In and Out are values of the types of the bodies; nil: there is none. A [OneOf] is a
	// value of one of several types, a [Media] a content that is not JSON, [Lines] are JSON
	// objects, one a line, and [Either] is one of several of these.
	In, Out any
	// Status is that of a success. Also has further answers without a body, and what they
	// mean.
	Status string
	Also   map[string]string
}

// Media stands for a content of this media type.
type Media string

// OneOf stands for a value of one of several types.
type OneOf []any

// Either stands for a body of one of several media types.
type Either []any

// Lines stands for objects of a type, one a line (application/jsonl).
type Lines struct{ Of any }

// API is what is described.
type API struct {
	Title, Description string
	Operations         []Operation
	// Error is a value of the type of the body of all other answers; nil: they have any.
	Error any
	// Optional says that a field may be missing whose tag does not say so. It may be nil.
	Optional func(t reflect.Type, key string) bool
	// Name names the schema of a type; nil: by its name.
	Name func(t reflect.Type) string
}

// Check fails unless a file has the description of the API. With update it is written
// first.
func Check(t *testing.T, file string, update bool, api API) {
	t.Helper()
	text, err := api.describe()
	if err != nil {
		t.Fatal(err)
	}
	if update {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(committed, text) {
		t.Errorf("%s is not what the types say: go test -run %s -update", file, t.Name())
	}
}

func (api *API) describe() ([]byte, error) {
	s := &schemas{api: api, known: make(map[string]any)}
	paths := make(map[string]map[string]any)
	for _, o := range api.Operations {
		if paths[o.Path] == nil {
			paths[o.Path] = make(map[string]any)
		}
		paths[o.Path][o.Method] = s.operation(o)
	}
	if api.Error != nil {
		s.of(reflect.TypeOf(api.Error))
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	err := e.Encode(map[string]any{
		"openapi": "3.1.0",
		"info":    map[string]any{"title": api.Title, "version": "1", "description": api.Description},
		"paths":   paths,
		"components": map[string]any{
			"schemas":         s.known,
			"securitySchemes": map[string]any{"token": map[string]any{"type": "http", "scheme": "bearer"}},
		},
		"security": []any{map[string]any{"token": []string{}}},
	})
	return b.Bytes(), err
}

func (s *schemas) operation(o Operation) map[string]any {
	parameters := []any{}
	for part := range strings.SplitSeq(o.Path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			name = strings.TrimSuffix(name, "}")
			schema := map[string]any{"type": "string"}
			if enum := o.Enums[name]; enum != nil {
				schema["enum"] = enum
			}
			parameters = append(parameters, map[string]any{"in": "path", "name": name, "required": true, "schema": schema})
		}
	}
	for _, name := range o.Query {
		parameters = append(parameters, map[string]any{"in": "query", "name": name, "schema": map[string]any{"type": "string"}})
	}
	success := map[string]any{"description": "done"}
	if o.Out != nil {
		success["content"] = s.content(o.Out)
	}
	refused := map[string]any{"description": "refused"}
	if s.api.Error != nil && o.Needs != "" {
		refused["content"] = s.content(s.api.Error)
	}
	responses := map[string]any{o.Status: success, "default": refused}
	for status, means := range o.Also {
		responses[status] = map[string]any{"description": means}
	}
	described := map[string]any{"summary": o.Does, "parameters": parameters, "responses": responses}
	if o.Needs == "" {
		described["security"] = []any{}
	} else {
		described["description"] = "Needs " + o.Needs + "."
	}
	if o.In != nil {
		described["requestBody"] = map[string]any{"required": true, "content": s.content(o.In)}
	}
	return described
}

// schemas are those of types, by their names.
type schemas struct {
	api   *API
	known map[string]any
}

func (s *schemas) content(v any) map[string]any {
	var schema any
	switch v := v.(type) {
	case Either:
		all := make(map[string]any)
		for _, one := range v {
			maps.Copy(all, s.content(one))
		}
		return all
	case Media:
		return map[string]any{string(v): map[string]any{}}
	case Lines:
		return map[string]any{"application/jsonl": map[string]any{"itemSchema": s.of(reflect.TypeOf(v.Of))}}
	case OneOf:
		var list []any
		for _, one := range v {
			list = append(list, s.of(reflect.TypeOf(one)))
		}
		schema = map[string]any{"anyOf": list}
	default:
		schema = s.of(reflect.TypeOf(v))
	}
	return map[string]any{"application/json": map[string]any{"schema": schema}}
}

// of is the schema of a type.
func (s *schemas) of(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[netip.Prefix](), reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return map[string]any{"type": "string"}
	case t == reflect.TypeFor[json.RawMessage]():
		return map[string]any{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 { // in base64
			return map[string]any{"type": "string", "format": "byte"}
		}
		return map[string]any{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		return s.object(t)
	default:
		return map[string]any{"type": "integer"}
	}
}

func (s *schemas) object(t reflect.Type) map[string]any {
	name := t.Name()
	if s.api.Name != nil {
		name = s.api.Name(t)
	}
	reference := map[string]any{"$ref": "#/components/schemas/" + name}
	if _, ok := s.known[name]; ok {
		return reference
	}
	s.known[name] = nil // it may have itself
	properties := make(map[string]any)
	var required []string
	for f := range t.Fields() {
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if key == "-" || !f.IsExported() {
			continue
		}
		properties[key] = s.of(f.Type)
		if !strings.Contains(options, "omit") && (s.api.Optional == nil || !s.api.Optional(t, key)) {
			required = append(required, key)
		}
	}
	object := map[string]any{"type": "object", "properties": properties}
	if len(required) > 0 {
		object["required"] = required
	}
	s.known[name] = object
	return reference
}
