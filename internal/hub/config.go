package hub

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"freshet/internal/config"
)

// Config is the table [hub]. With only Dir set, the hub has the repository
// "stable", and makes its keys at the first start.
type Config struct {
	// Dir is the directory in which the hub keeps everything: repositories,
	// builds, trees, control state and, unless other files are named, its
	// keys. It must lie on one local file system. Required.
	Dir string `toml:"dir"`

	// Listen is the address of the public API and of the repositories.
	// Default ":8080".
	Listen string `toml:"listen"`

	// BaseURL is the URL under which clients reach the hub, without a slash at
	// the end ("https://hub.example.org"). Locations in answers begin with it.
	// Default: "http://" and the listener's address, which only suits tests and
	// machines that talk to themselves.
	BaseURL string `toml:"base-url"`

	// PublicURL is the URL under which clients download what the hub serves,
	// usually that of the edge in front of it, without a slash at the end
	// ("https://dl.example.org"). It is written into .flatpakrepo and .flatpakref
	// files, so it decides where clients go. Default: base-url.
	PublicURL string `toml:"public-url"`

	// Database is where the control state lives: empty for the file hub.db in
	// Dir, or a DSN "postgres://…".
	Database string `toml:"database"`

	// Shared lets several hubs share Dir and Database.
	Shared SharedConfig `toml:"shared"`

	// Storage is a bucket in which the OSTree repositories are published. Builds, plain
	// trees and a working copy of the repositories are in Dir in any case.
	Storage StorageConfig `toml:"storage"`

	// SecretFile holds the key, in base64, by which tokens are signed (HS256).
	// Whoever reads it can make any token. Default: "secret" in Dir, made at the
	// first start. A file that is named here must be there
	// (head -c 32 /dev/urandom | base64).
	SecretFile string `toml:"secret-file"`

	// RepoSecretFile holds the key, in base64, by which the tokens are signed that
	// users download with, see require-auth-for-token-types. Default: that of
	// secret-file.
	RepoSecretFile string `toml:"repo-secret-file"`

	// TokenPrefix stands before each token the hub issues, so that secret
	// scanners find leaked ones ("fmgr_"). Tokens without it are accepted as
	// well. Default: none.
	TokenPrefix string `toml:"token-prefix"`

	// GPGKeys are the OpenPGP keys that sign commits and summaries, for
	// repositories that name no others: each a table of keys, or a file with
	// the secret key. Several keys give several signatures. Default:
	// "signing-key.asc" in Dir, made at the first start.
	GPGKeys []string `toml:"gpg-keys"`

	// Ed25519Keys are files with secret keys of ostree's own signatures, in addition
	// to gpg-keys and for clients that are neither flatpak nor old: ostree with
	// sign-verify=ed25519. "freshet hub keys new --ed25519" makes one.
	Ed25519Keys []string `toml:"ed25519-keys"`

	// BuildGPGKeys are the OpenPGP keys, named like GPGKeys, that sign builds that
	// were not published yet, so that testers can install them. They should not
	// be those of GPGKeys: what those sign counts as published. Default: builds
	// are not signed.
	BuildGPGKeys []string `toml:"build-gpg-keys"`

	// Keys are OpenPGP keys of which more is to be said than a file name, by the
	// names that gpg-keys and build-gpg-keys use: keys in gpg-agent, on cards
	// and in PKCS #11 tokens.
	Keys map[string]KeyConfig `toml:"keys"`

	// BuildRetention is how long after its creation an unpublished build is
	// kept before it is purged. Default "30d".
	BuildRetention time.Duration `toml:"build-retention"`

	// CommitWorkers is how many builds are committed at the same time.
	// Default 2.
	CommitWorkers int `toml:"commit-workers"`

	// CheckWorkers is how many checks are run at the same time. Default 2.
	CheckWorkers int `toml:"check-workers"`

	// DeltaWorkers is how many static deltas the hub makes at the same time, each of
	// which takes up to two processors; -1 is none: then "freshet hub delta-worker"
	// makes them, on other machines. Default 1.
	DeltaWorkers int `toml:"delta-workers"`

	// Console is where people see what the hub does.
	Console ConsoleConfig `toml:"console"`

	// TrustedPublishers say whose ID tokens are exchanged for a token of the hub, by
	// names of your choice: so that the CI of a project needs no secret. Default: none.
	TrustedPublishers map[string]TrustedPublisher `toml:"trusted-publishers"`

	// Limits bound what a request may bring.
	Limits Limits `toml:"limits"`

	// Repos are the OSTree repositories, by name. Names are lower-case letters,
	// digits, ".", "_" and "-". Default: one repository "stable".
	Repos map[string]RepoConfig `toml:"repos"`

	// Trees are settings of plain trees, by name. A tree that is not listed has
	// the default settings; it comes to be with its first push.
	Trees map[string]TreeConfig `toml:"trees"`
}

