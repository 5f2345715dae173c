package hubapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Fields by which a follower of the event log reports with each request of its
// tail how far it has come: everything up to the serial it asks after is
// applied. A report needs a token with the scope "node".
const (
	// NodeHeader is the name of the node, NodeSiteHeader what follows on it (an
	// edge follows for each of its sites), NodeLogHeader the log that the serial
	// is of.
	NodeHeader     = "Freshet-Node"
	NodeSiteHeader = "Freshet-Node-Site"
	NodeLogHeader  = "Freshet-Node-Log"
)

// ReportNoted is what [EventPage].Report says of a report that counts.
const ReportNoted = "noted"

// MaxNodeName bounds the name of a node, and of a site, in bytes.
const MaxNodeName = 128

// Reporter is who follows.
type Reporter struct{ Node, Site string }

// header is what goes with a request of the tail after the cursor.
func (r *Reporter) header(cursor Cursor) http.Header {
	return http.Header{NodeHeader: {r.Node}, NodeSiteHeader: {r.Site}, NodeLogHeader: {cursor.Log}}
}

// Node is what a follower has reported.
type Node struct {
	// Name is that of the node, below the name of its token: "edges/fra1".
	Name string `json:"name"`
	Site string `json:"site"`
	// Everything up to Serial of Log is applied and on the node's disk.
	Log    string `json:"log"`
	Serial int64  `json:"serial"`
	// Seen is when it last reported, right to some seconds.
	Seen time.Time `json:"seen"`
	// Past says that the node has applied the event that was asked about.
	Past bool `json:"past"`
}

// NodeList is the answer to who has come how far, sorted by name and site.
type NodeList struct {
	// Log and Head are the hub's own.
	Log   string `json:"log"`
	Head  int64  `json:"head"`
	Nodes []Node `json:"nodes"`
}

// NodesPath lists the nodes. It takes the query parameter past, a serial; the
// log's head if it is absent.
const NodesPath = Prefix + "/nodes"

// Nodes lists the nodes that have reported, and which of them are past the
// serial; past the head if it is 0.
func (c *Client) Nodes(ctx context.Context, past int64) (NodeList, error) {
	var list NodeList
	query := url.Values{}
	if past > 0 {
		query.Set("past", strconv.FormatInt(past, 10))
	}
	if err := c.do(ctx, call{method: http.MethodGet, path: NodesPath, query: query}, &list); err != nil {
		return list, fmt.Errorf("list nodes: %w", err)
	}
	return list, nil
}
