package project

import (
	"cmp"
	"slices"
	"time"

	"freshet/internal/config"
	"freshet/internal/mirror/kind"
)

// Config is a table [mirror.projects.NAME]. The name is the project's folder below the
// mirror's URL, too. A project that is in the presets needs no more than
//
//	[mirror.projects.epel]
//	preset = "epel"
//
// Whatever stands in the table goes before what the preset says.
type Config struct {
	// Preset is the name of a known project, which says what is not said here;
	// "freshet mirror presets" lists them. Default: none.
	Preset string `toml:"preset"`

	// Kind says what the project consists of, and by that what is checked before it is
	// served: "rpm", "deb", "arch", "alpine" or "ostree" repositories; "images": large
	// files with lists of their checksums; "plain": any files. Required without preset.
	Kind string `toml:"kind"`

	// Upstreams are the URLs of the project's root, the best first: rsync://, https://
	// or http://. Another is asked when one does not answer, is slow or lacks
	// something. Of a Freshet hub, "hub+https://HOST/repo/NAME/" or
	// "hub+https://HOST/tree/NAME/", and of another Freshet mirror,
	// "mirror+https://HOST/PROJECT/", the mirror is told at once of what is new. Required
	// without preset.
	Upstreams []string `toml:"upstreams"`

	// TokenFile is a file with the token that hubs among the upstreams want to see before
	// they give a private repository. It is read each time, and goes to these hubs
	// alone. What the mirror has of the project, everybody may read. Default: none.
	TokenFile string `toml:"token-file"`

	// Spread is the time within which a sync begins when a hub or mirror among the upstreams
	// tells of something new, at a moment of this mirror's own, so that they are not asked
	// by all at once. Default "1s".
	Spread time.Duration `toml:"spread"`

	// Siblings are the URLs of mirrors nearby that may have the same files, asked for each
	// by its SHA-256 before upstreams are ("https://other.example"). What they send is
	// checked. The url of this mirror is left out, so that a whole fleet may have one list.
	// Default: none.
	Siblings []string `toml:"siblings"`

	// Repositories are patterns of the folders of repositories, below the project's root:
	// {release}, {arch} and {component} stand for each of the next three lists, "*" for
	// any characters. For "arch" a pattern names the database:
	// "{component}/os/{arch}/{component}.db". Default: those of the preset, or all that a
	// listing of the upstream shows.
	Repositories []string `toml:"repositories"`

	// Releases are those that are wanted: "10", "bookworm". Default: all.
	Releases []string `toml:"releases"`

	// Architectures are those that are wanted, in the words of any distribution: "x86_64"
	// is "amd64". What is for all of them is always there. Default: all.
	Architectures []string `toml:"architectures"`

	// Components are those that are wanted, of "deb", "arch" and "alpine": "main",
	// "extra". Default: all.
	Components []string `toml:"components"`

	// With is what is wanted besides binary packages and their indexes: "source",
	// "debug", "iso" (images of disks and installers). Default: those of the preset, or
	// none.
	With []string `toml:"with"`

	// Refs are patterns of the refs of an OSTree repository that are wanted
	// ("app/*/x86_64/stable"). Default: all.
	Refs []string `toml:"refs"`

	// HotSet mirrors of an OSTree repository its pointers and indexes always, and of the
	// rest what is asked for most, up to this size. Default "0B": all of it.
	HotSet config.Size `toml:"hot-set"`

	// Through is the URL of the project's root at a cache that has all of it, such as an
	// edge: what a hot set does not hold is had from there for the client that asks, and
	// not kept. Default: none, and such a file is not found.
	Through string `toml:"through"`

	// Include are patterns of paths, in which "*" stands for any characters, slashes too.
	// Of "images" and "plain" only these are wanted; of the others they name what is
	// wanted beside the repositories. Default: those of the preset; else all, or nothing
	// beside them.
	Include []string `toml:"include"`

	// Exclude are patterns of paths that are never wanted, except for what an index cannot
	// be read without. What packages are left out is better said by the lists above.
	// Default: those of the preset, or none.
	Exclude []string `toml:"exclude"`

	// Probe are files that change whenever something in the project does, besides those in
	// which clients begin ("fullfiletimelist-epel"). Default: those of the preset.
	Probe []string `toml:"probe"`

	// Stamps are files that the upstream writes anew again and again with the time
	// ("lastsync"): that they differ says nothing. Default: those of the preset.
	Stamps []string `toml:"stamps"`

	// Keys are files with the public keys that sign the project: OpenPGP, or those of
	// Alpine with their names. With keys, what none of them signed is not served.
	// Default: none, and it is only looked whether a signature is one of its file.
	Keys []string `toml:"keys"`

	// Schedule says when it is looked for something new: "every 1h", "daily at 02:00",
	// "weekly on sun at 02:00" (UTC) or "never", which leaves it to triggers and orders.
	// Default "every 6h".
	Schedule string `toml:"schedule"`

	// Jitter spreads the looks of many mirrors: each of them has a time of its own within
	// this time. Default: the whole time between two looks, if they are at most an hour
	// apart, else "1h".
	Jitter time.Duration `toml:"jitter"`

	// Timeout bounds one sync. What was fetched stays for the next. Default "24h".
	Timeout time.Duration `toml:"timeout"`

	// Limit bounds what is received for the project, besides the limit for all.
	// Default "0bit/s": no bound of its own.
	Limit config.Rate `toml:"limit"`

	// Priority says which of several projects is synced first, and gets more of the
	// bandwidth: from 1 to 9. Default 5.
	Priority int `toml:"priority"`

	// Grace is how long files that the newest version has not any more are served, for
	// clients that have read the index before. Default "48h".
	Grace time.Duration `toml:"grace"`

	// Drain lets the mirror take the whole project off the disk when that is full and
	// nothing else helps, those with the lowest priority first. Clients are sent elsewhere by
	// directors, and "freshet mirror sync" has it back. Default false.
	Drain bool `toml:"drain"`

	// MaxShrink is how many percent of its files or bytes a project may lose at once
	// without an operator's word; 100: all. Default 40.
	MaxShrink int `toml:"max-shrink"`

	// Triggers are the public keys of those who may tell that there is something new, as
	// "freshet mirror trigger-key" prints them: "NAME ed25519:…". Default: none.
	Triggers []string `toml:"triggers"`

	// Downstream are the URLs of mirrors that are told by a trigger when there is something
	// new here, signed with trigger-key of [mirror]: "https://HOST". The project has the same
	// name there. Default: none.
	Downstream []string `toml:"downstream"`

	// Directors are the names of those of [mirror.directors] that are told what the mirror
	// has of the project. Default: all.
	Directors []string `toml:"directors"`
}