// Limits is the table [hub.limits]. A request over a limit is answered 413.
type Limits struct {
	// UploadBody is the most one upload request may have. Default "4GiB".
	UploadBody config.Size `toml:"upload-body"`

	// Object is the most one file in an upload may have. Default "4GiB".
	Object config.Size `toml:"object"`

	// JSONBody is the most the list of objects in a missing_objects request may
	// have and, times 32, the list of files in a tree push, after decompression.
	// Other JSON bodies may have 2 MiB. Default "10MiB".
	JSONBody config.Size `toml:"json-body"`
}

// RepoConfig is a table [hub.repos.NAME], an OSTree repository.
type RepoConfig struct {
	// Title is what users see as the repository's name. Default: its name.
	Title string `toml:"title"`

	// Comment is one line about the repository.
	Comment string `toml:"comment"`

	// Description is a paragraph about the repository.
	Description string `toml:"description"`

	// Homepage is the URL of a page about the repository.
	Homepage string `toml:"homepage"`

	// Icon is the URL of an icon of the repository.
	Icon string `toml:"icon"`

	// CollectionID makes the repository a collection ("org.example.Stable"), so
	// that commits are bound to it. Cannot be changed once clients use it.
	CollectionID string `toml:"collection-id"`

	// DeployCollectionID tells clients to set the collection id on their
	// remote. Needs collection-id.
	DeployCollectionID bool `toml:"deploy-collection-id"`

	// BaseURL is the URL under which clients reach the repository, usually at
	// the edge, ending in a slash. It is written into .flatpakrepo and
	// .flatpakref files. Default: the hub's public-url and "/repo/NAME/".
	BaseURL string `toml:"base-url"`

	// SuggestedName is the name clients give the remote. Default: the
	// repository's name.
	SuggestedName string `toml:"suggested-name"`

	// DefaultBranch is the branch clients prefer, "stable" for instance.
	DefaultBranch string `toml:"default-branch"`

	// RedirectURL tells clients that the repository has moved there.
	RedirectURL string `toml:"redirect-url"`

	// RuntimeRepoURL is the .flatpakrepo of the repository that has the
	// runtimes of this one's applications. Default: this one's own.
	RuntimeRepoURL string `toml:"runtime-repo-url"`

	// Subsets are the names of the subsets for which appstream and summaries
	// are made besides those of the whole repository ("verified", "floss").
	// Subsets that a build names itself are dropped unless they are listed here.
	Subsets []string `toml:"subsets"`

	// SummaryArches limits the compatibility summary, which old clients cannot
	// read when it exceeds 10 MiB, to these architectures. Default: all.
	SummaryArches []string `toml:"summary-arches"`

	// AppstreamCheckout puts the files of the catalogue of each architecture into
	// the repository's appstream/ARCH: appstream.xml.gz and icons/SIZE/ID.png,
	// where web sites look for them. It costs a file for each icon. Default: false.
	AppstreamCheckout bool `toml:"appstream-checkout"`

	// GPGKeys are the keys of this repository, named like those of the hub.
	// Default: the hub's.
	GPGKeys []string `toml:"gpg-keys"`

	// Ed25519Keys are files as those of the hub. Default: the hub's.
	Ed25519Keys []string `toml:"ed25519-keys"`

	// RequireAuthForTokenTypes are the token types (xa.token-type) of commits that
	// are given only to those who show a token for one of their ids. Who may have
	// which token is the affair of the repository's authenticator. Default: none.
	RequireAuthForTokenTypes []int32 `toml:"require-auth-for-token-types"`

	// DefaultTokenType is the token type of applications and runtimes that name
	// none. Branches of the catalogue need no token. Default 0.
	DefaultTokenType int32 `toml:"default-token-type"`

	// AuthenticatorName is the D-Bus name of the program that gets users their
	// tokens ("org.flathub.Authenticator"); clients learn it from the summary.
	AuthenticatorName string `toml:"authenticator-name"`

	// AuthenticatorOptions are what the authenticator is told: for that of Flathub
	// the key "url".
	AuthenticatorOptions map[string]string `toml:"authenticator-options"`

	// Hooks are commands that check builds, edit them and tell of publishes.
	Hooks HooksConfig `toml:"hooks"`

	// Deltas are the static deltas that the hub makes.
	Deltas DeltasConfig `toml:"deltas"`

	// Prune is what a prune of the repository keeps.
	Prune PruneConfig `toml:"prune"`

	// ScrubRate is how many bytes a second the hub reads to find damaged objects
	// before clients do ("4MiB"); an object counts 16 KiB besides its length.
	// Default 0: it does not look.
	ScrubRate config.Size `toml:"scrub-rate"`

	// RepairFrom is the URL of another copy of the repository, a mirror or an edge,
	// from which objects that were found damaged are repaired. Default: none.
	RepairFrom string `toml:"repair-from"`
}

