// Package push brings local content to a hub: a local OSTree or Flatpak archive
// repository becomes a build that is committed and published, a directory
// becomes the next generation of a plain tree. It is what "freshet push" does,
// and works through the hub's public API only.
//
// Promises:
//
//   - Nothing the hub holds already is sent again; an interrupted push that is
//     repeated goes on where it was.
//   - Whether the hub has stored what was sent is asked of the hub, never
//     assumed from an answer that says so.
//   - Stopping at any moment, by the context or by kill -9, leaves at most an
//     unpublished build or tree push on the hub, which expires there.
//   - The hub is asked before anything is read at length, so that a mistyped
//     URL, a bad token or an unknown repository shows at once; a hub that has
//     never answered is given up after [FirstContact].
//   - The token is never shown.
//
// # Files
//
// A push of a repository DIR writes DIR.push.json beside it, which names the
// hub's build so that a repetition finds it, and removes it when the build is
// published. A push of a directory keeps two files per directory in
// Config.CacheDir: <key>.hashes.json, the hashes of the files by size, times and
// inode, and <key>.push.json, the tree push that was begun and the generation
// that was published last. All of them may be deleted at any time, which costs
// only work done again.
package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"freshet/api/hubapi"
)

// Kind is what a local folder is pushed as.
type Kind int

// The kinds of push.
const (
	// Auto finds out by [Detect].
	Auto Kind = iota
	// OSTree is an OSTree repository in archive mode, pushed as a build.
	OSTree
	// Tree is a directory of any files, pushed as a tree's next generation.
	Tree
)

func (k Kind) String() string {
	switch k {
	case Auto:
		return "auto"
	case OSTree:
		return "ostree"
	case Tree:
		return "tree"
	}
	return fmt.Sprintf("kind(%d)", int(k))
}

// Stage is a point in the life of a build.
type Stage int

// The stages of a push, beginning with the usual end.
const (
	// Published: clients see the new content.
	Published Stage = iota
	// Committed: the hub has verified the build, and it can be tested from the
	// build's own repository.
	Committed
	// Uploaded: everything is at the hub.
	Uploaded
)

// Config says what to push where. Client, Dir and Name must be set; every
// other field may be left zero.
type Config struct {
	// Client is the way to the hub. Its Retrying is called besides our own.
	Client *hubapi.Client
	// Dir is the local folder.
	Dir string
	// Kind says what Dir is; Auto looks.
	Kind Kind
	// Name is the hub's repository or tree.
	Name string
	// Until is where to stop. For a tree Uploaded and Committed are the same.
	Until Stage
	// DryRun finds out and reports what would be sent, and sends nothing. To
	// ask the hub, a push of the tree is begun and cancelled again, or a build
	// is created and purged, unless there is an unfinished one to ask about.
	DryRun bool
	// Parallel is the number of uploads at a time; 4 if zero.
	Parallel int
	// BatchBytes is the size up to which files share a request; 4 MiB if zero.
	BatchBytes int64
	// Progress is told how it goes; nil tells nobody.
	Progress Progress

	// Refs are the refs of the repository to push; if empty, all below app/,
	// runtime/ and screenshots/.
	Refs []string
	// Build is the build to upload into; if zero, the one an interrupted push
	// has left, else a new one.
	Build int64
	// AppID, BuildLogURL and PublicDownload are properties of a new build.
	AppID          string
	BuildLogURL    string
	PublicDownload *bool
	// ExtraIDs are ids besides AppID that the build may publish.
	ExtraIDs []string
	// Commit are the wishes for the hub's commit of the build.
	Commit hubapi.CommitRequest
	// NoDeltas leaves the repository's static deltas out.
	NoDeltas bool
	// StateFile remembers the build for a repetition: beside Dir if empty, "-"
	// for nowhere.
	StateFile string

	// CacheDir keeps hashes of a tree's files and its unfinished push; if
	// empty, neither is kept. See [DefaultCacheDir].
	CacheDir string
}

// Amount is a number of files and their bytes.
type Amount struct {
	Files int
	Bytes int64
}

func (a *Amount) add(n int64) {
	a.Files++
	a.Bytes += n
}

func (a Amount) String() string {
	if a.Files == 1 {
		return "1 file, " + formatBytes(a.Bytes)
	}
	return fmt.Sprintf("%d files, %s", a.Files, formatBytes(a.Bytes))
}

