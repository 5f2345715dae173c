package edge

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"freshet/internal/edge/diskcache"
	"freshet/internal/httpcache"
	"freshet/internal/layout"
	"freshet/internal/roots"
	"freshet/internal/sign"
)

// generation is what is held of one publish of a set: its root files, which
// belong together, and what they list. Its files have IDs of their own, so that
// two generations are stored side by side and which one is shown is a matter of
// one pointer. It does not change once others see it.
type generation struct {
	// files are the root files by path.
	files map[string]diskcache.ID
	// missing are the root files that were asked for and do not exist. After a
	// restart it is empty: clients then come over new connections.
	missing map[string]*memory
	// validUntil is when the publisher says that it is not to be believed any
	// more, zero if never.
	validUntil time.Time
	// modified is the Last-Modified of the first root file, zero if unknown.
	modified time.Time

	mu      sync.Mutex // held while the listing is read
	listing atomic.Pointer[roots.Listing]
}

// set is a [layout.Set] of a site and the generation it is shown in. It is safe
// for concurrent use.
type set struct {
	site    *site
	key     layout.Set
	id      diskcache.ID // of the record that says which generation is shown
	current atomic.Pointer[generation]
	// gone: the table does not know it any more, somebody may have made another.
	gone atomic.Bool

	mu    sync.Mutex
	asked map[string]bool // the root files that somebody asked for
	task  *candidate      // the newest that has not ended, nil if none
	err   error           // of the last candidate
	until time.Time       // until when, for err, the origin is left alone
	wait  time.Duration   // how long it was left alone
	plain time.Time       // until when its files are had like any other
	// suspect are the validators of files that do not look as if they belonged
	// together and cannot be told, since when.
	suspect string
	since   time.Time
}

// sets are those in use. The zero value is empty; safe for concurrent use.
type sets struct {
	mu sync.RWMutex
	m  map[setKey]*set
}

// maxSets bounds the sets in memory; others are read from the store when they
// are asked for.
const maxSets = 1 << 14

// setOf returns a set of a site, as it is in the store if it is not in memory.
func (e *Edge) setOf(s *site, key layout.Set) *set {
	at := setKey{s.name, key}
	e.sets.mu.RLock()
	found := e.sets.m[at]
	e.sets.mu.RUnlock()
	if found != nil {
		return found
	}
	made := &set{site: s, key: key, id: keyID(s.name, key.Root, "generation of "+key.Kind), asked: make(map[string]bool)}
	if g := e.loadGeneration(made); g != nil {
		made.current.Store(g)
		for path := range g.files {
			made.asked[path] = true
		}
	}
	e.sets.mu.Lock()
	defer e.sets.mu.Unlock()
	if found := e.sets.m[at]; found != nil {
		return found
	}
	if e.sets.m == nil {
		e.sets.m = make(map[setKey]*set)
	}
	for other, old := range e.sets.m { // maps are walked in random order
		if len(e.sets.m) < maxSets {
			break
		}
		if !old.busy() {
			old.gone.Store(true)
			delete(e.sets.m, other)
		}
	}
	e.sets.m[at] = made
	return made
}

func (s *set) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.task != nil
}

// failing returns why the origin is left alone, if it is.
func (s *set) failing(now time.Time) (error, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err, s.err != nil && now.Before(s.until)
}

func (s *set) isPlain(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.plain)
}

// record is a generation as it stands in the store.
type generationRecord struct {
	Files      map[string]string `json:"files"` // ID by path
	ValidUntil time.Time         `json:"valid_until,omitzero"`
	Modified   time.Time         `json:"modified,omitzero"`
}

// maxRecord bounds a generation's record.
const maxGenerationRecord = 64 << 10

// loadGeneration reads from the store which generation of a set is shown. It
// returns nil if none is there as a whole.
func (e *Edge) loadGeneration(s *set) *generation {
	entry := e.store.Peek(s.id)
	if entry == nil || entry.Size() > maxGenerationRecord {
		return nil
	}
	data, err := e.readEntry(entry)
	if err != nil {
		return nil
	}
	var record generationRecord
	if err := json.Unmarshal(data, &record); err != nil {
		e.log.Warn("record of a generation not readable: the set is fetched anew", slog.String("set", s.key.Root), slog.Any("error", err))
		return nil
	}
	g := &generation{files: make(map[string]diskcache.ID, len(record.Files)), validUntil: record.ValidUntil, modified: record.Modified}
	for path, text := range record.Files {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != len(diskcache.ID{}) || e.store.Peek(diskcache.ID(b)) == nil {
			return nil
		}
		g.files[path] = diskcache.ID(b)
	}
	if len(g.files) == 0 {
		return nil
	}
	return g
}

// generationSite ends the site of the records of generations, so that no purge
// of the site's paths meets them.
const generationSite = " generations"

// saveGeneration writes which generation of a set is shown. The files of the
// generation are in the store already: a crash leaves this one or the one
// before, whole.
func (e *Edge) saveGeneration(s *set, g *generation) error {
	record := generationRecord{Files: make(map[string]string, len(g.files)), ValidUntil: g.validUntil, Modified: g.modified}
	for path, id := range g.files {
		record.Files[path] = id.String()
	}
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if len(data) > maxGenerationRecord {
		return fmt.Errorf("record of a generation has %d bytes", len(data))
	}
	first := roots.Groups(s.key)[0].File
	meta := &diskcache.Meta{
		Key: s.site.label() + " " + s.key.Root + " (generation)", Site: s.site.name + generationSite, Path: first,
		Status: http.StatusOK, Header: http.Header{},
	}
	w, err := e.store.Create(s.id, meta, int64(len(data)))
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(data); err != nil {
		return err
	}
	_, err = w.Commit(diskcache.State{Validated: time.Now()})
	return err
}

