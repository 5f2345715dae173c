package page

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// Frame is what surrounds a page's own content.
type Frame struct {
	// Title is that of the page.
	Title string
	// Nav are the sections of the site, with the one of the page marked.
	Nav []NavItem
	// Who is signed in; "" is nobody. CSRF goes with the form that signs out.
	Who, CSRF string
	// Notices are told at the top of the page.
	Notices []string
	// Refresh is after how many seconds a browser loads the page anew; 0 is never.
	Refresh int
	// GoTo is a path of the same site to which a browser goes at once; "" is none.
	GoTo string
	// Footer is one line below it.
	Footer string
}

// NavItem is a link of the navigation.
type NavItem struct {
	Link
	Current bool
}

// Link is a text that leads somewhere, unless Href is "".
type Link struct{ Href, Text string }

// Badge is a state in one word; its tone is "good", "bad", "busy", "wait" or "".
type Badge struct{ Tone, Text string }

// Pager leads through a list. Newest is "" on its first page, Older on its last.
type Pager struct {
	Newest, Older         string
	NewestText, OlderText string
}

// Option is one of a choice in a form.
type Option struct {
	Value, Text string
	Chosen      bool
}

// Set are the pages of a role. It may be used by many requests at once.
type Set struct {
	base, role string
	pages      map[string]*template.Template
	assets     map[string]asset // by the name in URLs
	names      map[string]string
	now        func() time.Time
}

type asset struct {
	kind string
	body []byte
}

// Open reads the pages in the folder of a role, which are served below base, a
// path without a slash at its end. now is the clock; nil means time.Now.
func Open(files fs.FS, role, base string, now func() time.Time) (*Set, error) {
	if now == nil {
		now = time.Now
	}
	s := &Set{base: base, role: role, pages: map[string]*template.Template{}, assets: map[string]asset{}, names: map[string]string{}, now: now}
	if err := s.readAssets(files); err != nil {
		return nil, fmt.Errorf("read pages: %w", err)
	}
	shared, err := template.New("").Funcs(s.functions()).ParseFS(files, "*.html")
	if err != nil {
		return nil, fmt.Errorf("read pages: %w", err)
	}
	own, err := fs.Glob(files, role+"/*.html")
	if err != nil {
		return nil, fmt.Errorf("read pages: %w", err)
	}
	for _, file := range own {
		page, err := shared.Clone()
		if err == nil {
			page, err = page.ParseFS(files, file)
		}
		if err != nil {
			return nil, fmt.Errorf("read page %s: %w", file, err)
		}
		s.pages[strings.TrimSuffix(path.Base(file), ".html")] = page
	}
	return s, nil
}

func (s *Set) readAssets(files fs.FS) error {
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
	entries, err := fs.ReadDir(files, "assets")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		body, err := fs.ReadFile(files, "assets/"+name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		ext := path.Ext(name)
		hashed := strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext
		s.names[name], s.assets[hashed] = hashed, asset{kinds[ext], body}
	}
	return nil
}

// view is what the frame's template sees.
type view struct {
	Frame
	Role, Home, Account, SignOut string
	Data                         any
}

// Render answers with a page and its data. When that fails nothing was sent.
func (s *Set) Render(w http.ResponseWriter, status int, name string, frame Frame, data any) error {
	body, err := s.Make(name, frame, data)
	if err != nil {
		return err
	}
	Describe(w.Header())
	w.WriteHeader(status)
	_, _ = w.Write(body) // nobody is left to tell
	return nil
}

// Make returns a page with its data, for who sends it himself, with the header of
// [Describe]. The bytes are the caller's.
func (s *Set) Make(name string, frame Frame, data any) ([]byte, error) {
	page, ok := s.pages[name]
	if !ok {
		return nil, fmt.Errorf("there is no page %q", name)
	}
	var body bytes.Buffer
	v := view{frame, s.role, s.base + "/", s.base + "/account", s.base + "/signout", data}
	if err := page.ExecuteTemplate(&body, "page", v); err != nil {
		return nil, fmt.Errorf("page %s: %w", name, err)
	}
	return body.Bytes(), nil
}

// Describe sets what the header of every page says.
func Describe(h http.Header) {
	Protect(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
}

// Protect sets what keeps a browser from doing more with an answer than to show
// it: nothing is loaded from elsewhere, no script runs, no other site may frame
// it, and other sites do not learn where links came from.
func Protect(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}

// ServeAsset answers with the style sheet or another asset by its hashed name,
// which never changes its content. It reports false for names that are none.
func (s *Set) ServeAsset(w http.ResponseWriter, name string) bool {
	a, ok := s.assets[name]
	if !ok {
		return false
	}
	h := w.Header()
	Protect(h)
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(a.body)
	return true
}

// asset is the URL of an asset by its plain name.
func (s *Set) asset(name string) (string, error) {
	hashed, ok := s.names[name]
	if !ok {
		return "", fmt.Errorf("there is no asset %q", name)
	}
	return s.base + "/assets/" + hashed, nil
}
