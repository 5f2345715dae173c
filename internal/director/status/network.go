package status

import "time"

// Network is what the pages show: all mirrors at one moment. It is not changed any
// more once a [Site] has it.
type Network struct {
	// Made is the moment.
	Made     time.Time `json:"made"`
	Projects []Project `json:"projects"`
	Mirrors  []Mirror  `json:"mirrors"`
}

// Project is a tree of files.
type Project struct {
	Name string `json:"name"`
	// Path is where it is on the director, "/fedora/".
	Path string `json:"path"`
	// Files and Bytes are what the origin has; Known is when that was found, zero:
	// never.
	Files int       `json:"files"`
	Bytes int64     `json:"bytes"`
	Known time.Time `json:"known,omitzero"`
	// Problem says why nothing newer is known of the origin; "" for no reason.
	Problem      string       `json:"problem,omitempty"`
	Repositories []Repository `json:"repositories,omitempty"`
}

// Repository is a folder that clients read through a pointer.
type Repository struct {
	Path string `json:"path"` // relative to the project's
	Kind string `json:"kind"`
	// Version is the checksum of the pointer at the origin, in hex, and Since when it
	// was first seen.
	Version string    `json:"version,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	// Current is how many mirrors hold the whole of this version, of how many that carry
	// the project.
	Current int `json:"current"`
	Of      int `json:"of"`
}

// Mirror is a server.
type Mirror struct {
	Name         string `json:"name"`
	Site         string `json:"site"`
	Organisation string `json:"organisation,omitempty"`
	URL          string `json:"url,omitempty"` // of the organisation
	// Country is a code, Continent as well.
	Country   string  `json:"country"`
	Continent string  `json:"continent,omitempty"`
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
	// Located is false if it is not known where it is.
	Located  bool   `json:"located"`
	ASN      uint32 `json:"asn,omitempty"`
	Capacity int    `json:"capacity"` // Mbit/s
	// Load is what the mirror says of itself, 0 to 1; -1: nothing.
	Load float64 `json:"load"`
	// Disabled mirrors are given to nobody.
	Disabled bool `json:"disabled,omitempty"`
	// Rules say whom it is for, a sentence each.
	Rules   []string  `json:"rules,omitempty"`
	Carries []Carried `json:"carries"`
}

// Carried is a project on a mirror.
type Carried struct {
	Project string `json:"project"`
	// Holds is how many of the origin's files the mirror has, in the same version, as
	// found at Known; Way says how that is found out.
	Holds int       `json:"holds"`
	Known time.Time `json:"known,omitzero"`
	Way   string    `json:"way,omitempty"`
	// Unused says why that is not relied on, such as its age; "" if it is.
	Unused string `json:"unused,omitempty"`
	// Behind are the repositories of which it has not the current version.
	Behind []Behind `json:"behind,omitempty"`
	Ways   []Access `json:"ways"`
}

// Behind is a repository that is not current on a mirror.
type Behind struct {
	Repository string    `json:"repository"`
	Since      time.Time `json:"since,omitzero"`
	Why        string    `json:"why,omitempty"`
}

// Access is one way to reach a project on a mirror.
type Access struct {
	URL    string `json:"url"`
	Family string `json:"family"` // "IPv4", "IPv6"
	OK     bool   `json:"ok"`
	// Why and Since tell of the present state; Since zero: not probed yet.
	Why   string    `json:"why,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Expires is the end of the certificate; zero: there is none, or it is not known.
	Expires time.Time `json:"expires,omitzero"`
	// History are earlier states, the newest first.
	History []Change `json:"history,omitempty"`
}

// Change is when a state began.
type Change struct {
	At  time.Time `json:"at"`
	OK  bool      `json:"ok"`
	Why string    `json:"why,omitempty"`
}

// State is how a mirror, or what it carries, is in one word.
type State string

// The states, best first.
const (
	StateCurrent  State = "current"  // reachable, all that is asked of it is there
	StateBehind   State = "behind"   // reachable, but not used for what is newest
	StateUnknown  State = "unknown"  // nobody has looked yet
	StateDown     State = "down"     // used for nothing
	StateDisabled State = "disabled" // switched off by its operators
)

// State is that of a project on a mirror.
func (c *Carried) State() State {
	probed := false
	for _, a := range c.Ways {
		switch {
		case a.OK && c.Unused == "" && len(c.Behind) == 0:
			return StateCurrent
		case a.OK:
			return StateBehind
		}
		probed = probed || !a.Since.IsZero()
	}
	if probed {
		return StateDown
	}
	return StateUnknown
}

// State is the worst of what it carries that still works, or down if nothing does.
func (m *Mirror) State() State {
	if m.Disabled {
		return StateDisabled
	}
	rank := map[State]int{StateCurrent: 1, StateBehind: 2, StateUnknown: 3, StateDown: 4}
	best, worst := StateDown, StateCurrent
	for i := range m.Carries {
		s := m.Carries[i].State()
		if rank[s] < rank[best] {
			best = s
		}
		if rank[s] > rank[worst] {
			worst = s
		}
	}
	switch {
	case len(m.Carries) == 0:
		return StateUnknown
	case best == StateCurrent && worst != StateCurrent:
		return StateBehind
	}
	return best
}

// carried is what a mirror has of a project, nil for nothing.
func (m *Mirror) carried(project string) *Carried {
	for i := range m.Carries {
		if m.Carries[i].Project == project {
			return &m.Carries[i]
		}
	}
	return nil
}

// works tells whether clients are sent to it.
func (s State) works() bool { return s == StateCurrent || s == StateBehind }
