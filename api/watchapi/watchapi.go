// Package watchapi is what a watch understands: the batches in which nodes tell it what
// they have served and what they hold, and a client that delivers them.
//
// A batch is text, a JSON object on each line (docs/formats/telemetry-batch.md):
//
//	{"telemetry":1,"node":"box","role":"mirror","epoch":"…","first":7,"last":7,…}
//	{"c":"a","w":60,"t":1795294800,"l":["epel","x86_64","package","2xx","hit"],"n":3,"b":8123}
//	{"project":{"name":"epel","generation":"…",…}}
//	{"end":2}
//
// Counts are differences: a watch adds them up, in whatever order they come and however
// late. Each batch is counted once, since it is known by its node, epoch and numbers.
package watchapi

import (
	"fmt"
	"time"
)

// BatchesPath takes a batch by POST, compressed with zstd, and answers with an [Ack].
const BatchesPath = "/watch/v1/batches"

// MediaType is that of a batch.
const MediaType = "application/x-freshet-telemetry"

// Header fields of a request that delivers a batch.
const (
	// BatchHeader is the [ID] of the batch.
	BatchHeader = "Freshet-Batch"
	// SentHeader is the clock of the sender when it sent the batch, in milliseconds since
	// 1970.
	SentHeader = "Freshet-Sent"
)

// Version is that of the format.
const Version = 1

// ID says which batch it is. The batches of one node and epoch are numbered from 1 without
// gaps. One that was merged from several covers the numbers from First to Last; of any
// other, both are the same.
type ID struct {
	// Node is the name of the node, 1 to 128 printable ASCII characters without spaces and
	// slashes.
	Node string `json:"node"`
	// Epoch is another one after each start of the node: 1 to 64 letters and digits.
	Epoch string `json:"epoch"`
	First int64  `json:"first"`
	Last  int64  `json:"last"`
}

func (id ID) String() string {
	return fmt.Sprintf("%s/%s/%d-%d", id.Node, id.Epoch, id.First, id.Last)
}

// Head is the first line of a batch.
type Head struct {
	Telemetry int `json:"telemetry"` // [Version]
	ID
	// Role is that of the node: "mirror".
	Role string `json:"role"`
	// Begun and Ended are between which times the batch was collected, in milliseconds
	// since 1970 by the clock of the node.
	Begun int64 `json:"begun"`
	Ended int64 `json:"ended"`
}

// Line is any other line of a batch: one of its fields is set.
type Line struct {
	*Count
	Project *Project `json:"project,omitempty"`
	Disk    *Disk    `json:"disk,omitempty"`
	Dropped *Dropped `json:"dropped,omitempty"`
	// End ends the batch: the number of lines between the first and this one. Without it
	// the batch was cut.
	End *int `json:"end,omitempty"`
}

// Count is what is to be added to a cell of a cube.
type Count struct {
	// Cube is one of [Cubes]. A watch keeps those too that it does not know.
	Cube string `json:"c"`
	// Width is how long the window is, in seconds: 60, 3600 or 86400; At is when it
	// begins, in seconds since 1970, a multiple of Width.
	Width int64 `json:"w"`
	At    int64 `json:"t"`
	// Labels are the values of the cube's dimensions, in their order.
	Labels []string `json:"l"`
	// Requests is how many have ended, Bytes how many bytes of bodies went out: those of a
	// long transfer are counted as they go, before its request is.
	Requests int64 `json:"n,omitempty"`
	Bytes    int64 `json:"b,omitempty"`
	// Times counts how long something took, by bucket: see [Bucket].
	Times []Bucket `json:"h,omitempty"`
}

// Bucket is an index and a count. The bucket of index i has durations above 2^((i-1)/8) up
// to 2^(i/8) seconds, as those of schema 3 of Prometheus's native histograms.
type Bucket [2]int64

// Cubes with their dimensions. Each finished transfer counts once in each of those that
// apply to it.
const (
	// CubeClasses is by minutes: project, arch, class, status, cache.
	CubeClasses = "a"
	// CubeReleases is by hours: project, release, repo, arch, class, status, cache.
	CubeReleases = "r"
	// CubeProtocols is by minutes: project, family, proto, tls.
	CubeProtocols = "b"
	// CubeAgents is by minutes: project, agent.
	CubeAgents = "c"
	// CubeCountries is by hours: project, country.
	CubeCountries = "d"
	// CubeNetworks is by hours: project, autonomous system.
	CubeNetworks = "e"
	// CubeFailures is by minutes: project, reason, status.
	CubeFailures = "f"
	// CubeLatencies is by minutes: project, class, cache; it has Times, those until the first
	// byte of an answer.
	CubeLatencies = "g"
	// CubeHot is by hours: project, path: the first 16 hexadecimal digits of the SHA-256 of
	// the path of the file, "PROJECT/PATH"; "rest" for those that few ask for.
	CubeHot = "hot"
)