// readEntry returns the body of a stored answer.
func (e *Edge) readEntry(entry *diskcache.Entry) ([]byte, error) {
	if entry.Size() > roots.MaxSize {
		return nil, fmt.Errorf("%d bytes are too many", entry.Size())
	}
	body, err := entry.Open()
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data := make([]byte, entry.Size())
	if _, err := body.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data, nil
}

// content is a stored answer as package roots reads it.
type content struct {
	*diskcache.Body
	size int64
}

func (c content) Size() int64 { return c.size }

// rootFiles opens root files; the caller calls done.
func rootFiles(entries map[string]*diskcache.Entry) (files roots.Files, done func(), err error) {
	files = make(roots.Files, len(entries))
	var bodies []*diskcache.Body
	done = func() {
		for _, b := range bodies {
			b.Close()
		}
	}
	for path, entry := range entries {
		body, err := entry.Open()
		if err != nil {
			done()
			return nil, nil, err
		}
		bodies = append(bodies, body)
		files[path] = content{body, entry.Size()}
	}
	return files, done, nil
}

// entries returns the root files that are in the store.
func (g *generation) entries(e *Edge) map[string]*diskcache.Entry {
	entries := make(map[string]*diskcache.Entry, len(g.files))
	for path, id := range g.files {
		if entry := e.store.Peek(id); entry != nil {
			entries[path] = entry
		}
	}
	return entries
}

// list returns what the root files list. When they cannot be read now, that is
// nothing, and they are read again the next time. No generation lists nothing.
func (g *generation) list(e *Edge, s *set) *roots.Listing {
	if g == nil {
		return new(roots.Listing)
	}
	if l := g.listing.Load(); l != nil {
		return l
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.listing.Load(); l != nil {
		return l
	}
	files, done, err := rootFiles(g.entries(e))
	if err != nil {
		return new(roots.Listing)
	}
	defer done()
	l, err := roots.List(s.key, files)
	if err != nil { // they could be read when they were compared
		return l
	}
	g.listing.Store(l)
	return l
}

// bound applies the publisher's own limit: what is not to be believed any more
// is not used when the origin cannot be asked.
func (g *generation) bound(f httpcache.Freshness, now time.Time, least time.Duration) httpcache.Freshness {
	if g != nil && !g.validUntil.IsZero() && !now.Before(g.validUntil) {
		f.Lifetime, f.Revalidate, f.OnError = min(f.Lifetime, least), 0, 0
	}
	return f
}

// heldIDs lists every ID that the URI of a call may have entries under.
func (e *Edge) heldIDs(s *site, id diskcache.ID, path string) []diskcache.ID {
	ids := e.names.of(id)
	if !s.ruled {
		return ids
	}
	key := layout.PolicyOf(path).Set
	if key == (layout.Set{}) {
		return ids
	}
	of := e.setOf(s, key)
	g := of.current.Load()
	if g == nil {
		return ids
	}
	if root, ok := g.files[path]; ok {
		return append(ids, root)
	}
	if m, ok := g.list(e, of).Members[path]; ok {
		if c, ok := memberCall(of, m); ok {
			ids = append(ids, c.id)
		}
	}
	return ids
}

// sameBody reports whether two stored answers have the same bytes.
func sameBody(a, b *diskcache.Entry) bool {
	if a.Is(b) {
		return true
	}
	if a == nil || b == nil || a.Size() != b.Size() {
		return false
	}
	x, err := a.Open()
	if err != nil {
		return false
	}
	defer x.Close()
	y, err := b.Open()
	if err != nil {
		return false
	}
	defer y.Close()
	var p, q [32 << 10]byte
	for off := int64(0); off < a.Size(); off += int64(len(p)) {
		n, _ := x.ReadAt(p[:], off)
		m, _ := y.ReadAt(q[:], off)
		if want := min(int64(len(p)), a.Size()-off); int64(n) != want || !bytes.Equal(p[:n], q[:m]) {
			return false
		}
	}
	return true
}

// validators tell the present root files from others.
func validators(entries map[string]*diskcache.Entry) string {
	var text strings.Builder
	for _, path := range slices.Sorted(maps.Keys(entries)) {
		h := entries[path].Meta().Header
		text.WriteString(path + "\n" + h.Get("Etag") + "\n" + h.Get("Last-Modified") + "\n" + h.Get("Content-Length") + "\n")
	}
	return text.String()
}

// readKeys reads files of public keys; it returns nil if there are none.
func readKeys(names []string) (*sign.Verifier, error) {
	if len(names) == 0 {
		return nil, nil //nolint:nilnil // no key is known
	}
	verifier := new(sign.Verifier)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read keys: %w", err)
		}
		if err := verifier.Add(data); err != nil {
			return nil, fmt.Errorf("read keys of %s: %w", name, err)
		}
	}
	return verifier, nil
}
