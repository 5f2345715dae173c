package engine_test

import (
	"testing"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/engine"
)

// A project that goes when its sync is to begin has not failed.
func TestSyncOfWhatIsGone(t *testing.T) {
	t.Parallel()
	r, err := engine.New(nil, nil).Sync(t.Context(), mirrorapi.Order{Project: "gone"})
	if err == nil || r.Result != mirrorapi.Canceled || r.Reason != mirrorapi.ReasonCanceled || r.Message == "" || r.Ended.IsZero() {
		t.Errorf("%+v, %v", r, err)
	}
}
