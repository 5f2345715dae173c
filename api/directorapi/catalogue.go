package directorapi

import (
	"net/netip"
	"time"
)

// Catalogue is all that operators say of mirrors: who they are, what they carry and
// whom they are for. What is found out about them (inventory, health) is not part of
// it. Lists are sorted by name, names are unique in their list.
type Catalogue struct {
	// ID names the database that the catalogue is kept in, Serial rises with every
	// change in there: serials of catalogues with different IDs do not compare. One
	// that is written by hand may have neither.
	ID     string `json:"id,omitempty"`
	Serial int64  `json:"serial"`
	// Changed is the time of the last change.
	Changed  time.Time `json:"changed"`
	Projects []Project `json:"projects"`
	Sites    []Site    `json:"sites"`
	Mirrors  []Mirror  `json:"mirrors"`
}

// Project is a tree of files that mirrors carry as a whole or in part.
type Project struct {
	// Name is what it is called in commands and manifests: a lower-case letter or
	// digit, then these and ".", "-" and "_"; 64 bytes at most.
	Name string `json:"name"`
	// Path is where clients find it on the director, "/fedora/": it begins and ends
	// with a slash. No project's path is within another's.
	Path string `json:"path"`
	// Origins are URLs of the whole tree, ending in a slash: the origin, or edges in
	// front of it, the one to use first first. What no mirror has is had there.
	Origins []string `json:"origins"`
	// Hub is the URL of the tree at the Freshet hub that publishes it, ending in a slash,
	// "https://hub.example/repo/": its event log tells at once of new versions. Empty: the
	// origin is looked at once a minute.
	Hub string `json:"hub,omitempty"`
	// Inventory says how it is found out what the origin has.
	Inventory Source `json:"inventory"`
	// Repositories are the folders of the tree that clients read through one
	// mutable file, their pointer.
	Repositories []Repository `json:"repositories,omitempty"`
	// Canary is a file of the tree that never changes and that every mirror has, by
	// which it is seen whether one works. Empty: payload that the inventory has.
	Canary string `json:"canary,omitempty"`
	// Disabled projects are answered as if they did not exist.
	Disabled bool `json:"disabled,omitempty"`
}

// Repository is a folder with metadata of packages or refs.
type Repository struct {
	// Path is the folder, relative to the project, "40/Everything/x86_64/os/"; ""
	// is the whole project, otherwise it ends with a slash.
	Path string `json:"path"`
	// Kind is its format.
	Kind Kind `json:"kind"`
	// Pointer is the mutable file through which it is read, relative to Path. Empty:
	// that of its kind. For deb, "dists/SUITE/InRelease"; for arch, "NAME.db".
	Pointer string `json:"pointer,omitempty"`
}

// Kind is the format of a repository.
type Kind string

// The formats.
const (
	KindRPM    Kind = "rpm"
	KindDeb    Kind = "deb"
	KindArch   Kind = "arch"
	KindAlpine Kind = "alpine"
	KindOSTree Kind = "ostree"
)

// Site is a place with mirrors, and who runs it.
type Site struct {
	Name         string `json:"name"`
	Organisation string `json:"organisation,omitempty"`
	URL          string `json:"url,omitempty"`     // of the organisation
	Contact      string `json:"contact,omitempty"` // never shown in public
	// Country is an ISO 3166-1 code of two upper-case letters.
	Country string `json:"country"`
	// Latitude and Longitude are in degrees, north and east. Both zero: unknown, and
	// the middle of the country is taken.
	Latitude  float64 `json:"latitude,omitempty"`
	Longitude float64 `json:"longitude,omitempty"`
	// ASN is the autonomous system that it is in; 0: unknown.
	ASN uint32 `json:"asn,omitempty"`
}

