package directorapi

import "time"

// History is a part of the changes of a catalogue, newest first.
type History struct {
	Entries []HistoryEntry `json:"entries"`
	// Next is the before of the next request; 0 at the end.
	Next int64 `json:"next,omitempty"`
}

// HistoryEntry is one change of a catalogue, of as many items as it was for.
type HistoryEntry struct {
	// Serial is that of the catalogue with the change.
	Serial int64     `json:"serial"`
	Time   time.Time `json:"time"`
	// Actor is who made it: the name of the client in the configuration, or "cli:" and
	// a user's.
	Actor string `json:"actor"`
	// Note is what they said of it.
	Note  string       `json:"note,omitempty"`
	Items []ItemChange `json:"items"`
}

// ScanRequest asks to find out anew what a mirror has.
type ScanRequest struct {
	Mirror string `json:"mirror"`
	// Project is one that it carries. Empty: all.
	Project string `json:"project,omitempty"`
	// Reason is told in the status.
	Reason string `json:"reason,omitempty"`
}

// ScanList is what is known of inventories.
type ScanList struct {
	Scans []ScanStatus `json:"scans"`
}

// ScanStatus is what is known of how a mirror's inventory of a project came about.
type ScanStatus struct {
	// Mirror is empty for the origin.
	Mirror  string `json:"mirror,omitempty"`
	Project string `json:"project"`
	How     How    `json:"how"`
	// Running is true while it is scanned, for Reason.
	Running bool   `json:"running,omitempty"`
	Reason  string `json:"reason,omitempty"`
	// Good is when the last scan that succeeded ended, and Took how long it was; Files
	// is how many it found.
	Good  time.Time `json:"good,omitzero"`
	Took  Duration  `json:"took,omitempty"`
	Files int64     `json:"files"`
	// Failed is when the last scan failed, if none has succeeded since, Failures how
	// many have in a row, and Error why.
	Failed   time.Time `json:"failed,omitzero"`
	Failures int       `json:"failures,omitempty"`
	Error    string    `json:"error,omitempty"`
	// Cause is the one word of Error, the same as in the log and in the metrics:
	// unreachable, silent, refused, moved, bad_listing, shrunk, too_long, push, setup or
	// other.
	Cause string `json:"cause,omitempty"`
	// Remark is what the last scan that succeeded could not look at.
	Remark string `json:"remark,omitempty"`
	// Next is when it is scanned next.
	Next time.Time `json:"next,omitzero"`
	// Used is false while the inventory is none, or too old to be used.
	Used bool `json:"used"`
}

// Why explains the answer to a request.
type Why struct {
	// Path is that on the director, Project the project that it is in, empty if in none.
	Path    string    `json:"path"`
	Project string    `json:"project,omitempty"`
	Client  WhyClient `json:"client"`
	// File is what the origin has there; nil: nothing is known of it.
	File *WhyFile `json:"file,omitempty"`
	// Status and Location are those of the answer; Reason is one word.
	Status   int    `json:"status"`
	Location string `json:"location,omitempty"`
	Reason   string `json:"reason"`
	// Mirrors are all of the project's: those that could be chosen first, the best one
	// first, then the others by name.
	Mirrors []WhyMirror `json:"mirrors"`
}

// WhyClient is what is known of a client.
type WhyClient struct {
	Address   string  `json:"address"`
	Country   string  `json:"country,omitempty"`
	Continent string  `json:"continent,omitempty"`
	ASN       uint32  `json:"asn,omitempty"`
	Netblock  string  `json:"netblock,omitempty"`
	Latitude  float64 `json:"latitude,omitempty"`
	Longitude float64 `json:"longitude,omitempty"`
}

// WhyFile is a file at the origin.
type WhyFile struct {
	Size    int64     `json:"size"`
	ModTime time.Time `json:"modified,omitzero"`
	SHA256  string    `json:"sha256,omitempty"` // in hexadecimal digits
	// Mutable files are given out by mirrors only that hold all they name.
	Mutable bool `json:"mutable,omitempty"`
}

// WhyMirror is what speaks for or against a mirror.
type WhyMirror struct {
	Mirror string `json:"mirror"`
	// Site is where it is, Country the code of that, if it is known.
	Site    string `json:"site,omitempty"`
	Country string `json:"country,omitempty"`
	// URL is that of the file there.
	URL string `json:"url,omitempty"`
	// Tier is how near it counts: one word. Score is its share of such requests, from
	// 0 to 1, and Distance that to the client, in kilometres; -1: not known.
	Tier     string  `json:"tier,omitempty"`
	Score    float64 `json:"score,omitempty"`
	Distance float64 `json:"distance"`
	// Excluded is the one word why it was not a candidate, with Detail for people, and
	// since when that is so. Empty: it was one.
	Excluded string    `json:"excluded,omitempty"`
	Detail   string    `json:"detail,omitempty"`
	Since    time.Time `json:"since,omitzero"`
}

// Reports is what somebody saw of mirrors, or a mirror of itself.
type Reports struct {
	Reports []Report `json:"reports"`
}

// Report is one observation. It counts little alone: what it says is looked at.
type Report struct {
	Mirror string `json:"mirror"`
	// Path is that of a file on the director. Empty for a load.
	Path string `json:"path,omitempty"`
	// What is one word: "missing" (404, 410), "wrong" (another length or hash), "slow",
	// "error", "load".
	What string `json:"what"`
	// Rate is what came, in bytes per second, when it is slow.
	Rate int64 `json:"rate,omitempty"`
	// Load is how busy the mirror is, from 0 (idle) to 1.
	Load float64 `json:"load,omitempty"`
	// At is when; zero: now.
	At time.Time `json:"at,omitzero"`
}
