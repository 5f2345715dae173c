package repository

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"golang.org/x/sync/semaphore"

	"freshet/internal/flatpak"
	"freshet/internal/ostree"
	"freshet/internal/sign"
	"freshet/internal/store/bucket"
)

// Options says which repository is opened and how it presents itself. Name, Dir
// and BuildsDir are needed; everything else may be left zero.
type Options struct {
	// Name is how the hub calls the repository, for example "stable".
	Name string

	// Dir is the folder of the repository; it is created when absent.
	Dir string

	// BuildsDir is the parent of the folders of builds. It must be on the file
	// system of Dir, because publishing links the objects.
	BuildsDir string

	// BaseURL is the URL under which clients reach the repository; without it no
	// .flatpakrepo and no .flatpakref files are written.
	BaseURL string

	// BuildsURL is the URL below which clients reach the folder of a build by its
	// number; without it builds get no .flatpakref files.
	BuildsURL string

	// SuggestedName is the name that a remote gets where the user chooses none;
	// default Name.
	SuggestedName string

	// RuntimeRepoURL is the .flatpakrepo of the repository with the runtimes that
	// applications need; default is this repository's own.
	RuntimeRepoURL string

	// CollectionID, DeployCollectionID and what follows go into config, summaries and
	// .flatpakrepo, see flatpak-build-update-repo(1).
	CollectionID       string
	DeployCollectionID bool

	Title, Comment, Description string
	Homepage, Icon              string
	DefaultBranch               string
	RedirectURL                 string

	// AppstreamCheckout has the files of the catalogue of each architecture also lie
	// in appstream/ARCH: appstream.xml.gz and icons/SIZE/ID.png, for web sites.
	AppstreamCheckout bool
	// AuthenticatorName is the D-Bus name of what gets users the tokens that some
	// commits need, and AuthenticatorOptions what it is told.
	AuthenticatorName    string
	AuthenticatorOptions map[string]string

	// SummaryArches are the architectures in the summary for clients older than
	// flatpak 1.9; empty for all. The subsummaries always have all.
	SummaryArches []string

	// Subsets are the names of the subsets that the repository has, as
	// flatpak.CheckSubset wants them. For each a NAME-SUBSET.flatpakrepo is written.
	// Which refs are in a subset the commits of builds say (xa.subsets); other
	// names than these are dropped from them.
	Subsets []string

	// Verifiers bounds how many static deltas that came with builds are verified at the
	// same time, each of which takes up to a processor and the memory of a part. It may
	// be that of several repositories; nil is no bound.
	Verifiers *semaphore.Weighted

	// Instance names this process among several that have the repository and its
	// builds open; see [Repository.Lead]. What is uploaded is on the disk before
	// it is acknowledged, so that the death of no machine takes it away. Empty: this
	// process is alone.
	Instance string

	// Copy is the copy of the repository in a bucket, which decides what is published
	// and from which Dir is filled when it is lost; nil: there is none. It is this
	// repository's alone.
	Copy *bucket.Copy

	// AfterSerial is a number below that of the next publish, for a repository whose
	// summary another program wrote: it has none.
	AfterSerial uint64

	// Signer signs commits and summaries; nil leaves the repository unsigned.
	Signer sign.Signer

	// Ed25519 adds ostree's own signatures to those of Signer; nil adds none. Without a
	// Signer nothing is signed.
	Ed25519 *sign.Ed25519

	// BuildSigner signs the commits and summaries of build repositories; nil leaves
	// them unsigned. It should not be the key of Signer: what is signed with that is
	// published.
	BuildSigner sign.Signer

	// RefreshLater has Open leave to Refresh what may have to be signed: for signers
	// that may be away, or that take their time.
	RefreshLater bool

	// Repaired is called after an upload has taken the place of a damaged object, of
	// which caches are to be told (package quarantine); may be nil.
	Repaired func()

	// Log takes what is not about a single job; nil drops it.
	Log *slog.Logger
}

// validate says what cannot work.
func (o *Options) validate() error {
	var errs []error
	if o.Name == "" || o.Dir == "" || o.BuildsDir == "" {
		errs = append(errs, errors.New("it needs a name, a folder and one for builds"))
	}
	if o.CollectionID != "" {
		errs = append(errs, ostree.ValidateCollectionID(o.CollectionID))
	}
	if o.DefaultBranch != "" {
		errs = append(errs, flatpak.CheckBranch(o.DefaultBranch))
	}
	for _, arch := range o.SummaryArches {
		errs = append(errs, flatpak.CheckArch(arch))
	}
	for _, subset := range o.Subsets {
		errs = append(errs, flatpak.CheckSubset(subset))
	}
	return errors.Join(errs...)
}

// grant returns those of the subsets that the repository has, and those that it
// does not.
func (o *Options) grant(subsets []string) (granted, refused []string) {
	granted = []string{}
	for _, name := range subsets {
		switch {
		case slices.Contains(granted, name):
		case slices.Contains(o.Subsets, name):
			granted = append(granted, name)
		default:
			refused = append(refused, name)
		}
	}
	return granted, refused
}

