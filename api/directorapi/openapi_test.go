package directorapi_test

import (
	"bytes"
	"encoding"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/api/directorapi"
)

// operation is what can be asked for by one method at one path.
type operation struct {
	method, path, does, right string
	parameters                []string // of the query
	in, out                   any
	status                    string // of a success
	text                      bool   // the body is not JSON
}

func operations() []operation {
	item := directorapi.ItemPath("{items}", "{name}")
	anyItem := oneOf{directorapi.Project{}, directorapi.Site{}, directorapi.Mirror{}}
	edit := []string{"dry-run", "note"}
	return []operation{
		{method: "get", path: directorapi.CataloguePath, does: "The catalogue. With wait, one that If-None-Match names is waited past.", right: directorapi.RightRead, parameters: []string{"wait"}, out: directorapi.Catalogue{}, status: "200"},
		{method: "put", path: directorapi.CataloguePath, does: "Replace the catalogue.", right: directorapi.RightWrite, parameters: edit, in: directorapi.Catalogue{}, out: directorapi.Change{}, status: "200"},
		{method: "get", path: item, does: "One project, site or mirror.", right: directorapi.RightRead, out: anyItem, status: "200"},
		{method: "put", path: item, does: "Add or change one.", right: directorapi.RightWrite, parameters: edit, in: anyItem, out: directorapi.Change{}, status: "200"},
		{method: "delete", path: item, does: "Remove one.", right: directorapi.RightWrite, parameters: edit, out: directorapi.Change{}, status: "200"},
		{method: "get", path: directorapi.HistoryPath, does: "Changes of the catalogue, newest first.", right: directorapi.RightRead, parameters: []string{"before", "limit", "kind", "name"}, out: directorapi.History{}, status: "200"},
		{method: "get", path: directorapi.ScansPath, does: "How it was found out what mirrors have.", right: directorapi.RightRead, parameters: []string{"mirror", "project"}, out: directorapi.ScanList{}, status: "200"},
		{method: "post", path: directorapi.ScansPath, does: "Find out anew what a mirror has.", right: directorapi.RightWrite, in: directorapi.ScanRequest{}, status: "202"},
		{method: "get", path: directorapi.InventoryPath, does: "Which mirror has which file, as docs/formats/inventory.md says. With changes, what has changed since the one that If-None-Match names is enough; with wait, that one is waited past.", right: directorapi.RightRead, parameters: []string{"changes", "wait"}, out: binary("application/vnd.freshet.inventory"), status: "200"},
		{method: "get", path: directorapi.WhyPath, does: "Explain the answer to a client.", right: directorapi.RightRead, parameters: []string{"path", "client", "mirror"}, out: directorapi.Why{}, status: "200"},
		{method: "get", path: directorapi.HealthPath, does: "Whether mirrors work.", right: directorapi.RightRead, parameters: []string{"mirror", "project"}, out: directorapi.HealthList{}, status: "200"},
		{method: "post", path: directorapi.ReportsPath, does: "Tell what was seen of mirrors, or a mirror's load.", right: directorapi.RightReport, in: directorapi.Reports{}, status: "202"},
		{method: "put", path: directorapi.ManifestPath("{mirror}", "{project}"), does: "Tell what a mirror has, by a manifest.", right: directorapi.RightPush, text: true, status: "204"},
		{method: "get", path: directorapi.DesiredPath, does: "How far mirrors are with their desired states.", right: directorapi.RightRead, out: directorapi.DesiredList{}, status: "200"},
		{method: "get", path: directorapi.DesiredOf("{mirror}"), does: "What is desired of a mirror.", right: directorapi.RightRead, parameters: []string{"version"}, out: directorapi.Desired{}, status: "200"},
		{method: "put", path: directorapi.DesiredOf("{mirror}"), does: "Say what is desired of a mirror.", right: directorapi.RightWrite, in: directorapi.DesiredChange{}, out: directorapi.Desired{}, status: "200"},
		{method: "get", path: directorapi.DesiredOf("{mirror}") + directorapi.DesiredHistory, does: "The versions of what is desired of a mirror, newest first.", right: directorapi.RightRead, out: directorapi.DesiredVersions{}, status: "200"},
		{method: "get", path: directorapi.DesiredOf("{mirror}") + directorapi.DesiredFollow, does: "The newest desired state, signed, if it is newer than after; otherwise 204, when the time of wait is over.", right: directorapi.RightFollow, parameters: []string{"after", "wait"}, out: directorapi.SignedDesired{}, status: "200"},
		{method: "post", path: directorapi.DesiredOf("{mirror}") + directorapi.DesiredApplied, does: "Say what a mirror makes of its desired states.", right: directorapi.RightFollow, in: directorapi.Applied{}, status: "204"},
		{method: "post", path: directorapi.DesiredOf("{mirror}") + directorapi.DesiredClaim, does: "Make a claim, by which a new box becomes the mirror.", right: directorapi.RightWrite, in: directorapi.ClaimRequest{}, out: directorapi.ClaimAnswer{}, status: "200"},
		{method: "post", path: directorapi.RedeemPath, does: "Become a mirror, by a claim.", right: "of whoever has the claim", in: directorapi.Redemption{}, out: directorapi.Redeemed{}, status: "200"},
	}
}

