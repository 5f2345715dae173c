package edge

import (
	"net/http"

	"freshet/internal/edge/control"
)

// adminWarm answers POST /edge/v1/warm.
func (e *Edge) adminWarm(_ http.ResponseWriter, _ *http.Request, _ *control.Client, _ *control.Order) error {
	return badOrder("not yet")
}