// subsets returns what takes the place of a commit's subsets, given what was
// asked for instead, if anything was: nil keeps those that the commit has. An
// uploader chooses among the subsets of the repository, and makes none.
func (o *Options) subsets(commit *ostree.Commit, instead []string, log *journal, ref string) []string {
	asked := instead
	if instead == nil {
		value, ok := commit.Metadata.Get(keySubsets)
		if !ok {
			return nil
		}
		if value.Is("as") {
			asked, _ = commit.Metadata.Strings(keySubsets)
		}
		if value.Is("as") && len(asked) == 0 {
			return nil
		}
	}
	granted, refused := o.grant(asked)
	for i := range min(len(refused), maxNamed) {
		log.printf("  %s: not in the subset %.80q, which the repository does not have", ref, refused[i])
	}
	if instead == nil && len(granted) == len(asked) && len(asked) > 0 {
		return nil
	}
	return granted
}

// keySubsets is flatpak's key of commit metadata: as.
const keySubsets = "xa.subsets"

// maxNamed bounds how many foreign names of a kind the log of a job names.
const maxNamed = 10

// repoInfo is what the summaries say of the repository. While several keys sign,
// clients that trust one of them are told of the others: so a key can be
// exchanged without its users doing anything.
func (o *Options) repoInfo() (flatpak.RepoInfo, error) {
	var keys []byte
	if o.Signer != nil && len(o.Signer.Keys()) > 1 {
		var err error
		if keys, err = o.Signer.PublicKeys(); err != nil {
			return flatpak.RepoInfo{}, err
		}
	}
	return flatpak.RepoInfo{
		GPGKeys:              keys,
		Title:                o.Title,
		Comment:              o.Comment,
		Description:          o.Description,
		Homepage:             o.Homepage,
		Icon:                 o.Icon,
		DefaultBranch:        o.DefaultBranch,
		RedirectURL:          o.RedirectURL,
		CollectionID:         o.CollectionID,
		DeployCollectionID:   o.DeployCollectionID,
		AuthenticatorName:    o.AuthenticatorName,
		AuthenticatorOptions: o.authenticatorOptions(),
	}, nil
}

func (o *Options) authenticatorOptions() [][2]string {
	var all [][2]string
	for _, key := range sortedKeys(o.AuthenticatorOptions) {
		all = append(all, [2]string{key, o.AuthenticatorOptions[key]})
	}
	return all
}

// deployed is the collection id that clients take over.
func (o *Options) deployed() string {
	if o.DeployCollectionID {
		return o.CollectionID
	}
	return ""
}

// runtimeRepo is where applications find their runtimes.
func (o *Options) runtimeRepo() string {
	switch {
	case o.RuntimeRepoURL != "":
		return o.RuntimeRepoURL
	case o.BaseURL != "":
		return o.url() + "/" + o.Name + ".flatpakrepo"
	}
	return ""
}

// url is BaseURL without a slash at its end.
func (o *Options) url() string { return strings.TrimSuffix(o.BaseURL, "/") }