// TreeConfig is a table [hub.trees.NAME], a plain tree.
type TreeConfig struct {
	// Grace is how long an old generation stays readable after a newer one
	// took its place. Default "24h".
	Grace time.Duration `toml:"grace"`

	// Keys are files with the public keys of those who sign the tree's metadata.
	// With one or more, every publish whose metadata are not signed by one of
	// them is refused: repomd.xml, Release, pacman databases or packages,
	// APKINDEX.tar.gz. OpenPGP keys (rpm, apt, pacman) as gpg --export writes
	// them, armored or not; RSA keys (apk) in PEM, under the file name that
	// signatures name. Default: signatures are not checked.
	Keys []string `toml:"keys"`
}

// Defaults of Config.
const (
	defaultListen         = ":8080"
	defaultBuildRetention = 30 * 24 * time.Hour
	defaultCommitWorkers  = 2
	defaultCheckWorkers   = 2
	defaultDeltaWorkers   = 1
	defaultUploadBody     = 4 << 30
	defaultObject         = 4 << 30
	defaultJSONBody       = 10 << 20
	defaultGrace          = 24 * time.Hour
	defaultRepo           = "stable"
)

// WithDefaults returns c with every setting left zero replaced by its default,
// except BaseURL, which is known when the hub listens, and files in Dir when
// there is none. It does not change what c's maps hold.
func (c Config) WithDefaults() Config {
	c.Listen = cmp.Or(c.Listen, defaultListen)
	if c.SecretFile == "" && c.Dir != "" {
		c.SecretFile = filepath.Join(c.Dir, "secret")
	}
	c.BuildRetention = cmp.Or(c.BuildRetention, defaultBuildRetention)
	c.CommitWorkers = cmp.Or(c.CommitWorkers, defaultCommitWorkers)
	c.CheckWorkers = cmp.Or(c.CheckWorkers, defaultCheckWorkers)
	c.DeltaWorkers = cmp.Or(c.DeltaWorkers, defaultDeltaWorkers)
	c.Limits.UploadBody = cmp.Or(c.Limits.UploadBody, defaultUploadBody)
	c.Limits.Object = cmp.Or(c.Limits.Object, defaultObject)
	c.Limits.JSONBody = cmp.Or(c.Limits.JSONBody, defaultJSONBody)
	repos := make(map[string]RepoConfig, len(c.Repos))
	if len(c.Repos) == 0 {
		repos[defaultRepo] = RepoConfig{}
	}
	maps.Copy(repos, c.Repos)
	for name, repo := range repos {
		repo.Title = cmp.Or(repo.Title, name)
		repo.SuggestedName = cmp.Or(repo.SuggestedName, name)
		repos[name] = repo
	}
	c.Repos = repos
	return c
}

