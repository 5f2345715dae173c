package directorapi

import "time"

// HealthPath is a [HealthList]: GET, with the parameters mirror and project (right read).
const HealthPath = Prefix + "/health"

// MaxReports is how many [Report]s may be told at once.
const MaxReports = 500

// HealthList is which mirrors work, by project, scheme and family of addresses.
type HealthList struct {
	Ways []WayHealth `json:"ways"`
	// Blind are the families ("ipv4", "ipv6") over which the director can reach nobody.
	Blind []string `json:"blind,omitempty"`
}

// WayHealth is what is known of one way to the files of a project.
type WayHealth struct {
	// Mirror is that of the catalogue, or "origin/0" for the first origin of the project.
	Mirror  string `json:"mirror"`
	Project string `json:"project"`
	Scheme  string `json:"scheme"`
	Family  string `json:"family"`
	// Works says whether clients are sent this way; if not, Why is the one word for it,
	// and Detail more of it, for people.
	Works  bool      `json:"works"`
	Why    string    `json:"why,omitempty"`
	Detail string    `json:"detail,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	// Looked is when it was looked at last, and Took how long the last good look was.
	Looked time.Time `json:"looked,omitzero"`
	Took   Duration  `json:"took,omitempty"`
	// Good are the good looks in a row of one that does not work, of which Needed bring
	// it back.
	Good   int `json:"good,omitempty"`
	Needed int `json:"needed,omitempty"`
	// Expires is when the certificate ends.
	Expires time.Time `json:"expires,omitzero"`
	// History are the last changes, oldest first; only if a mirror was asked for.
	History []WayChange `json:"history,omitempty"`
}

// WayChange is one change of a way.
type WayChange struct {
	At     time.Time `json:"at"`
	Works  bool      `json:"works"`
	Why    string    `json:"why,omitempty"`
	Detail string    `json:"detail,omitempty"`
}
