package hubapi

// DeltaResults is the results of a JobDeltas and of a JobBuildDeltas.
type DeltaResults struct {
	// Deltas are the static deltas that were published.
	Deltas []MadeDelta `json:"deltas"`
	// Failed are those that could not be made, with the reason, by their name:
	// "<to>" or "<from>-<to>".
	Failed map[string]string `json:"failed"`
	// Retired is how many clients can no longer choose.
	Retired int `json:"retired,omitempty"`
}

// MadeDelta is a static delta with what it costs a client. Sizes are in bytes.
type MadeDelta struct {
	Ref string `json:"ref"`
	// From is the commit from which it leads; "" is from nothing.
	From string `json:"from,omitempty"`
	To   string `json:"to"`
	// Size is what a client fetches: the files of the delta, and the objects that
	// are not in it, of which there are Singly.
	Size   uint64 `json:"size,omitempty"`
	Parts  int    `json:"parts,omitempty"`
	Singly int    `json:"singly,omitempty"`
	// Instead is what the same objects take when they are fetched one by one; 0 is
	// not known.
	Instead uint64 `json:"instead,omitempty"`
	// Seconds is how long it took to make; 0 for one that was there.
	Seconds float64 `json:"seconds,omitempty"`
	// Worker is who made it; "" is the hub itself.
	Worker string `json:"worker,omitempty"`
}