// repoFiles are the .flatpakrepo files of the repository and of its subsets.
func (o *Options) repoFiles() (map[string][]byte, error) {
	if o.BaseURL == "" {
		return nil, nil
	}
	key, err := publicKeys(o.Signer)
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for _, subset := range append([]string{""}, o.Subsets...) {
		file := flatpak.RepoFile{
			Title:             o.Title,
			URL:               o.url(),
			Homepage:          o.Homepage,
			Comment:           o.Comment,
			Description:       o.Description,
			Icon:              o.Icon,
			DefaultBranch:     o.DefaultBranch,
			Subset:            subset,
			GPGKey:            key,
			CollectionID:      o.deployed(),
			AuthenticatorName: o.AuthenticatorName,
		}
		if file.Title == "" {
			file.Title = o.Name
		}
		name := o.Name
		if subset != "" {
			name += "-" + subset
		}
		if files[name+".flatpakrepo"], err = file.Bytes(); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// refFile is the .flatpakref file of a ref and its content; none for refs that
// nobody installs by themselves.
func (o *Options) refFile(ref flatpak.Ref) (path string, data []byte, err error) {
	if o.BaseURL == "" || ref.Kind == flatpak.Screenshots || ref.IsSubref() {
		return "", nil, nil
	}
	key, err := publicKeys(o.Signer)
	if err != nil {
		return "", nil, err
	}
	file := flatpak.RefFile{
		Ref:               ref,
		Title:             ref.ID,
		URL:               o.url(),
		SuggestRemoteName: o.SuggestedName,
		GPGKey:            key,
		CollectionID:      o.deployed(),
	}
	if file.SuggestRemoteName == "" {
		file.SuggestRemoteName = o.Name
	}
	if ref.Kind == flatpak.App {
		file.RuntimeRepo = o.runtimeRepo()
	}
	data, err = file.Bytes()
	return "appstream/" + ref.ID + ".flatpakref", data, err
}

// Cache holds what is known of the published commits, so that Open does not
// read every one of them. It is written by the commit function given to Publish,
// with what Result.Infos and Result.Removed say. What it holds may be stale,
// incomplete or unreadable: the repository decides.
type Cache interface {
	// Load returns what was saved for a repository.
	Load(ctx context.Context, repository string) ([]RefInfo, error)
}

// RefInfo is what a Cache holds of a ref. The blob is opaque.
type RefInfo struct {
	Ref    string `json:"ref"`
	Commit string `json:"commit"` // 64 hex digits
	Blob   []byte `json:"blob"`
}

// CommitRequest says what Build.Commit makes of an upload.
type CommitRequest struct {
	// Refs are the refs of the build with the commits that were uploaded for them,
	// as 64 hex digits.
	Refs map[string]string

	// EndOfLife is the reason why the refs are no longer maintained; EndOfLifeRebase is
	// the application id that replaces AppID and with it all ids that begin with it.
	// An empty AppID is that of the application among the refs. Media are accepted that
	// are named after AppID or the id of a ref.
	EndOfLife       string
	EndOfLifeRebase string
	AppID           string

	// TokenType is the kind of token a download needs; nil leaves what the commits
	// have.
	TokenType *int32
}

// PublishRequest is one build on its way into the repository.
type PublishRequest struct {
	// Key names the request in the Result, for example "build-7".
	Key string

	// Build holds the objects. It is nil to publish anew what the repository has.
	Build *Build

	// Refs are the refs to publish with the commits that Build.Commit returned. With a
	// nil Build they are commits that were published as that ref before, and an
	// empty one is the current one.
	Refs map[string]string

	// Remove are refs to take out of the repository; of each its mirrors in other
	// collections too, and its .flatpakref file unless that can lead to another
	// branch. One that is not published is ErrNotPublished. The commits stay until
	// they are pruned, and can be published again. With a nil Build, Refs may then be
	// empty.
	Remove []string

	// Expect are the commits that refs must have for the request to make sense, by
	// ref; empty for none at all. Where one has another commit, the request fails with
	// ErrMoved.
	Expect map[string]string

	// ExtraCollections are further collection ids under which the refs are
	// published.
	ExtraCollections []string

	// EndOfLife and so on are as in CommitRequest; empty leaves what the commits have.
	// Media are accepted that are named after AppID or the id of a ref, unless they
	// are those of another published id.
	EndOfLife       string
	EndOfLifeRebase string
	AppID           string

	// TokenType and Subsets replace what the commits have unless nil. Of either
	// subsets only those in Options.Subsets count.
	TokenType *int32
	Subsets   []string
}

// Result is what a Publish did. It survives a crash as JSON.
type Result struct {
	// Keys are those of the requests that were published, in their order. What Open
	// itself publishes has a key of its own, "refresh-" and a number.
	Keys []string `json:"keys"`

	// Refs are the commits that the refs of each request now have, by the key of
	// the request. A ref that two requests publish has the commit of the later one;
	// it is empty for one that a request removes.
	Refs map[string]map[string]string `json:"refs"`

	// Before are the commits that those refs had that now have another one or none;
	// empty for refs that are new.
	Before map[string]string `json:"before,omitempty"`

	// Serial is the number of the publish, which stands in the metadata of the
	// summaries (flatpak.KeySerial). Each publish that changes anything has a higher
	// one than all before; without a change it is that of the one before.
	Serial uint64 `json:"serial,omitempty"`

	// Summary is the length in bytes of the compat summary, which clients before
	// flatpak 1.9 read and some refuse beyond 10 MiB; zero when it was not written.
	Summary int64 `json:"summary,omitempty"`

	// Removed are refs that are no longer in the repository. The Cache forgets them.
	Removed []string `json:"removed,omitempty"`

	// Infos is what the Cache keeps from now on: the new refs and those that it was
	// found not to know.
	Infos []RefInfo `json:"infos,omitempty"`

	// Changed are the files, relative to the repository, that others may have cached
	// and which now are different, or gone: summary, refs/heads/…, config and the like.
	// It is empty when the requests changed nothing.
	Changed []string `json:"changed,omitempty"`

	// Deltas are the static deltas that came with the builds and are published.
	Deltas []PublishedDelta `json:"deltas,omitempty"`

	Stats Stats `json:"stats"`

	// Failed are the requests that could not be published, by their keys. They did
	// not hold up the others.
	Failed map[string]error `json:"-"`
}

// PublishedDelta is a static delta with what it costs those who fetch it, in bytes.
type PublishedDelta struct {
	Ref string `json:"ref"`
	// From and To are commits in hexadecimal; From is empty for a delta from nothing.
	From string `json:"from,omitempty"`
	To   string `json:"to"`
	// Source is the commit of the build to which it led before.
	Source string `json:"source"`
	// Size is all that a client fetches, Instead what it would fetch without the delta.
	Size    uint64 `json:"size"`
	Instead uint64 `json:"instead"`
	Parts   int    `json:"parts"`
	Singly  int    `json:"singly,omitempty"` // objects that are fetched one by one
}

// Stats counts what a publish did.
type Stats struct {
	NewObjects    int   `json:"new_objects"`    // linked into the repository or made
	ReusedObjects int   `json:"reused_objects"` // were there already
	Bytes         int64 `json:"bytes"`          // of the new objects as stored
	Signatures    int   `json:"signatures"`
}