// Mirror is one server, or one name behind which are several with the same content.
type Mirror struct {
	Name string `json:"name"` // like that of a project
	Site string `json:"site"` // the name of a site
	// Disabled mirrors are given to nobody; Comment says why, or anything else.
	Disabled bool   `json:"disabled,omitempty"`
	Comment  string `json:"comment,omitempty"`
	// Capacity is how much it may be given, in Mbit/s. 0: 1000.
	Capacity int `json:"capacity,omitempty"`
	// Token is the SHA-256 of the token with which the mirror pushes manifests and
	// tells its load: "sha256:" and 64 hexadecimal digits. Empty: it does neither.
	Token string `json:"token,omitempty"`
	// Carries is what it has.
	Carries []Carried `json:"carries"`
	Rules   Rules     `json:"rules,omitzero"`
}

// Carried is a project on a mirror.
type Carried struct {
	Project string `json:"project"`
	// HTTP and HTTPS are URLs of the project's root there, ending in a slash. One may
	// be empty. RSYNC is where it can be listed ("rsync://host/module/path/").
	HTTP  string `json:"http,omitempty"`
	HTTPS string `json:"https,omitempty"`
	RSYNC string `json:"rsync,omitempty"`
	// Inventory says how it is found out what the mirror has.
	Inventory Source `json:"inventory"`
}

// Source is where an inventory comes from.
type Source struct {
	How How `json:"how"`
	// URL is what is read, if it is not what How reads anyway.
	URL string `json:"url,omitempty"`
	// Every is how often, at least a minute; 0: every 30 minutes, which a push or a
	// suspicion hastens.
	Every Duration `json:"every,omitempty"`
}

// How is a way to find out which files there are.
type How string

// The ways.
const (
	// HowManifest: the mirror pushes manifests of its generations; nothing is read.
	HowManifest How = "manifest"
	// HowRsync lists an rsync module.
	HowRsync How = "rsync"
	// HowHTTP walks through the listings of folders, and looks at files of which
	// they do not tell enough.
	HowHTTP How = "http"
	// HowFileList reads a fullfiletimelist, which lists a whole tree in one file.
	HowFileList How = "filelist"
	// HowFolder walks a local folder, of which URL is the path; for origins only.
	HowFolder How = "folder"
	// HowNone: nothing is known of single files.
	HowNone How = ""
)

// Rules say whom a mirror is for. The zero value is everybody.
type Rules struct {
	// Global mirrors are near everybody, such as a CDN. RegionShare is the largest
	// part of a continent's requests that one is given while others there could
	// answer, more than 0 and at most 1; 0: 1.
	Global      bool    `json:"global,omitempty"`
	RegionShare float64 `json:"region_share,omitempty"`
	// CountryOnly, ASNOnly and NetblocksOnly keep it to clients in its own country,
	// its own autonomous system, or in one of Netblocks; of several, all must hold. Clients
	// in one of Countries count as being in its country.
	CountryOnly   bool `json:"country_only,omitempty"`
	ASNOnly       bool `json:"asn_only,omitempty"`
	NetblocksOnly bool `json:"netblocks_only,omitempty"`
	// Netblocks are those that it is nearest to. Exclusive: clients there are given
	// no other mirror while this one can answer.
	Netblocks []netip.Prefix `json:"netblocks,omitempty"`
	Exclusive bool           `json:"exclusive,omitempty"`
	// Countries are others that it is for as if it were there. Not… are those that
	// it is never given to.
	Countries    []string       `json:"countries,omitempty"`
	NotCountries []string       `json:"not_countries,omitempty"`
	NotASNs      []uint32       `json:"not_asns,omitempty"`
	NotNetblocks []netip.Prefix `json:"not_netblocks,omitempty"`
	// NotPaths are patterns of paths on the director (see internal/glob) that it is
	// not used for.
	NotPaths []string `json:"not_paths,omitempty"`
	// MaxFileSize is the longest file that it is used for, in bytes; 0: any.
	MaxFileSize int64 `json:"max_file_size,omitempty"`
}

// Duration is a time.Duration that is text in JSON, "90s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}
