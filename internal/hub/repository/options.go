package repository

import (
	"context"
	"log/slog"

	"freshet/internal/sign"
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

	// SummaryArches are the architectures in the summary for clients older than
	// flatpak 1.9; empty for all. The subsummaries always have all.
	SummaryArches []string

	// Subsets are the names of subsets for which a NAME-SUBSET.flatpakrepo is
	// written. Which refs are in a subset their commits say.
	Subsets []string

	// Signer signs commits and summaries; nil leaves the repository unsigned.
	Signer sign.Signer

	// BuildSigner signs the commits and summaries of build repositories; nil leaves
	// them unsigned. It should not be the key of Signer: what is signed with that is
	// published.
	BuildSigner sign.Signer

	// Log takes what is not about a single job; nil drops it.
	Log *slog.Logger
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

	// ExtraIDs are as in PublishRequest.
	ExtraIDs []string

	// EndOfLife is the reason why the refs are no longer maintained; EndOfLifeRebase is
	// the application id that replaces AppID and with it all ids that begin with it.
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
	// nil Build an empty commit is the current one.
	Refs map[string]string

	// ExtraIDs are the last parts of further collection ids for the refs, which are
	// also published as COLLECTIONID.EXTRAID; dotted words.
	ExtraIDs []string

	// EndOfLife and so on are as in CommitRequest; empty leaves what the commits have.
	EndOfLife       string
	EndOfLifeRebase string
	AppID           string

	// TokenType and Subsets replace what the commits have unless nil.
	TokenType *int32
	Subsets   []string
}

// Result is what a Publish did. It survives a crash as JSON.
type Result struct {
	// Keys are those of the requests that were published, in their order.
	Keys []string `json:"keys"`

	// Refs are the commits that the refs of each request now have, by the key of
	// the request. A ref that two requests publish has the commit of the later one.
	Refs map[string]map[string]string `json:"refs"`

	// Removed are refs that are no longer in the repository. The Cache forgets them.
	Removed []string `json:"removed,omitempty"`

	// Infos is what the Cache keeps from now on: the new refs and those that it was
	// found not to know.
	Infos []RefInfo `json:"infos,omitempty"`

	// Changed are the files, relative to the repository, that others may have cached
	// and which now are different, or gone: summary, refs/heads/…, config and the like.
	// It is empty when the requests changed nothing.
	Changed []string `json:"changed,omitempty"`

	Stats Stats `json:"stats"`

	// Failed are the requests that could not be published, by their keys. They did
	// not hold up the others.
	Failed map[string]error `json:"-"`
}

// Stats counts what a publish did.
type Stats struct {
	NewObjects    int   `json:"new_objects"`    // linked into the repository or made
	ReusedObjects int   `json:"reused_objects"` // were there already
	Bytes         int64 `json:"bytes"`          // of the new objects as stored
	Signatures    int   `json:"signatures"`
}
