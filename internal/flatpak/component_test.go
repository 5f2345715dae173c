package flatpak

import (
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func gzipped(tb testing.TB, text string) io.Reader {
	tb.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	if _, err := zw.Write([]byte(text)); err != nil {
		tb.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		tb.Fatal(err)
	}
	return &b
}

var testRef = Ref{App, "org.example.App", "x86_64", "stable"}

var testMetadata = Metadata{Runtime: "org.example.Platform/x86_64/24.08", SDK: "org.example.Sdk/x86_64/24.08"}

// TestReadCatalogue reads testdata/catalogue/*.xml and compares what goes into the
// repository's catalogue with the golden file beside each.
func TestReadCatalogue(t *testing.T) {
	inputs, err := filepath.Glob("testdata/catalogue/*.xml")
	if err != nil || len(inputs) == 0 {
		t.Fatal("no inputs", err)
	}
	for _, input := range inputs {
		t.Run(filepath.Base(input), func(t *testing.T) {
			text, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			metadata := testMetadata
			if strings.Contains(input, "tags") {
				metadata.Tags = []string{"proprietary", "beta"}
			}
			entry, err := readCatalogue(gzipped(t, string(text)), testRef, metadata)
			if err != nil {
				t.Fatal(err)
			}
			got := string(entry.fragment) + "\nicons: " + strings.Join(entry.ids, " ") + "\n"
			golden := strings.TrimSuffix(input, ".xml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestReadCatalogueRejects(t *testing.T) {
	wrap := func(inner string) string { return `<components>` + inner + `</components>` }
	good := `<component><id>org.example.App</id></component>`
	for name, text := range map[string]string{
		"empty":             "",
		"text only":         "hello",
		"other root":        `<component><id>org.example.App</id></component>`,
		"two roots":         wrap(good) + wrap(good),
		"not closed":        `<components><component><id>org.example.App</id>`,
		"crossed":           wrap(`<component><id>org.example.App</component></id>`),
		"other id":          wrap(`<component><id>org.other.App</id></component>`),
		"no id":             wrap(`<component><name>x</name></component>`),
		"empty id":          wrap(`<component><id/></component>`),
		"unknown entity":    wrap(`<component><id>org.example.App</id>&nbsp;</component>`),
		"not UTF-8":         wrap("<component><id>org.example.App</id>\xff</component>"),
		"other encoding":    `<?xml version="1.0" encoding="ISO-8859-1"?>` + wrap(good),
		"bare ampersand":    wrap(`<component><id>org.example.App</id>a & b</component>`),
		"attribute unquote": wrap(`<component type=x><id>org.example.App</id></component>`),
		"too deep":          wrap(strings.Repeat("<a>", maxDepth) + strings.Repeat("</a>", maxDepth)),
		"too many":          wrap(strings.Repeat("<a/>", maxNodes+1) + good),
		"too long":          wrap(good + strings.Repeat(" ", maxCatalogue)),
	} {
		if _, err := readCatalogue(gzipped(t, text), testRef, testMetadata); !errors.Is(err, ErrCatalogue) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := readCatalogue(strings.NewReader("no gzip"), testRef, testMetadata); !errors.Is(err, ErrCatalogue) {
		t.Errorf("no gzip: %v", err)
	}
	cut, _ := io.ReadAll(gzipped(t, wrap(good)))
	if _, err := readCatalogue(bytes.NewReader(cut[:len(cut)-9]), testRef, testMetadata); !errors.Is(err, ErrCatalogue) {
		t.Errorf("cut gzip: %v", err)
	}
}

// FuzzReadCatalogue feeds arbitrary text; whatever is accepted must be
// well-formed and give the same again.
func FuzzReadCatalogue(f *testing.F) {
	inputs, err := filepath.Glob("testdata/catalogue/*.xml")
	if err != nil {
		f.Fatal(err)
	}
	for _, input := range inputs {
		text, err := os.ReadFile(input)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("<components><component><id>org.example.App</id><![CDATA[<&>]]></component></components>")
	f.Fuzz(func(t *testing.T, text string) {
		entry, err := readCatalogue(gzipped(t, text), testRef, testMetadata)
		if err != nil {
			return
		}
		document := catalogueHead + string(entry.fragment) + catalogueTail
		var any struct{ XMLName xml.Name }
		if err := xml.Unmarshal([]byte(document), &any); err != nil && !namespaceTrouble(err) {
			t.Fatalf("%v in %q", err, document)
		}
		again, err := readCatalogue(gzipped(t, document), testRef, testMetadata)
		if err != nil {
			t.Fatalf("second reading: %v", err)
		}
		if strings.Join(again.ids, " ") != strings.Join(entry.ids, " ") {
			t.Errorf("ids %q became %q", entry.ids, again.ids)
		}
	})
}

// namespaceTrouble tells whether a decoder that resolves prefixes found elements
// that match by their text only.
func namespaceTrouble(err error) bool { return strings.Contains(err.Error(), "in space") }
