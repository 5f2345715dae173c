package directorapi_test

import (
	"flag"
	"reflect"
	"slices"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/openapitest"
)

func needs(right string) string { return "the right " + right }

// complete completes an operation by what its parameters mean.
func complete(o openapitest.Operation) openapitest.Operation {
	o.Enums = map[string][]string{"items": {string(directorapi.Projects), string(directorapi.Sites), string(directorapi.Mirrors)}}
	switch {
	case slices.Contains(o.Query, "after"):
		o.Also = map[string]string{"204": "nothing newer"}
	case o.Method == "get" && slices.Contains(o.Query, "wait"):
		o.Also = map[string]string{"304": "as If-None-Match names it"}
	}
	return o
}

func operations() []openapitest.Operation {
	item := directorapi.ItemPath("{items}", "{name}")
	anyItem := openapitest.OneOf{directorapi.Project{}, directorapi.Site{}, directorapi.Mirror{}}
	edit := []string{"dry-run", "note"}
	return []openapitest.Operation{
		{Method: "get", Path: directorapi.CataloguePath, Does: "The catalogue. With wait, one that If-None-Match names is waited past.", Needs: needs(directorapi.RightRead), Query: []string{"wait"}, Out: directorapi.Catalogue{}, Status: "200"},
		{Method: "put", Path: directorapi.CataloguePath, Does: "Replace the catalogue.", Needs: needs(directorapi.RightWrite), Query: edit, In: directorapi.Catalogue{}, Out: directorapi.Change{}, Status: "200"},
		{Method: "get", Path: item, Does: "One project, site or mirror.", Needs: needs(directorapi.RightRead), Out: anyItem, Status: "200"},
		{Method: "put", Path: item, Does: "Add or change one.", Needs: needs(directorapi.RightWrite), Query: edit, In: anyItem, Out: directorapi.Change{}, Status: "200"},
		{Method: "delete", Path: item, Does: "Remove one.", Needs: needs(directorapi.RightWrite), Query: edit, Out: directorapi.Change{}, Status: "200"},
		{Method: "get", Path: directorapi.HistoryPath, Does: "Changes of the catalogue, newest first.", Needs: needs(directorapi.RightRead), Query: []string{"before", "limit", "kind", "name"}, Out: directorapi.History{}, Status: "200"},
		{Method: "get", Path: directorapi.ScansPath, Does: "How it was found out what mirrors have.", Needs: needs(directorapi.RightRead), Query: []string{"mirror", "project"}, Out: directorapi.ScanList{}, Status: "200"},
		{Method: "post", Path: directorapi.ScansPath, Does: "Find out anew what a mirror has.", Needs: needs(directorapi.RightWrite), In: directorapi.ScanRequest{}, Status: "202"},
		{Method: "get", Path: directorapi.InventoryPath, Does: "Which mirror has which file, as docs/formats/inventory.md says. With changes, what has changed since the one that If-None-Match names is enough; with wait, that one is waited past.", Needs: needs(directorapi.RightRead), Query: []string{"changes", "wait"}, Out: openapitest.Media("application/vnd.freshet.inventory"), Status: "200"},
		{Method: "get", Path: directorapi.WhyPath, Does: "Explain the answer to a client.", Needs: needs(directorapi.RightRead), Query: []string{"path", "client", "mirror"}, Out: directorapi.Why{}, Status: "200"},
		{Method: "get", Path: directorapi.HealthPath, Does: "Whether mirrors work.", Needs: needs(directorapi.RightRead), Query: []string{"mirror", "project"}, Out: directorapi.HealthList{}, Status: "200"},
		{Method: "post", Path: directorapi.ReportsPath, Does: "Tell what was seen of mirrors, or a mirror's load.", Needs: needs(directorapi.RightReport), In: directorapi.Reports{}, Status: "202"},
		{Method: "put", Path: directorapi.ManifestPath("{mirror}", "{project}"), Does: "Tell what a mirror has, by a manifest.", Needs: needs(directorapi.RightPush), In: openapitest.Media("*/*"), Status: "204"},
		{Method: "get", Path: directorapi.DesiredPath, Does: "How far mirrors are with their desired states.", Needs: needs(directorapi.RightRead), Out: directorapi.DesiredList{}, Status: "200"},
		{Method: "get", Path: directorapi.DesiredOf("{mirror}"), Does: "What is desired of a mirror.", Needs: needs(directorapi.RightRead), Query: []string{"version"}, Out: directorapi.Desired{}, Status: "200"},
		{Method: "put", Path: directorapi.DesiredOf("{mirror}"), Does: "Say what is desired of a mirror.", Needs: needs(directorapi.RightWrite), In: directorapi.DesiredChange{}, Out: directorapi.Desired{}, Status: "200"},
		{Method: "get", Path: directorapi.DesiredOf("{mirror}") + directorapi.DesiredHistory, Does: "The versions of what is desired of a mirror, newest first.", Needs: needs(directorapi.RightRead), Out: directorapi.DesiredVersions{}, Status: "200"},
		{Method: "get", Path: directorapi.DesiredOf("{mirror}") + directorapi.DesiredFollow, Does: "The newest desired state, signed, if it is newer than after; otherwise 204, when the time of wait is over.", Needs: needs(directorapi.RightFollow), Query: []string{"after", "wait"}, Out: directorapi.SignedDesired{}, Status: "200"},
		{Method: "post", Path: directorapi.DesiredOf("{mirror}") + directorapi.DesiredApplied, Does: "Say what a mirror makes of its desired states.", Needs: needs(directorapi.RightFollow), In: directorapi.Applied{}, Status: "204"},
		{Method: "post", Path: directorapi.DesiredOf("{mirror}") + directorapi.DesiredClaim, Does: "Make a claim, by which a new box becomes the mirror.", Needs: needs(directorapi.RightWrite), In: directorapi.ClaimRequest{}, Out: directorapi.ClaimAnswer{}, Status: "200"},
		{Method: "post", Path: directorapi.RedeemPath, Does: "Become a mirror, by a claim.", Needs: "the right of whoever has the claim", In: directorapi.Redemption{}, Out: directorapi.Redeemed{}, Status: "200"},
	}
}

var update = flag.Bool("update", false, "rewrite openapi.json")

// The description of the API says what the types say.
func TestOpenAPI(t *testing.T) {
	all := operations()
	for i := range all {
		all[i] = complete(all[i])
	}
	openapitest.Check(t, "openapi.json", *update, openapitest.API{
		Title: "Freshet director", Description: "What a director understands on its admin listener; see docs/director-catalogue.md.",
		Operations: all, Error: directorapi.Error{},
		Optional: func(t reflect.Type, key string) bool {
			return key == "name" || t == reflect.TypeFor[directorapi.Catalogue]() && (key == "serial" || key == "changed")
		},
	})
}
