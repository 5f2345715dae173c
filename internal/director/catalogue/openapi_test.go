package catalogue_test

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/director/catalogue"
	"freshet/internal/sqldb/sqldbtest"
)

// The description has what the handlers of the catalogue answer, and nothing else of it.
func TestDescribed(t *testing.T) {
	text, err := os.ReadFile("../../../api/directorapi/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	var described, handled []string
	for path, methods := range doc.Paths {
		for method := range methods {
			if strings.HasPrefix(path, directorapi.CataloguePath) || path == directorapi.HistoryPath {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	catalogue.NewAPI(t.Context(), nil, open(t, sqldbtest.SQLite(t))).Register(func(pattern string, _ http.Handler) {
		handled = append(handled, pattern)
	})
	slices.Sort(described)
	slices.Sort(handled)
	if !slices.Equal(described, handled) {
		t.Errorf("described: %q\nhandled:   %q", described, handled)
	}
}