// Result is what a push has done, or what it would do.
type Result struct {
	// Kind is what the folder was pushed as.
	Kind Kind
	// Total is all that belongs to the push, Sent what the hub lacked of it and
	// then stored, by the counts in its answers.
	Total, Sent Amount
	// Unchanged is set when the hub had published just this before: nothing is
	// new for anybody.
	Unchanged bool
	// Refs are the commits of the repository by ref; Published those the hub
	// made of them.
	Refs, Published map[string]string
	// Build is the build as last seen.
	Build hubapi.Build
	// Serial is the event that announced the content, 0 if none did yet.
	Serial int64
	// Push is the id of the tree push, Generation what became of it.
	Push       string
	Generation hubapi.Generation
}

// Detect tells what a folder is: an OSTree repository if it holds a file
// "config" and a folder "objects", else a tree.
func Detect(dir string) (Kind, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return Auto, fmt.Errorf("push: %w", err)
	}
	if !info.IsDir() {
		return Auto, fmt.Errorf("push %s: not a folder", dir)
	}
	config, err := os.Stat(filepath.Join(dir, "config"))
	if err == nil && config.Mode().IsRegular() {
		objects, err := os.Stat(filepath.Join(dir, "objects"))
		if err == nil && objects.IsDir() {
			return OSTree, nil
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Auto, fmt.Errorf("push: %w", err)
	}
	return Tree, nil
}

// DefaultCacheDir is the folder below the user's cache folder that is meant
// for Config.CacheDir, or "" if the user has none.
func DefaultCacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "freshet", "push")
}

// Run pushes as cfg says. The result tells how far it came also when there is
// an error.
func Run(ctx context.Context, cfg Config) (Result, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return Result{}, err
	}
	result := Result{Kind: cfg.Kind}
	switch cfg.Kind {
	case OSTree:
		p := &buildPush{cfg: cfg, result: &result}
		err = p.run(ctx)
	case Tree:
		p := &treePush{cfg: cfg, result: &result}
		err = p.run(ctx)
	case Auto:
		err = errors.New("unknown kind of folder")
	}
	if err != nil {
		return result, fmt.Errorf("push %s: %w", cfg.Dir, explain(err))
	}
	return result, nil
}

// FirstContact is how long the hub has to give its first answer, if the client
// is as patient as that: a hub that restarts is back by then. After that it is
// waited for as long as the client says.
const FirstContact = 15 * time.Second

// firstClient is the client for the first call of a push.
func (cfg Config) firstClient() *hubapi.Client {
	client := *cfg.Client
	client.ConnectFor = FirstContact
	return &client
}

// explained is an error in the words of somebody who pushes.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

// explain says what the matter is with a token that does not do.
func explain(err error) error {
	answer, ok := errors.AsType[*hubapi.Error](err)
	if !ok {
		return err
	}
	switch answer.Kind { //nolint:exhaustive // the others speak for themselves
	case hubapi.ErrInvalidToken:
		return &explained{"the hub does not accept this token: " + printable(answer.Message), err}
	case hubapi.ErrInsufficient:
		// What was tried stands before the hub's answer.
		tried := strings.TrimSuffix(err.Error(), ": "+answer.Error())
		return &explained{fmt.Sprintf("the token does not allow to %s: %s", tried, printable(answer.Message)), err}
	}
	return err
}

// complete checks the fields and fills in what was left zero.
func (cfg Config) complete() (Config, error) {
	if cfg.Client == nil || cfg.Client.Base == "" {
		return cfg, errors.New("push: no hub given")
	}
	if cfg.Dir == "" {
		return cfg, errors.New("push: no folder given")
	}
	if cfg.Name == "" {
		return cfg, errors.New("push: no repository or tree of the hub given")
	}
	if cfg.Kind == Auto {
		kind, err := Detect(cfg.Dir)
		if err != nil {
			return cfg, err
		}
		cfg.Kind = kind
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = 4
	}
	if cfg.BatchBytes <= 0 {
		cfg.BatchBytes = 4 << 20
	}
	if cfg.Progress == nil {
		cfg.Progress = silent{}
	}
	client := *cfg.Client
	also := client.Retrying
	client.Retrying = retryLine(cfg.Progress, displayURL(client.Base), also)
	cfg.Client = &client
	return cfg, nil
}

// displayURL is a URL without its password.
func displayURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	return u.Redacted()
}
