package watchapi_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"freshet/api/watchapi"
)

var head = watchapi.Head{
	Telemetry: 1, Role: "mirror", Begun: 1795294800000, Ended: 1795294805000,
	ID: watchapi.ID{Node: "box", Epoch: "00065f2a", First: 7, Last: 9},
}

func lines() []watchapi.Line {
	return []watchapi.Line{
		{Count: &watchapi.Count{Cube: "a", Width: 60, At: 1795294800, Labels: []string{"epel", "x86_64", `pack"age\`, "2xx", "hit"}, Requests: 3, Bytes: 8123}},
		{Count: &watchapi.Count{Cube: "g", Width: 60, At: 1795294800, Labels: []string{"epel"}, Times: []watchapi.Bucket{{-80, 2}, {8, 1}}}},
		{Project: &watchapi.Project{Name: "epel", At: time.Unix(1795294800, 0).UTC(), Files: 3}},
		{Disk: &watchapi.Disk{At: time.Unix(1795294800, 0).UTC(), Size: 10, Free: 3}},
		{Dropped: &watchapi.Dropped{Reason: "too_old", Batches: 4, Requests: 10, Bytes: 100}},
	}
}

func encode(tb testing.TB, h watchapi.Head, lines []watchapi.Line) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := watchapi.NewWriter(&b, h)
	if err != nil {
		tb.Fatal(err)
	}
	for _, l := range lines {
		if err := w.Add(l); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func decode(text []byte) (h watchapi.Head, lines []watchapi.Line, err error) {
	r, err := watchapi.NewReader(bytes.NewReader(text))
	if err != nil {
		return h, nil, err
	}
	for {
		l, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Head, lines, nil
		}
		if err != nil {
			return r.Head, lines, err
		}
		lines = append(lines, l)
	}
}

func TestBatch(t *testing.T) {
	text := encode(t, head, lines())
	h, got, err := decode(text)
	if err != nil || h != head || !reflect.DeepEqual(got, lines()) {
		t.Errorf("%+v\n%+v\n%v\nof %s", h, got, err, text)
	}
	// Wherever it is cut, that is seen.
	for n := range len(text) {
		if _, _, err := decode(text[:n]); !errors.Is(err, watchapi.ErrMalformed) {
			t.Fatalf("cut at %d of %d: %v", n, len(text), err)
		}
	}
	// What a later version adds is passed over.
	later := strings.Replace(string(text), `{"end":5}`, `{"weather":{"rain":true}}`+"\n"+`{"end":6}`, 1)
	if _, got, err := decode([]byte(later)); err != nil || len(got) != 5 {
		t.Errorf("%d lines, %v", len(got), err)
	}
}

func TestMalformed(t *testing.T) {
	good := string(encode(t, head, lines()))
	for name, c := range map[string]struct {
		old, changed string
		want         error
	}{
		"nothing":            {good, "", watchapi.ErrMalformed},
		"another version":    {`"telemetry":1`, `"telemetry":2`, watchapi.ErrVersion},
		"no version":         {`"telemetry":1`, `"telemetry":0`, watchapi.ErrMalformed},
		"no node":            {`"node":"box"`, `"node":""`, watchapi.ErrMalformed},
		"a node like a path": {`"node":"box"`, `"node":"a/b"`, watchapi.ErrMalformed},
		"an odd epoch":       {`"epoch":"00065f2a"`, `"epoch":"../x"`, watchapi.ErrMalformed},
		"numbers":            {`"first":7`, `"first":10`, watchapi.ErrMalformed},
		"a negative sum":     {`"n":3`, `"n":-3`, watchapi.ErrMalformed},
		"an odd window":      {`"w":60`, `"w":61`, watchapi.ErrMalformed},
		"a crooked window":   {`"t":1795294800`, `"t":1795294801`, watchapi.ErrMalformed},
		"a label with lines": {`"x86_64"`, `"x86\n64"`, watchapi.ErrMalformed},
		"a long label":       {`x86_64`, strings.Repeat("x", 129), watchapi.ErrMalformed},
		"many labels":        {`"x86_64"`, `"1","2","3","4","5"`, watchapi.ErrMalformed},
		"a bucket far away":  {`[-80,2]`, `[-8000,2]`, watchapi.ErrMalformed},
		"two in one":         {`{"disk"`, `{"c":"a","w":60,"t":0,"l":["x"],"disk"`, watchapi.ErrMalformed},
		"no JSON":            {`{"disk"`, `{"disk`, watchapi.ErrMalformed},
		"no UTF-8":           {`x86_64`, "\xff", watchapi.ErrMalformed},
		"a line too few":     {`{"end":5}`, `{"end":6}`, watchapi.ErrMalformed},
		"more behind":        {`{"end":5}`, `{"end":5}` + "\nx", watchapi.ErrMalformed},
		"a long line":        {`x86_64`, strings.Repeat("x", watchapi.MaxLine), watchapi.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(good, c.old, c.changed, 1)
			if text == good {
				t.Fatal("nothing was changed")
			}
			if _, _, err := decode([]byte(text)); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// A batch without end ends.
func TestTooLarge(t *testing.T) {
	var b bytes.Buffer
	w, err := watchapi.NewWriter(&b, head)
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	first, _, _ := bytes.Cut(b.Bytes(), []byte("\n"))
	endless := io.MultiReader(bytes.NewReader(append(first, '\n')), &repeat{text: []byte(`{"disk":{"size":1}}` + "\n")})
	r, err := watchapi.NewReader(endless)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		if _, err := r.Next(); err != nil {
			if !errors.Is(err, watchapi.ErrTooLarge) || n != watchapi.MaxLines {
				t.Errorf("%v after %d lines", err, n)
			}
			return
		}
	}
}

type repeat struct {
	text []byte
	at   int
}

func (r *repeat) Read(b []byte) (int, error) {
	n := copy(b, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

func FuzzReader(f *testing.F) {
	f.Add(encode(f, head, lines()))
	f.Add(encode(f, head, nil))
	f.Add([]byte(`{"telemetry":1,"node":"n","epoch":"1","first":1,"last":1}` + "\n" + `{"c":null,"w":60}` + "\n" + `{"end":1}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, got, err := decode(text)
		if err != nil {
			return
		}
		// What is taken can be written, and read again, as the same.
		again := encode(t, h, got)
		h2, got2, err := decode(again)
		if err != nil || h2 != h || !reflect.DeepEqual(encode(t, h2, got2), again) {
			t.Errorf("%v\n%+v\n%+v", err, got, got2)
		}
	})
}
