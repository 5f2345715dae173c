package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"freshet/api/mirrorapi"
	"freshet/internal/disktest"
	"freshet/internal/mirror/engine"
	"freshet/internal/mirror/fetch"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/kind"
)

// otherMirror is a mirror upstream of a plain project "q", which may lie.
type otherMirror struct {
	mu       sync.Mutex // held while it answers
	head     mirrorapi.Head
	manifest string
	files    map[string]string
	asked    []string
}

// change changes what it does from now on.
func (o *otherMirror) change(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

// serves makes it serve files honestly, in a generation since a time.
func (o *otherMirror) serves(id string, since time.Time, files map[string]string) {
	var b strings.Builder
	fmt.Fprintf(&b, "freshet-generation 1\nproject q\ngeneration %s\n\n", id)
	o.head = mirrorapi.Head{Project: "q", Switched: since}
	for _, name := range []string{"a", "b"} {
		if text, ok := files[name]; ok {
			fmt.Fprintf(&b, "%d 1700000000 %x %s\n", len(text), sha256.Sum256([]byte(text)), name)
			o.head.Files++
		}
	}
	fmt.Fprintf(&b, "end %d\n", o.head.Files)
	o.files = files
	o.tells(id, b.String())
}

// tells makes it tell of a manifest.
func (o *otherMirror) tells(id, manifest string) {
	o.manifest = manifest
	sum := sha256.Sum256([]byte(manifest))
	o.head.Manifest = hex.EncodeToString(sum[:])
	o.head.Generation = id + "-" + o.head.Manifest[:12]
}

func (o *otherMirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, r.URL.Path)
	base := mirrorapi.HeadPath("q")
	name, inTree := strings.CutPrefix(r.URL.Path, mirrorapi.TreePath("q", o.head.Generation))
	switch text, ok := o.files[name]; {
	case r.URL.Path == base:
		_ = json.NewEncoder(w).Encode(o.head)
	case r.URL.Path == mirrorapi.ManifestPath("q", o.head.Generation):
		z, _ := zstd.NewWriter(w, zstd.WithWindowSize(1<<20)) // as mirrors have it
		_, _ = z.Write([]byte(o.manifest))
		_ = z.Close()
	case inTree && ok:
		http.ServeContent(w, r, "", time.Unix(1700000000, 0), bytes.NewReader([]byte(text)))
	default:
		http.NotFound(w, r)
	}
}

