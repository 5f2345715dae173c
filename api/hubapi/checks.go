package hubapi

import (
	"encoding/json"
	"fmt"
	"slices"
)

// CheckStatus is how far a check of a build has come. The numbers are
// flat-manager's database values.
type CheckStatus int

// The statuses of a check. Those from CheckPassedWithWarnings on have a reason.
const (
	// CheckPending: it has not run to its end.
	CheckPending CheckStatus = iota
	CheckPassed
	CheckPassedWithWarnings
	CheckFailed
	// CheckReviewRequired: somebody has to decide.
	CheckReviewRequired
)

var checkStatusNames = [...]string{"Pending", "Passed", "PassedWithWarnings", "Failed", "ReviewRequired"}

func (s CheckStatus) String() string { return stateName(int(s), checkStatusNames[:]) }

// Finished reports whether the check has an outcome.
func (s CheckStatus) Finished() bool { return s != CheckPending && s != CheckReviewRequired }

// CheckVerdict is a status with its reason as requests have it:
// {"status": "Failed", "reason": "…"}.
type CheckVerdict struct {
	Status CheckStatus
	Reason string
}

type checkVerdict struct {
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// MarshalJSON writes the status by its name.
func (v CheckVerdict) MarshalJSON() ([]byte, error) {
	return json.Marshal(checkVerdict{v.Status.String(), v.Reason})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (v *CheckVerdict) UnmarshalJSON(b []byte) error {
	var read checkVerdict
	if err := json.Unmarshal(b, &read); err != nil {
		return err
	}
	i := slices.Index(checkStatusNames[:], read.Status)
	if i < 0 {
		return fmt.Errorf("%q is no status of a check: want one of %q", read.Status, checkStatusNames)
	}
	v.Status, v.Reason = CheckStatus(i), read.Reason
	return nil
}

// ReviewCheckRequest sets the outcome of a check. NewResults, if there are any,
// replace what the check has left as its results.
type ReviewCheckRequest struct {
	NewStatus  *CheckVerdict `json:"new-status"`
	NewResults *string       `json:"new-results,omitempty"`
}

// RepublishRequest publishes the refs of an application anew, with a reason why
// they are no longer maintained, or the id of what replaces them, if given.
type RepublishRequest struct {
	App             string  `json:"app"`
	EndOfLife       *string `json:"endoflife,omitempty"`
	EndOfLifeRebase *string `json:"endoflife_rebase,omitempty"`
}
