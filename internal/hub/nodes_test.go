package hub_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub"
)

// Followers report how far they have come by what they ask the log for; who may
// asks which are past a serial. Nobody speaks for the nodes of another token.
func TestNodesReport(t *testing.T) {
	h := startHub(t, hub.Config{})
	claims := everything()
	claims.Name, claims.Scope = "edges", []auth.Scope{auth.ScopeNode}
	edges := h.token(claims)
	claims.Name = "others"
	others := h.token(claims)
	claims.Scope = []auth.Scope{auth.ScopeUpload}
	weak := h.token(claims)

	page := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath))
	head := strconv.FormatInt(page.Head, 10)
	ask := func(token, after, log, node, site string) string {
		t.Helper()
		a := h.do(http.MethodGet, hubapi.EventsPath+"?after="+after, token, nil,
			hubapi.NodeHeader, node, hubapi.NodeSiteHeader, site, hubapi.NodeLogHeader, log)
		if a.status != http.StatusOK {
			t.Fatalf("the log is open to everyone, and answered %d %s", a.status, a.body)
		}
		return decode[hubapi.EventPage](t, a).Report
	}
	for _, test := range []struct{ token, after, log, node, site, want string }{
		{edges, head, page.Log, "fra1", "dl", hubapi.ReportNoted},
		{edges, "0", "an older log", "edges/ams1", "", hubapi.ReportNoted},
		{others, head, page.Log, "edges/fra1", "dl", hubapi.ReportNoted}, // below its own name
		{others, head, page.Log, "sea1\xff", "dl", "the name of node, site or log makes no sense"},
		{"", head, page.Log, "fra1", "dl", "No Authorization header"},
		{"rubbish", head, page.Log, "fra1", "dl", "Invalid token claims"},
		{weak, head, page.Log, "fra1", "dl", "Not enough permissions: Not matching scope 'node' in token"},
		{edges, head, page.Log, "", "dl", ""},
	} {
		if got := ask(test.token, test.after, test.log, test.node, test.site); !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%+v: told %q", test, got)
		}
	}
	list, err := h.api().Nodes(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if list.Log != page.Log || len(list.Nodes) != 3 {
		t.Fatalf("%+v", list)
	}
	for i, want := range []hubapi.Node{
		{Name: "edges/ams1", Site: "default", Log: "an older log"},
		{Name: "edges/fra1", Site: "dl", Log: page.Log, Serial: page.Head, Past: true},
		{Name: "others/edges/fra1", Site: "dl", Log: page.Log, Serial: page.Head, Past: true},
	} {
		got := list.Nodes[i]
		if got.Seen.IsZero() {
			t.Errorf("%s was never seen", got.Name)
		}
		if got.Seen = want.Seen; got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if list, err = h.api().Nodes(t.Context(), page.Head+1); err != nil || list.Nodes[1].Past {
		t.Errorf("past the next event: %+v, %v", list, err)
	}
	h.restart()
	if list, err = h.api().Nodes(t.Context(), 0); err != nil || len(list.Nodes) != 3 {
		t.Errorf("after a restart: %+v, %v", list, err)
	}
	h.do(http.MethodGet, hubapi.NodesPath, "", nil).problem(t, 401, hubapi.ErrInvalidToken)
	h.do(http.MethodGet, hubapi.NodesPath, weak, nil).problem(t, 403, hubapi.ErrInsufficient)
	h.do(http.MethodGet, hubapi.NodesPath+"?past=-1", edges, nil).problem(t, 400, hubapi.ErrGeneric)
}