// binary stands for a content that is not JSON, of a media type.
type binary string

// oneOf stands for a value of one of several types.
type oneOf []any

var update = flag.Bool("update", false, "rewrite openapi.json")

// The description of the API says what the types say.
func TestOpenAPI(t *testing.T) {
	s := &schemas{known: make(map[string]any)}
	paths := make(map[string]map[string]any)
	for _, o := range operations() {
		if paths[o.path] == nil {
			paths[o.path] = make(map[string]any)
		}
		paths[o.path][o.method] = s.operation(o)
	}
	doc := map[string]any{
		"openapi": "3.1.0",
		"info":    map[string]any{"title": "Freshet director", "version": "1", "description": "What a director understands on its admin listener; see docs/director-catalogue.md."},
		"paths":   paths,
		"components": map[string]any{
			"schemas":         s.known,
			"securitySchemes": map[string]any{"token": map[string]any{"type": "http", "scheme": "bearer"}},
		},
		"security": []any{map[string]any{"token": []string{}}},
	}
	s.of(reflect.TypeFor[directorapi.Error]())
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	if err := e.Encode(doc); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("openapi.json", b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(committed, b.Bytes()) {
		t.Error("openapi.json is not what the types say: go test ./api/directorapi -run OpenAPI -update")
	}
}

func (s *schemas) operation(o operation) map[string]any {
	parameters := []any{}
	for part := range strings.SplitSeq(o.path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			schema := map[string]any{"type": "string"}
			if name == "items}" {
				schema["enum"] = []directorapi.Items{directorapi.Projects, directorapi.Sites, directorapi.Mirrors}
			}
			parameters = append(parameters, map[string]any{"in": "path", "name": strings.TrimSuffix(name, "}"), "required": true, "schema": schema})
		}
	}
	for _, name := range o.parameters {
		parameters = append(parameters, map[string]any{"in": "query", "name": name, "schema": map[string]any{"type": "string"}})
	}
	success := map[string]any{"description": "done"}
	if o.out != nil {
		success["content"] = s.content(o.out)
	}
	described := map[string]any{
		"summary": o.does, "description": "Needs the right " + o.right + ".", "parameters": parameters,
		"responses": map[string]any{
			o.status:  success,
			"default": map[string]any{"description": "refused", "content": s.content(directorapi.Error{})},
		},
	}
	switch responses := described["responses"].(map[string]any); {
	case slices.Contains(o.parameters, "after"):
		responses["204"] = map[string]any{"description": "nothing newer"}
	case o.method == "get" && slices.Contains(o.parameters, "wait"):
		responses["304"] = map[string]any{"description": "as If-None-Match names it"}
	}
	switch {
	case o.in != nil:
		described["requestBody"] = map[string]any{"required": true, "content": s.content(o.in)}
	case o.text:
		described["requestBody"] = map[string]any{"required": true, "content": map[string]any{"*/*": map[string]any{}}}
	}
	return described
}

// schemas are those of types, by their names.
type schemas struct{ known map[string]any }

func (s *schemas) content(v any) map[string]any {
	if kind, ok := v.(binary); ok {
		return map[string]any{string(kind): map[string]any{}}
	}
	var schema any
	if several, ok := v.(oneOf); ok {
		var list []any
		for _, one := range several {
			list = append(list, s.of(reflect.TypeOf(one)))
		}
		schema = map[string]any{"anyOf": list}
	} else {
		schema = s.of(reflect.TypeOf(v))
	}
	return map[string]any{"application/json": map[string]any{"schema": schema}}
}

// of is the schema of a type.
func (s *schemas) of(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[netip.Prefix](), t == reflect.TypeFor[directorapi.Duration](),
		reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
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
	reference := map[string]any{"$ref": "#/components/schemas/" + name}
	if _, ok := s.known[name]; ok {
		return reference
	}
	s.known[name] = nil // it may have itself
	properties := make(map[string]any)
	var required []string
	for f := range t.Fields() {
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		properties[key] = s.of(f.Type)
		if !strings.Contains(options, "omit") && (t != reflect.TypeFor[directorapi.Catalogue]() || key != "serial" && key != "changed") && key != "name" {
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