// Words of [Config.With].
const (
	WithSource = "source"
	WithDebug  = "debug"
	WithISO    = "iso"
)

// Defaults of Config.
const (
	DefaultSchedule  = "every 6h"
	DefaultTimeout   = 24 * time.Hour
	DefaultPriority  = 5
	DefaultGrace     = 48 * time.Hour
	DefaultMaxShrink = 40
	DefaultSpread    = time.Second
)

// WithDefaults returns c with every setting left zero replaced by its default, apart from
// those that a preset may have.
func (c Config) WithDefaults() Config {
	c.Schedule = cmp.Or(c.Schedule, DefaultSchedule)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.Priority = cmp.Or(c.Priority, DefaultPriority)
	c.Grace = cmp.Or(c.Grace, DefaultGrace)
	c.MaxShrink = cmp.Or(c.MaxShrink, DefaultMaxShrink)
	c.Spread = cmp.Or(c.Spread, DefaultSpread)
	return c
}

// Partial reports whether c does not say what the project is: it has settings of a project
// that somebody else describes.
func (c Config) Partial() bool { return c.Preset == "" && c.Kind == "" && c.Upstreams == nil }

// Over returns c with every setting that it leaves out taken from preset. An empty list
// is no setting that is left out: it stands for none.
func (c Config) Over(preset Config) Config {
	c.Preset = cmp.Or(c.Preset, preset.Preset)
	c.Through = cmp.Or(c.Through, preset.Through)
	c.Kind = cmp.Or(c.Kind, preset.Kind)
	c.Schedule = cmp.Or(c.Schedule, preset.Schedule)
	c.HotSet = cmp.Or(c.HotSet, preset.HotSet)
	c.Jitter = cmp.Or(c.Jitter, preset.Jitter)
	c.Timeout = cmp.Or(c.Timeout, preset.Timeout)
	c.Limit = cmp.Or(c.Limit, preset.Limit)
	c.Priority = cmp.Or(c.Priority, preset.Priority)
	c.Grace = cmp.Or(c.Grace, preset.Grace)
	c.MaxShrink = cmp.Or(c.MaxShrink, preset.MaxShrink)
	c.TokenFile = cmp.Or(c.TokenFile, preset.TokenFile)
	c.Spread = cmp.Or(c.Spread, preset.Spread)
	for _, list := range []struct{ own, from *[]string }{
		{&c.Upstreams, &preset.Upstreams},
		{&c.Siblings, &preset.Siblings},
		{&c.Repositories, &preset.Repositories},
		{&c.Releases, &preset.Releases},
		{&c.Architectures, &preset.Architectures},
		{&c.Components, &preset.Components},
		{&c.With, &preset.With},
		{&c.Refs, &preset.Refs},
		{&c.Include, &preset.Include},
		{&c.Exclude, &preset.Exclude},
		{&c.Probe, &preset.Probe},
		{&c.Stamps, &preset.Stamps},
		{&c.Keys, &preset.Keys},
		{&c.Triggers, &preset.Triggers},
		{&c.Downstream, &preset.Downstream},
		{&c.Directors, &preset.Directors},
	} {
		if *list.own == nil {
			*list.own = slices.Clone(*list.from)
		}
	}
	return c
}

// Meaning is what the settings say of which files the project consists of; keys are those
// of Keys.
func (c Config) Meaning(keys kind.Keys) kind.Config {
	return kind.Config{
		Format: kind.Format(c.Kind), Repositories: c.Repositories,
		Releases: c.Releases, Architectures: c.Architectures, Components: c.Components,
		Debug: slices.Contains(c.With, WithDebug), Source: slices.Contains(c.With, WithSource), ISO: slices.Contains(c.With, WithISO),
		Include: c.Include, Exclude: c.Exclude, Refs: c.Refs, HotSet: int64(c.HotSet),
		Keys: keys, Probe: c.Probe, Stamps: c.Stamps,
	}
}
