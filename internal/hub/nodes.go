package hub

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"freshet/api/hubapi"
	"freshet/internal/auth"
)

// reported notes what a request of the event log's tail says of its sender, and
// returns what to tell him; "" if it says nothing. The log is open to everyone,
// so a report that does not count is no reason not to answer.
func (s *server) reported(r *http.Request, after int64) string {
	h := r.Header
	name := h.Get(hubapi.NodeHeader)
	if name == "" {
		return ""
	}
	claims, err := s.authenticate(r)
	if err == nil {
		err = allow(claims, "build", []auth.Scope{auth.ScopeNode})
	}
	if err != nil {
		return err.Error()
	}
	node := hubapi.Node{
		Name: nodeName(claims.Name, name), Site: cmp.Or(h.Get(hubapi.NodeSiteHeader), "default"), Log: h.Get(hubapi.NodeLogHeader), Serial: after,
	}
	for _, text := range [...]string{node.Name, node.Site, node.Log} {
		if len(text) > 2*hubapi.MaxNodeName || !utf8.ValidString(text) || strings.ContainsFunc(text, isControl) {
			return "the name of node, site or log makes no sense"
		}
	}
	if err := s.catalog.ReportNode(r.Context(), node); err != nil {
		return err.Error()
	}
	return hubapi.ReportNoted
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }

// nodeName puts the name that a node gives itself below that of its token, so
// that nobody can speak for the nodes of another token.
func nodeName(token, name string) string {
	token = cmp.Or(token, "unnamed")
	if name == token || strings.HasPrefix(name, token+"/") {
		return name
	}
	return token + "/" + name
}

// listNodes answers which nodes have come how far.
func (s *server) listNodes(w http.ResponseWriter, r *http.Request, _ *auth.Claims) error {
	list, err := s.catalog.Nodes(r.Context())
	if err != nil {
		return err
	}
	past := list.Head
	if text := r.URL.Query().Get("past"); text != "" {
		if past, err = strconv.ParseInt(text, 10, 64); err != nil || past < 0 {
			return problem(hubapi.ErrGeneric, "past: %.40q is no serial", text)
		}
	}
	for i := range list.Nodes {
		node := &list.Nodes[i]
		node.Past = node.Log == list.Log && node.Serial >= past
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, list)
	return nil
}
