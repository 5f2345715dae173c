package directorapi

import "time"

// Choice is what a director says of a path of a project when it is asked with
// "?mirrorlist=json" or "?why=json": where it would send the client, and why not
// elsewhere.
type Choice struct {
	Project string `json:"project"`
	// Path is the path within the project. One of a folder ends with a slash; that
	// of the project's root is empty.
	Path string `json:"path"`
	// File is the current version of the file; nil for folders and for files that
	// the director does not know of.
	File   *FileFacts  `json:"file,omitempty"`
	Client ClientFacts `json:"client"`
	// Mirrors are those that a client may be sent to, the best first.
	Mirrors []Candidate `json:"mirrors"`
	// Excluded are the others that carry the project, and why they are not used for
	// this request. It is there with "?why" only.
	Excluded []Candidate `json:"excluded,omitempty"`
	// Origins are URLs of the path that are used when no mirror is.
	Origins []string `json:"origins"`
}

// FileFacts are what is known of a version of a file.
type FileFacts struct {
	Size int64 `json:"size"`
	// Modified is when the origin's file was changed last; zero: not known.
	Modified time.Time `json:"modified,omitzero"`
	// SHA256 is in hex; empty: not known.
	SHA256 string `json:"sha256,omitempty"`
	// Mutable files keep their name when their content changes: only mirrors that
	// hold all that the current version names are used for them.
	Mutable bool `json:"mutable,omitempty"`
}

// ClientFacts are what is known of where a client is. Empty: not known.
type ClientFacts struct {
	Address string `json:"address"`
	Country string `json:"country,omitempty"` // ISO 3166-1, two upper-case letters
	ASN     uint32 `json:"asn,omitempty"`
	HTTPS   bool   `json:"https,omitempty"` // it is given URLs with https only
}

// Candidate is a mirror and what came out for it.
type Candidate struct {
	Mirror  string `json:"mirror"`
	Site    string `json:"site,omitempty"`
	Country string `json:"country,omitempty"`
	// URL is that of the path there; empty for one that is excluded.
	URL string `json:"url,omitempty"`
	// Tier is how near it counts as, by the word of the rule that found it.
	Tier string `json:"tier,omitempty"`
	// Kilometres is the distance along the great circle; nil: not known.
	Kilometres *float64 `json:"kilometres,omitempty"`
	// Score is its weight among those of its tier: twice as much is twice as likely
	// to come first.
	Score float64 `json:"score,omitempty"`
	// Reason is the word for why it is excluded, and Detail what there is to say.
	Reason string    `json:"reason,omitempty"`
	Detail string    `json:"detail,omitempty"`
	Since  time.Time `json:"since,omitzero"`
}