// What another mirror serves is taken over as one generation, without a listing, and not
// again; what it says wrong changes nothing, and has a word.
func TestOtherMirror(t *testing.T) {
	w := newWorld(t, kind.Config{Format: kind.Plain})
	k, err := kind.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	w.project.Kind = k
	up := new(otherMirror)
	srv := httptest.NewServer(up)
	defer srv.Close()
	s, err := fetch.Open("mirror+"+srv.URL+"/q/", fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.project.Upstream.Sources = []fetch.Source{s}
	look := func(when string, order mirrorapi.Order, result mirrorapi.Result, reason mirrorapi.Reason) {
		t.Helper()
		order.Project = "p"
		r, err := engine.New(nil, []*engine.Project{&w.project}).Sync(t.Context(), order)
		if r.Result != result || r.Reason != reason {
			t.Errorf("%s: %s %s, want %s %s; %v", when, r.Result, r.Reason, result, reason, err)
		}
	}
	served := func(when string, files map[string]string) {
		t.Helper()
		for _, name := range []string{"a", "b"} {
			var got string
			if f, _, _, err := w.project.Store.Open(name); err == nil {
				var b bytes.Buffer
				_, _ = b.ReadFrom(f)
				_ = f.Close()
				got = b.String()
			}
			if got != files[name] {
				t.Errorf("%s: %s is %q, want %q", when, name, got, files[name])
			}
		}
	}
	begun := time.Now().Add(-time.Hour)
	one, two := map[string]string{"a": "one", "b": "same"}, map[string]string{"a": "two", "b": "same"}
	up.change(func() { up.serves("000001", begun, one) })
	look("first", mirrorapi.Order{}, mirrorapi.Published, "")
	served("first", one)
	up.change(func() { up.asked = nil })
	look("again", mirrorapi.Order{}, mirrorapi.Unchanged, "")
	up.change(func() {
		if len(up.asked) > 2 {
			t.Errorf("it was asked for %q, though it has told of nothing new", up.asked)
		}
		up.serves("000002", begun.Add(time.Minute), two)
	})
	look("second", mirrorapi.Order{}, mirrorapi.Published, "")
	served("second", two)

	three := map[string]string{"a": "three", "b": "same"}
	for when, lie := range map[string]struct {
		tell   func()
		result mirrorapi.Result
		reason mirrorapi.Reason
	}{
		"another manifest than told": {func() { up.head.Manifest = strings.Repeat("0", 64) }, mirrorapi.Failed, mirrorapi.ReasonInconsistent},
		"no manifest":                {func() { up.tells("000003", "<html>log in</html>") }, mirrorapi.Failed, mirrorapi.ReasonMetadata},
		"cut manifest":               {func() { up.tells("000003", up.manifest[:len(up.manifest)-6]) }, mirrorapi.Failed, mirrorapi.ReasonMetadata},
		"path that leads out": {func() {
			up.tells("000003", "freshet-generation 1\n\n1 1700000000 "+strings.Repeat("0", 64)+" ../../a\nend 1\n")
		}, mirrorapi.Failed, mirrorapi.ReasonMetadata},
		"missing file":     {func() { up.files = map[string]string{"b": "same"} }, mirrorapi.Failed, mirrorapi.ReasonInconsistent},
		"wrong file":       {func() { up.files = map[string]string{"a": "other", "b": "same"} }, mirrorapi.Failed, mirrorapi.ReasonInconsistent},
		"older generation": {func() { up.serves("000001", begun, one) }, mirrorapi.Refused, mirrorapi.ReasonRollback},
	} {
		up.change(func() {
			up.serves("000003", begun.Add(2*time.Minute), three)
			lie.tell()
		})
		look(when, mirrorapi.Order{}, lie.result, lie.reason)
		served(when, two)
	}
	up.change(func() { up.serves("000001", begun, one) })
	look("by an operator's word", mirrorapi.Order{Rollback: true}, mirrorapi.Published, "")
	served("by an operator's word", one)
}

// A disk that is too full for the manifest of another mirror is made room on, as for all
// else.
func TestOtherMirrorFullDisk(t *testing.T) {
	disk := disktest.New(t, 64<<20, 3000)
	w := newWorld(t, kind.Config{Format: kind.Plain})
	store, err := generation.Open(t.Context(), disk.Path+"/mirror", generation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if w.project.Store, err = store.Project("p", nil); err != nil {
		t.Fatal(err)
	}
	if w.project.Kind, err = kind.New(w.config); err != nil {
		t.Fatal(err)
	}
	up := new(otherMirror)
	srv := httptest.NewServer(up)
	defer srv.Close()
	s, err := fetch.Open("mirror+"+srv.URL+"/q/", fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.project.Upstream.Sources = []fetch.Source{s}
	up.serves("000001", time.Now().Add(-time.Hour), map[string]string{"a": "one", "b": "two"})
	// As long as one of some thousand files.
	up.tells("000001", strings.Replace(up.manifest, "\n\n", "\nnote "+strings.Repeat("x", 30<<10)+strings.Repeat("\nnote "+strings.Repeat("x", 30<<10), 20)+"\n\n", 1))
	empty := disk.Fill(256 << 10)
	rooms := 0
	w.project.Room = func(context.Context, engine.Need) error {
		if rooms++; rooms == 1 {
			empty()
		}
		return nil
	}
	r, err := engine.New(nil, []*engine.Project{&w.project}).Sync(t.Context(), mirrorapi.Order{Project: "p"})
	if r.Result != mirrorapi.Published {
		t.Errorf("%s %s: %v", r.Result, r.Reason, err)
	}
	if rooms < 2 { // for the manifest, and for what it names
		t.Errorf("room was made %d times", rooms)
	}
}