// Cubes are the dimensions of each cube.
func Cubes() map[string][]string {
	return map[string][]string{
		CubeClasses:   {"project", "arch", "class", "status", "cache"},
		CubeReleases:  {"project", "release", "repo", "arch", "class", "status", "cache"},
		CubeProtocols: {"project", "family", "proto", "tls"},
		CubeAgents:    {"project", "agent"},
		CubeCountries: {"project", "country"},
		CubeNetworks:  {"project", "asn"},
		CubeFailures:  {"project", "reason", "status"},
		CubeLatencies: {"project", "class", "cache"},
		CubeHot:       {"project", "path"},
	}
}

// Other stands for a label whose value is not in its dictionary.
const Other = "other"

// Project is what a node holds of a project, at a time. A later one takes its place.
type Project struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
	// Generation is the one that is served, since Published; empty: nothing yet.
	Generation string    `json:"generation,omitempty"`
	Published  time.Time `json:"published,omitzero"`
	Files      int64     `json:"files,omitempty"`
	Bytes      int64     `json:"bytes,omitempty"`
	// Checked is when it was last found to be the newest.
	Checked time.Time `json:"checked,omitzero"`
	// Result and Reason are those of the last sync, in the words of the mirror; Failures
	// is how many in a row have not ended well.
	Result   string `json:"result,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Failures int    `json:"failures,omitempty"`
}

// Disk is how full the file system of a node is, at a time. A later one takes its place.
type Disk struct {
	At         time.Time `json:"at"`
	Size       int64     `json:"size"`
	Free       int64     `json:"free"`
	Inodes     int64     `json:"inodes,omitempty"` // 0: as many as it needs
	InodesFree int64     `json:"inodes_free,omitempty"`
}

// Dropped is what a node did not deliver, and why.
type Dropped struct {
	// Reason is one word: "spool_full", "too_old", "refused" (by the watch), "disk" (which
	// took none).
	Reason string `json:"reason"`
	// Batches is how many numbers of batches that are, Requests and Bytes what they counted.
	Batches  int64 `json:"batches"`
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"`
}

// Ack says that a batch need not be sent again.
type Ack struct {
	// Batch is the [ID] of the batch, as text. An answer without it is none of a watch.
	Batch string `json:"batch"`
	// Known says that it was there already, and was not counted again.
	Known bool `json:"known,omitempty"`
	// Gap says that batches before it are missing. They may still come.
	Gap bool `json:"gap,omitempty"`
}

// Reasons why a watch does not take a batch.
const (
	ReasonUnauthorized = "unauthorized" // no token, or one that is not good
	ReasonForbidden    = "forbidden"    // the token is that of another node
	ReasonMalformed    = "malformed"    // it is no batch
	ReasonTooLarge     = "too_large"    // it is larger than a batch may be
	ReasonVersion      = "version"      // it is of a version that the watch does not know
	ReasonFuture       = "future"       // it counts what is to come: a clock is wrong
	ReasonOverlap      = "overlap"      // a part of what it covers was counted already
	ReasonInternal     = "internal"     // the watch cannot keep it now
)

// Error is an answer that is no success. It is an error.
type Error struct {
	Status  int    `json:"-"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// After is how long the watch wants to be left alone; 0: it does not say.
	After time.Duration `json:"-"`
}

func (e *Error) Error() string {
	return fmt.Sprintf("watch: %s (%d %s)", e.Message, e.Status, e.Reason)
}

// Final reports whether the batch is refused for good: sending it again is of no use. That
// is so only if a watch has said why, in its own words; any proxy may answer 400.
func (e *Error) Final() bool {
	switch e.Reason {
	case ReasonMalformed, ReasonTooLarge, ReasonVersion, ReasonFuture, ReasonOverlap:
		return e.Status >= 400 && e.Status < 500
	}
	return false
}
