package openapitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Document is a description that was read.
type Document struct {
	Paths      map[string]map[string]described
	Components struct{ Schemas map[string]*schema }
}

type described struct {
	Responses map[string]struct {
		Content map[string]struct{ Schema, ItemSchema *schema }
	}
}

// schema is that of a value, as far as the description says something.
type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Format     string
	Properties map[string]*schema
	Required   []string
	Items      *schema
	AnyOf      []*schema
	Additional *schema `json:"additionalProperties"`
}

// Read reads a description.
func Read(t testing.TB, file string) *Document {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := new(Document)
	if err := json.Unmarshal(text, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// Operations are the methods and paths that are described and that the function wants,
// such as "GET /status", sorted.
func (d *Document) Operations(want func(path string) bool) []string {
	var list []string
	for path, methods := range d.Paths {
		for method := range methods {
			if want(path) {
				list = append(list, strings.ToUpper(method)+" "+path)
			}
		}
	}
	slices.Sort(list)
	return list
}

// Check says what is wrong with an answer to an operation: an error if the description says
// something else, of its status, its type or its content.
func (d *Document) Check(operation string, status int, kind string, body []byte) error {
	method, path, _ := strings.Cut(operation, " ")
	of, ok := d.Paths[path][strings.ToLower(method)]
	if !ok {
		return fmt.Errorf("%s is not described", operation)
	}
	response, ok := of.Responses[fmt.Sprint(status)]
	if !ok && status >= 400 {
		response, ok = of.Responses["default"]
	}
	if ok && status >= 400 && response.Content == nil {
		return nil // it is for people
	}
	content, has := response.Content[kind]
	switch {
	case !ok:
		return fmt.Errorf("%s: %d is not described", operation, status)
	case len(response.Content) == 0 && len(body) == 0:
		return nil
	case !has:
		return fmt.Errorf("%s: %d with a body of %q is not described", operation, status, kind)
	}
	values, schema := [][]byte{body}, content.Schema
	switch kind {
	case "application/json":
	case "application/jsonl":
		values, schema = bytes.Split(bytes.TrimSpace(body), []byte("\n")), content.ItemSchema
	default:
		return nil
	}
	for _, text := range values {
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			return fmt.Errorf("%s: %w: %s", operation, err, text)
		}
		if w := d.wrong(schema, v, "answer"); w != "" {
			return fmt.Errorf("%s: %s\n%s", operation, w, text)
		}
	}
	return nil
}

// wrong tells where a value is not what its schema says, "" if it is.
func (d *Document) wrong(s *schema, v any, at string) string {
	if s == nil || s.Ref == "" && s.Type == "" && s.AnyOf == nil {
		return ""
	}
	if s.Ref != "" {
		return d.wrong(d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")], v, at)
	}
	if s.AnyOf != nil {
		var all []string
		for _, one := range s.AnyOf {
			if w := d.wrong(one, v, at); w != "" {
				all = append(all, w)
				continue
			}
			return ""
		}
		return strings.Join(all, "; or ")
	}
	bad := fmt.Sprintf("%s: %v is no %s %s", at, v, s.Type, s.Format)
	switch v := v.(type) {
	case map[string]any:
		if s.Type != "object" {
			return bad
		}
		return d.wrongObject(s, v, at)
	case []any:
		if s.Type != "array" {
			return bad
		}
		for i := range v {
			if w := d.wrong(s.Items, v[i], fmt.Sprintf("%s[%d]", at, i)); w != "" {
				return w
			}
		}
	case string:
		if _, err := time.Parse(time.RFC3339, v); s.Type != "string" || s.Format == "date-time" && err != nil {
			return bad
		}
	case float64:
		if s.Type != "number" && (s.Type != "integer" || v != float64(int64(v))) {
			return bad
		}
	case bool:
		if s.Type != "boolean" {
			return bad
		}
	default:
		return bad
	}
	return ""
}

func (d *Document) wrongObject(s *schema, v map[string]any, at string) string {
	for _, key := range s.Required {
		if _, ok := v[key]; !ok {
			return fmt.Sprintf("%s: there is no %s", at, key)
		}
	}
	for key, value := range v {
		property := s.Properties[key]
		if property == nil {
			property = s.Additional
		}
		if property == nil {
			return fmt.Sprintf("%s: %s is not described", at, key)
		}
		if w := d.wrong(property, value, at+"."+key); w != "" {
			return w
		}
	}
	return ""
}
