package status

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"freshet/internal/page"
	"freshet/web"
)

// Base is the path below which the pages are, and Path that of the first one.
const (
	Base = "/-"
	Path = Base + "/"
)

// Site serves the pages. Its methods may be called concurrently.
type Site struct {
	pages *page.Set
	log   *slog.Logger
	shown atomic.Pointer[shown]
}

// shown is a network and what is the same for all requests.
type shown struct {
	*Network
	json []byte
	etag string
}

// New prepares a site that shows an empty network. now is the clock; nil means
// time.Now.
func New(log *slog.Logger, now func() time.Time) (*Site, error) {
	pages, err := page.Open(web.Files(), "director", Base, now)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	s := &Site{pages: pages, log: log}
	return s, s.Show(&Network{Projects: []Project{}, Mirrors: []Mirror{}})
}

// Show shows a network from now on, which must not be changed any more.
func (s *Site) Show(n *Network) error {
	body, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	sum := sha256.Sum256(body)
	s.shown.Store(&shown{Network: n, json: append(body, '\n'), etag: `"` + hex.EncodeToString(sum[:12]) + `"`})
	return nil
}

// Handler serves everything below [Path].
func (s *Site) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Base+"/{$}", s.overview)
	mux.HandleFunc("GET "+Base+"/projects/{name}", s.project)
	mux.HandleFunc("GET "+Base+"/mirrors/{name}", s.mirror)
	mux.HandleFunc("GET "+Base+"/status.json", s.all)
	mux.HandleFunc("GET "+Base+"/assets/{name}", func(w http.ResponseWriter, r *http.Request) {
		if !s.pages.ServeAsset(w, r.PathValue("name")) {
			s.missing(w, r)
		}
	})
	mux.HandleFunc("GET "+Path, s.missing)
	return mux
}

// all answers with the network.
func (s *Site) all(w http.ResponseWriter, r *http.Request) {
	n := s.shown.Load()
	h := w.Header()
	page.Protect(h)
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache")
	h.Set("Access-Control-Allow-Origin", "*") // it is for everybody
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("ETag", n.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(n.json))
}

func (s *Site) missing(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, s.shown.Load(), http.StatusNotFound, "problem", "Not found", nil)
}

func (s *Site) render(w http.ResponseWriter, r *http.Request, n *shown, status int, name, title string, data any) {
	frame := page.Frame{Title: title, Footer: "Times are UTC."}
	if !n.Made.IsZero() {
		frame.Footer = "As of " + n.Made.UTC().Format("2006-01-02 15:04:05") + ". " + frame.Footer
	}
	frame.Nav = append(frame.Nav, page.NavItem{Link: page.Link{Href: Path, Text: "Network"}, Current: name == "overview"})
	for i := range n.Projects {
		p := &n.Projects[i]
		link := page.Link{Href: projectHref(p.Name), Text: p.Name}
		frame.Nav = append(frame.Nav, page.NavItem{Link: link, Current: name == "project" && title == p.Name})
	}
	if err := s.pages.Render(w, status, name, frame, data); err != nil {
		s.log.ErrorContext(r.Context(), "page was not made", slog.Any("error", err))
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
	}
}

// Names have no characters that a path must not have.
func projectHref(name string) string { return Base + "/projects/" + name }
func mirrorHref(name string) string  { return Base + "/mirrors/" + name }

// badge shows a state.
func badge(s State) page.Badge {
	tone := map[State]string{StateCurrent: "good", StateBehind: "busy", StateDown: "bad", StateUnknown: "wait", StateDisabled: "wait"}
	return page.Badge{Tone: tone[s], Text: string(s)}
}

// rate is a capacity for people.
func rate(mbits int) string {
	if mbits >= 1000 {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(mbits)/1000), ".0") + " Gbit/s"
	}
	return fmt.Sprintf("%d Mbit/s", mbits)
}
