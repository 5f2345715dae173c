// Package directorapi is what a director understands: the catalogue of mirrors that
// it chooses from, and what mirrors, nodes and operators tell it over HTTP, with a
// client for that. docs/director-catalogue.md is the manual, openapi.json the formal
// description. It imports the standard library only.
package directorapi

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Prefix begins every path of the API. It is served on the admin listener, to those who
// show a token or a certificate.
const Prefix = "/director/v1"

// Paths of the API. A name in a path is that of the catalogue.
const (
	// CataloguePath is a [Catalogue]: GET it, with If-None-Match; PUT replaces all of it
	// and answers with a [Change]. The right for GET is read, otherwise write.
	CataloguePath = Prefix + "/catalogue"
	// HistoryPath is a [History]: GET, with the parameters before, limit, kind and name.
	HistoryPath = Prefix + "/history"
	// ScansPath is a [ScanList]: GET, with the parameters mirror and project (right
	// read); POST takes a [ScanRequest] and answers 202 (right write).
	ScansPath = Prefix + "/scans"
	// InventoryPath is the inventory, in the form of docs/formats/inventory.md: GET it, with
	// If-None-Match. With the parameter changes, what has changed since that is enough; with
	// wait, an answer that there is nothing new waits (right read).
	InventoryPath = Prefix + "/inventory"
	// WhyPath is a [Why]: GET, with the parameters path, client, mirror (right read).
	WhyPath = Prefix + "/why"
	// ReportsPath takes [Reports] by POST and answers 202 (right report, or the token of
	// a mirror for its load).
	ReportsPath = Prefix + "/reports"
)

// Items are the lists of a catalogue, as they stand in paths.
type Items string

// The lists.
const (
	Projects Items = "projects"
	Sites    Items = "sites"
	Mirrors  Items = "mirrors"
)

// ItemPath is the path of one item of the catalogue, a [Project], [Site] or [Mirror]: GET
// it (right read), PUT or DELETE it (right write), which answer with a [Change]. PUT with
// "If-None-Match: *" makes a new one only, If-Match changes only the catalogue that was
// read. The name in the item may be left out.
func ItemPath(items Items, name string) string {
	return CataloguePath + "/" + string(items) + "/" + name
}

// ManifestPath takes the manifest of what a mirror has of a project, by PUT (right push,
// or the mirror's own token); docs/formats/manifest.md says what that is. The mirror
// [ManifestOrigin] is the project's origin.
func ManifestPath(mirror, project string) string {
	return Prefix + "/manifests/" + mirror + "/" + project
}

// ManifestOrigin stands for the origin in a [ManifestPath]. No mirror can have this name.
const ManifestOrigin = "-"

// Rights that a client can have; the tables of the director's configuration give them.
// A mirror's own token has that to push its manifests and to report its load.
const (
	RightRead   = "read"   // the catalogue with its contacts, history, status
	RightWrite  = "write"  // changes of the catalogue, scans
	RightPush   = "push"   // manifests of every mirror
	RightReport = "report" // what nodes see of mirrors
)

// ETag is the entity tag of a catalogue; empty if it has no ID.
func (c *Catalogue) ETag() string {
	if c.ID == "" {
		return ""
	}
	return fmt.Sprintf(`"%s-%d"`, c.ID, c.Serial)
}

// Change tells what a request has changed of a catalogue.
type Change struct {
	// Serial is that of the catalogue with the change; without one, as it was.
	Serial int64 `json:"serial"`
	// DryRun is true if nothing was written.
	DryRun bool `json:"dry_run,omitempty"`
	// Items are those that changed.
	Items []ItemChange `json:"items"`
}

// ItemChange is the change of one item.
type ItemChange struct {
	// Items is the list, Name the item.
	Items Items  `json:"items"`
	Name  string `json:"name"`
	// Action is one of the actions below.
	Action string `json:"action"`
	// Keys are those that differ, of a changed item.
	Keys []string `json:"keys,omitempty"`
	// Before and After are the item as it was and is.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// The actions.
const (
	ActionAdd    = "add"
	ActionChange = "change"
	ActionRemove = "remove"
)

// Error is the body of an answer that is no success.
type Error struct {
	Status int `json:"status"`
	// Reason is one word: bad_request, unauthorized, forbidden, not_found, exists,
	// conflict (the catalogue has changed since it was read), invalid (see Problems),
	// followed (it is changed elsewhere), gap (a full manifest is needed), shrunk (a manifest
	// lacks so much that it counts only when it is sent once more), too_large,
	// unavailable, internal.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Problems are all that is wrong with the catalogue as it would be.
	Problems []Problem `json:"problems,omitempty"`
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "director: %s (%d %s)", e.Message, e.Status, e.Reason)
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// Problem is something that is wrong with a catalogue.
type Problem struct {
	// Where is the item and its key: "mirrors.uni.carries.fedora.http".
	Where   string `json:"where"`
	Message string `json:"message"`
}

func (p Problem) String() string { return p.Where + ": " + p.Message }
