package catalogue_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/director/catalogue"
	"freshet/internal/openapitest"
	"freshet/internal/sqldb/sqldbtest"
)

// The description has what the handlers of the catalogue answer, and nothing else of it.
func TestDescribed(t *testing.T) {
	described := openapitest.Read(t, "../../../api/directorapi/openapi.json").Operations(func(path string) bool {
		return strings.HasPrefix(path, directorapi.CataloguePath) || path == directorapi.HistoryPath
	})
	var handled []string
	catalogue.NewAPI(t.Context(), nil, open(t, sqldbtest.SQLite(t))).Register(func(pattern string, _ http.Handler) {
		handled = append(handled, pattern)
	})
	slices.Sort(handled)
	if !slices.Equal(described, handled) {
		t.Errorf("described: %q\nhandled:   %q", described, handled)
	}
}
