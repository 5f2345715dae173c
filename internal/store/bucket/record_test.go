package bucket

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func section(data string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(data), 0, int64(len(data)))
}

// written is the record of a change, as text.
func written(t testing.TB) (*Change, string) {
	t.Helper()
	dir := t.TempDir()
	file := func(path, content string) File {
		name := filepath.Join(dir, strings.ReplaceAll(path, "/", "-"))
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return File{Path: path, Open: func() (*os.File, error) { return os.Open(name) }}
	}
	c := &Change{
		Serial:   7,
		Index:    []File{file("delta-indexes/a", "index\n"), file("empty", "")},
		Pointers: []File{{Path: "refs/heads/gone", Gone: true}, file("summary", "pointer")},
		Remove:   []string{"summaries/old"},
		Note:     []byte("note"),
	}
	f, err := os.Create(filepath.Join(dir, "record"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := c.Write(f); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return c, string(data)
}

func TestRecord(t *testing.T) {
	t.Parallel()
	_, data := written(t)
	c, err := ReadChange(section(data))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range c.files() {
		content, err := io.ReadAll(c.Content(f))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.Path+"="+string(content))
	}
	if text := strings.Join(got, " "); text != "delta-indexes/a=index\n empty= summary=pointer" {
		t.Errorf("%q", text)
	}
	if c.Serial != 7 || string(c.Note) != "note" || len(c.Remove) != 1 || !c.Pointers[0].Gone {
		t.Errorf("%+v", c)
	}
	for name, wrong := range map[string]string{
		"empty":    "",
		"cut":      data[:len(data)-1],
		"longer":   data + "x",
		"content":  data[:len(data)-1] + "X",
		"path":     strings.Replace(data, `"summary"`, `"../away"`, 1),
		"no line":  strings.ReplaceAll(data, "\n", " "),
		"negative": strings.Replace(data, `"size":7`, `"size":-7`, 1),
	} {
		if _, err := ReadChange(section(wrong)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadChange(section(strings.Replace(data, `"version":1`, `"version":2`, 1))); err == nil {
		t.Error("a later version was read")
	}
}

func FuzzReadChange(f *testing.F) {
	_, data := written(f)
	f.Add(data)
	f.Add(`{"version":1,"index":[{"path":"a","size":9223372036854775807},{"path":"b","size":9223372036854775807}]}` + "\n")
	f.Fuzz(func(t *testing.T, data string) {
		c, err := ReadChange(section(data))
		if err != nil {
			return
		}
		for _, file := range c.files() {
			if n, err := io.Copy(io.Discard, c.Content(file)); err != nil || n != file.Size {
				t.Errorf("%s: %d of %d bytes, %v", file.Path, n, file.Size, err)
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":"a","fence":2,"writer":"w","serial":3,"changes":[{"serial":3,"key":".freshet/changes/3-x"}]}`))
	f.Add([]byte(`{"version":1,"id":"a","changes":[{"serial":1,"key":".freshet/changes/../manifest"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			return
		}
		for _, c := range m.Changes {
			if c.Serial > m.Serial || strings.Contains(strings.TrimPrefix(c.Key, changePrefix), "/") {
				t.Errorf("%+v", m)
			}
		}
	})
}
