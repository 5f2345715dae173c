package page_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"freshet/internal/page"
	"freshet/web"
)

// The style sheet has a name that changes with it, may be kept for ever under it,
// and is what pages link to.
func TestAssets(t *testing.T) {
	set, err := page.Open(web.Files(), "hub", "/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	if err := set.Render(w, http.StatusNotFound, "problem", page.Frame{Title: "<T>"}, struct {
		Title, Message, Hint string
		SignedIn             bool
	}{Title: "<script>"}); err != nil {
		t.Fatal(err)
	}
	body := w.Body.String()
	if w.Code != http.StatusNotFound || strings.Contains(body, "<script>") || !strings.Contains(body, "<title>&lt;T&gt; · Freshet hub</title>") {
		t.Errorf("%d %s", w.Code, body)
	}
	_, rest, _ := strings.Cut(body, `<link rel="stylesheet" href="/x/assets/`)
	name, _, _ := strings.Cut(rest, `"`)
	w = httptest.NewRecorder()
	if !set.ServeAsset(w, name) || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Header().Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("%q: %v", name, w.Header())
	}
	for _, unsafe := range []string{"url(", "@import", "http:"} {
		if strings.Contains(w.Body.String(), unsafe) {
			t.Errorf("the style sheet has %s", unsafe)
		}
	}
	if n := w.Body.Len(); n > 16<<10 {
		t.Errorf("the style sheet has grown to %d bytes", n)
	}
	if set.ServeAsset(httptest.NewRecorder(), "style.css") {
		t.Error("the style sheet is there by its plain name")
	}
}

// Of a page that cannot be made nothing is sent.
func TestBrokenPage(t *testing.T) {
	files := fstest.MapFS{
		"layout.html": {Data: []byte(`{{define "page"}}<p>{{template "main" .Data}}{{end}}`)}, "assets/a.css": {},
		"x/broken.html": {Data: []byte(`{{define "main"}}begun{{.Nothing}}{{end}}`)},
	}
	set, err := page.Open(files, "x", "/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	for _, name := range []string{"broken", "none"} {
		if err := set.Render(w, http.StatusOK, name, page.Frame{}, struct{}{}); err == nil || w.Body.Len() > 0 || len(w.Header()) > 0 {
			t.Errorf("%s: %v, sent %q %v", name, err, w.Body, w.Header())
		}
	}
}

func TestWords(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "just now", 30 * time.Second: "30 s ago", 90 * time.Second: "1 min ago", 3 * time.Hour: "3 h ago", 50 * time.Hour: "2 days ago", 100 * 24 * time.Hour: "2026-08-13",
		-500 * time.Millisecond: "now", -2 * time.Hour: "in 2 h", -100 * 24 * time.Hour: "2027-03-01",
	} {
		if got := page.Ago(now.Add(-d), now); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "–", 1500 * time.Microsecond: "1.5 ms", 240 * time.Millisecond: "240 ms", 3100 * time.Millisecond: "3.1 s", 125 * time.Second: "2 min 5 s", 3*time.Hour + 2*time.Minute: "3 h 2 min", 72 * time.Hour: "3 days",
	} {
		if got := page.Took(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	if page.Bytes(0) != "–" || page.Bytes(1_500_000) != "1.5 MB" || page.Plural(1, "ref", "refs") != "1 ref" || page.Plural(int64(1234), "ref", "refs") != "1,234 refs" || page.Short("abc") != "abc" {
		t.Error("sizes and numbers")
	}
}

// What is drawn stays within its bar, is in the right order, and what is short can
// still be seen.
func TestTimeline(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(s float64) time.Time { return begin.Add(time.Duration(s * float64(time.Second))) }
	line := page.NewTimeline([]page.Event{
		{Phases: []page.Phase{{Tone: page.ToneWork, From: at(0), To: at(50)}}},
		{Phases: []page.Phase{{Tone: page.ToneWait, From: at(50), To: at(75)}, {Tone: page.ToneWork, From: at(75)}}},
		{Phases: []page.Phase{{Tone: page.ToneDone, From: at(100), To: at(100)}, {Tone: page.ToneBad}}},
	}, at(100))
	want := [][]page.Span{{{Tone: "work", X: 0, Width: 500}}, {{Tone: "wait", X: 500, Width: 250}, {Tone: "work", X: 750, Width: 250}}, {{Tone: "done", X: 996, Width: 4}}}
	for i, row := range line.Rows {
		if len(row.Spans) != len(want[i]) {
			t.Fatalf("row %d: %+v", i, row.Spans)
		}
		for j, span := range row.Spans {
			if span != want[i][j] {
				t.Errorf("row %d: %+v, want %+v", i, span, want[i][j])
			}
		}
	}
	if rows := page.NewTimeline([]page.Event{{}}, begin).Rows; len(rows) != 1 || rows[0].Spans != nil {
		t.Errorf("nothing: %+v", rows)
	}
	columns := page.NewColumns("", []page.Bar{{Parts: []page.BarPart{{Tone: "wait", Took: time.Second}, {Tone: "work", Took: 3 * time.Second}}}, {Parts: []page.BarPart{{Tone: "work", Took: time.Second}}}}, 5)
	if columns.Most != "4.0 s" || columns.Columns[0].Parts[1].Y != 0 || columns.Columns[1].Parts[0].Height != 25 || columns.Columns[1].Parts[0].X != 48 {
		t.Errorf("%+v", columns)
	}
}