// WithDefaults returns c with every setting left zero replaced by its default.
func (c TreeConfig) WithDefaults() TreeConfig {
	c.Grace = cmp.Or(c.Grace, defaultGrace)
	return c
}

// RepoDir returns the folder of a repository of this name.
func (c Config) RepoDir(name string) string { return filepath.Join(c.Dir, reposFolder, name) }

// grace is how long old generations of a tree stay readable.
func (c Config) grace(tree string) time.Duration {
	return c.Trees[tree].WithDefaults().Grace
}

var (
	// namePattern is the form of the names of repositories and trees. It can
	// stand in a URL and a file name as it is, and is never "." or "..".
	namePattern       = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	subsetPattern     = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)
	archPattern       = regexp.MustCompile(`^[A-Za-z0-9_]{1,32}$`)
	collectionPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+$`)
)

// Validate returns every problem of the table; see [config.Validator].
func (c Config) Validate() []config.Problem {
	var v validation
	if c.Dir == "" {
		v.problems = append(v.problems, config.Missing("dir", "the folder in which the hub keeps everything"))
	}
	if c.Listen != "" {
		if err := config.CheckAddress(c.Listen); err != nil {
			v.problem("listen", "%v", err)
		}
	}
	v.url("base-url", c.BaseURL)
	v.url("public-url", c.PublicURL)
	if c.Database != "" {
		if u, err := url.Parse(c.Database); err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
			v.problem("database", `must be empty (SQLite in dir) or a DSN "postgres://…"`)
		}
	}
	v.shared(c)
	v.storage(c.Storage)
	v.files("gpg-keys", c.GPGKeys)
	v.files("build-gpg-keys", c.BuildGPGKeys)
	v.files("ed25519-keys", c.Ed25519Keys)
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		v.key(name, c.Keys[name])
	}
	v.notNegative("build-retention", int64(c.BuildRetention))
	v.notNegative("commit-workers", int64(c.CommitWorkers))
	v.notNegative("check-workers", int64(c.CheckWorkers))
	if c.DeltaWorkers < -1 {
		v.problem("delta-workers", "must be -1 (none) or more")
	}
	v.notNegative("limits.upload-body", int64(c.Limits.UploadBody))
	v.notNegative("limits.object", int64(c.Limits.Object))
	v.notNegative("limits.json-body", int64(c.Limits.JSONBody))
	for _, name := range slices.Sorted(maps.Keys(c.Repos)) {
		v.repo(name, c.Repos[name])
	}
	v.publishers(c)
	v.seen(c)
	for _, name := range slices.Sorted(maps.Keys(c.Trees)) {
		key := "trees." + name
		v.name(key, name)
		v.notNegative(key+".grace", int64(c.Trees[name].Grace))
		v.files(key+".keys", c.Trees[name].Keys)
	}
	return v.problems
}

// CheckFiles reports key files that are named and cannot be read; see
// [config.FileChecker]. Those that the hub makes itself need not be there.
func (c Config) CheckFiles() []config.Problem {
	var v validation
	if c.SecretFile != "" && filepath.Clean(c.SecretFile) != filepath.Join(c.Dir, "secret") {
		v.readable("secret-file", c.SecretFile)
	}
	if c.RepoSecretFile != "" {
		v.readable("repo-secret-file", c.RepoSecretFile)
	}
	v.readable("storage.credentials-file", c.Storage.CredentialsFile)
	v.keysReadable(c)
	v.allReadable("ed25519-keys", c.Ed25519Keys)
	v.entriesReadable("gpg-keys", c.GPGKeys, c)
	v.entriesReadable("build-gpg-keys", c.BuildGPGKeys, c)
	for _, name := range slices.Sorted(maps.Keys(c.Repos)) {
		v.entriesReadable("repos."+name+".gpg-keys", c.Repos[name].GPGKeys, c)
		v.allReadable("repos."+name+".ed25519-keys", c.Repos[name].Ed25519Keys)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Trees)) {
		v.treeKeys("trees."+name+".keys", c.Trees[name].Keys)
	}
	return v.problems
}

// validation collects problems.
type validation struct{ problems []config.Problem }

func (v *validation) problem(key, format string, args ...any) {
	v.problems = append(v.problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
}

func (v *validation) repo(name string, repo RepoConfig) {
	key := "repos." + name
	v.name(key, name)
	if repo.CollectionID != "" && (len(repo.CollectionID) > 255 || !collectionPattern.MatchString(repo.CollectionID)) {
		v.problem(key+".collection-id", `%q is no collection id: want a reversed domain name like "org.example.Stable"`, repo.CollectionID)
	}
	if repo.DeployCollectionID && repo.CollectionID == "" {
		v.problem(key+".deploy-collection-id", "needs a collection-id")
	}
	v.url(key+".homepage", repo.Homepage)
	v.url(key+".icon", repo.Icon)
	v.url(key+".base-url", repo.BaseURL)
	v.url(key+".redirect-url", repo.RedirectURL)
	v.url(key+".runtime-repo-url", repo.RuntimeRepoURL)
	v.matches(key+".subsets", repo.Subsets, subsetPattern)
	v.matches(key+".summary-arches", repo.SummaryArches, archPattern)
	v.files(key+".gpg-keys", repo.GPGKeys)
	v.files(key+".ed25519-keys", repo.Ed25519Keys)
	v.hooks(key+".hooks", repo.Hooks)
	if repo.AuthenticatorName != "" && !collectionPattern.MatchString(repo.AuthenticatorName) {
		v.problem(key+".authenticator-name", `%q is no D-Bus name: want a reversed domain name like "org.example.Authenticator"`, repo.AuthenticatorName)
	}
	for _, option := range slices.Sorted(maps.Keys(repo.AuthenticatorOptions)) {
		if !checkPattern.MatchString(option) {
			v.problem(key+".authenticator-options."+option, "%q is no name of an option", option)
		}
	}
	v.deltas(key+".deltas", repo.Deltas)
	v.prune(key+".prune", repo.Prune)
	v.notNegative(key+".scrub-rate", int64(repo.ScrubRate))
	v.url(key+".repair-from", repo.RepairFrom)
}

func (v *validation) name(key, name string) {
	if !namePattern.MatchString(name) {
		v.problem(key, `%q is no name: want up to 64 of a-z, 0-9, ".", "_" and "-", beginning with a letter or digit`, name)
	}
}

func (v *validation) url(key, s string) {
	if s == "" {
		return
	}
	if u, err := url.Parse(s); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		v.problem(key, "%q is no URL: want http:// or https:// and a host", s)
	}
}

func (v *validation) notNegative(key string, n int64) {
	if n < 0 {
		v.problem(key, "must not be negative")
	}
}

func (v *validation) matches(key string, list []string, pattern *regexp.Regexp) {
	for i, s := range list {
		if !pattern.MatchString(s) {
			v.problem(fmt.Sprintf("%s[%d]", key, i), "%q is not of the form %s", s, pattern)
		}
	}
}

func (v *validation) files(key string, list []string) {
	for i, s := range list {
		if s == "" {
			v.problem(fmt.Sprintf("%s[%d]", key, i), "must name a file")
		}
	}
}

func (v *validation) allReadable(key string, list []string) {
	for i, s := range list {
		v.readable(fmt.Sprintf("%s[%d]", key, i), s)
	}
}

func (v *validation) readable(key, file string) {
	if file == "" {
		return // Validate says so
	}
	if err := config.CheckReadable(file); err != nil {
		v.problem(key, "%s: %v", file, err)
	}
}
