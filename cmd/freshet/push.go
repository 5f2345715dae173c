package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/push"
)

// tokenVariable is the environment variable that holds a token; the second
// one is flat-manager-client's.
const (
	tokenVariable       = "FRESHET_TOKEN" //nolint:gosec // G101: the name of a variable, not a secret
	clientTokenVariable = "REPO_TOKEN"
)

// pushFlags are the flags of "freshet push" that are not a [push.Config] yet.
type pushFlags struct {
	cfg                     push.Config
	hub, token, tokenFile   string
	until                   string
	repo, tree              string
	asJSON                  bool
	endOfLife, endOfLifeNew string
	oidc                    oidcFlags
}

func newPushCommand() *cobra.Command {
	var p pushFlags
	cmd := &cobra.Command{
		Use:     "push FOLDER",
		Short:   "Push a Flatpak/OSTree repository or a directory to a hub and publish it",
		GroupID: "use",
		Long: `Push brings a folder to a hub and publishes it.

An OSTree repository in archive mode (what flatpak build-export and
flatpak-builder --repo write) is uploaded into a new build of the hub's
repository --repo, committed and published. Any other folder becomes the next
generation of the plain tree --tree, and is switched to at once; if it is what
was pushed last, and nothing else was since, no generation is made.

Only what the hub lacks is sent. When the push is interrupted, run the same
command again: files that were sent whole are not sent again, and one that was
cut in its middle is sent from its beginning. What is needed for that is kept
beside a repository, in FOLDER.push.json, until it is published; for a tree, in
freshet/push below the user's cache folder ($XDG_CACHE_HOME or ~/.cache), together
with the hashes of its files, so that unchanged files are not read again. All
of it may be deleted.

A hub that is away or answers 5xx is tried again for 5 minutes; one that has not
answered at all yet, for 15 seconds. Interrupted by Ctrl-C, the command exits
with status 130; after an error, with 1.

The token is taken from --token-file, or from the environment variable
` + tokenVariable + ` (or ` + clientTokenVariable + `). In a job of a CI that the hub trusts none is
needed: with --oidc its ID token is exchanged for one. On GitHub the job asks for
it ("permissions: id-token: write"), elsewhere it stands in ` + push.IDTokenVariable + ` or
in --oidc-token-file.`,
		Example: `  # publish a Flatpak build
  flatpak build-export repo appdir
  freshet push --hub https://hub.example.org --token-file token --repo stable repo

  # publish a folder of packages, after createrepo_c has made its metadata
  freshet push --hub https://hub.example.org --token-file token --tree fedora-extras ./rpms

  # in a job of a CI, without a secret
  freshet push --hub https://hub.example.org --oidc --repo stable repo

  # ask the hub what would be sent
  freshet push --hub https://hub.example.org --token-file token --tree fedora-extras --dry-run ./rpms`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.cfg.Dir = args[0]
			p.cfg.Progress = push.NewProgress(cmd.ErrOrStderr())
			if err := p.complete(cmd); err != nil {
				return err
			}
			result, err := push.Run(cmd.Context(), p.cfg)
			switch {
			case err == nil:
				if p.asJSON {
					return printJSON(cmd.OutOrStdout(), pushedJSON(&p.cfg, &result))
				}
				return printPushed(cmd, p.cfg, result)
			case cmd.Context().Err() != nil && errors.Is(err, context.Canceled): // as signals are, too
				return &interruptedError{again: !p.cfg.DryRun}
			}
			return err
		},
	}
	p.addFlags(cmd)
	scopes(auth.ScopeBuild, auth.ScopeUpload, auth.ScopePublish, auth.ScopeJobs).explain(cmd)
	return cmd
}

func (p *pushFlags) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.hub, "hub", os.Getenv("FRESHET_HUB"), "URL of the hub (environment: FRESHET_HUB)")
	f.StringVar(&p.repo, "repo", "", "repository of the hub to publish an OSTree repository into")
	f.StringVar(&p.tree, "tree", "", "plain tree of the hub to publish a folder as")
	f.StringVar(&p.tokenFile, "token-file", "", "file that holds the token")
	f.StringVar(&p.token, "token", "", "the token itself; other users of this machine can see it, prefer --token-file")
	f.BoolVarP(&p.cfg.DryRun, "dry-run", "n", false, "ask the hub what would be sent, send nothing")
	f.StringVar(&p.until, "until", "published", "how far to go: uploaded, committed or published")
	f.StringSliceVar(&p.cfg.Refs, "ref", nil, "push only this ref (repeatable); default: all app/, runtime/ and screenshots/ refs")
	f.Int64Var(&p.cfg.Build, "build", 0, "upload into this build instead of a new one")
	f.StringVar(&p.cfg.AppID, "app-id", "", "application id of a new build")
	f.StringSliceVar(&p.cfg.ExtraIDs, "extra-id", nil, "further id that the build may publish (repeatable)")
	f.StringVar(&p.cfg.BuildLogURL, "build-log-url", "", "where the build's log can be read")
	f.StringVar(&p.endOfLife, "end-of-life", "", "mark the applications as end of life, with this reason")
	f.StringVar(&p.endOfLifeNew, "end-of-life-rebase", "", "the id that replaces them")
	f.BoolVar(&p.cfg.NoDeltas, "no-deltas", false, "leave the repository's static deltas out")
	f.IntVar(&p.cfg.Parallel, "parallel", 4, "uploads at a time")
	f.BoolVar(&p.asJSON, "json", false, "print what was done in JSON; progress goes to standard error")
	cmd.MarkFlagsMutuallyExclusive("repo", "tree")
	p.oidc.register(f)
	f.BoolVar(&p.oidc.on, "oidc", false, "exchange the CI job's ID token for a token of the hub")
	cmd.MarkFlagsMutuallyExclusive("token", "token-file", "oidc")
	cmd.MarkFlagsMutuallyExclusive("token", "token-file", "oidc-token-file")
}

// complete checks the flags, as far as that goes without the hub, and makes
// the configuration of them.
func (p *pushFlags) complete(cmd *cobra.Command) error {
	switch {
	case p.hub == "":
		return errors.New("push: --hub is needed, the URL of the hub")
	case !isHubURL(p.hub):
		return fmt.Errorf("push: --hub wants a URL like https://hub.example.org, got %q", p.hub)
	case (p.repo == "") == (p.tree == ""):
		return errors.New("push: give --repo for an OSTree repository or --tree for a plain tree")
	case p.cfg.Parallel < 1:
		return fmt.Errorf("push: --parallel wants at least 1, got %d", p.cfg.Parallel)
	}
	switch p.until {
	case "published":
		p.cfg.Until = push.Published
	case "committed":
		p.cfg.Until = push.Committed
	case "uploaded":
		p.cfg.Until = push.Uploaded
	default:
		return fmt.Errorf("push: --until wants published, committed or uploaded, got %q", p.until)
	}
	if p.endOfLife != "" {
		p.cfg.Commit.EndOfLife = &p.endOfLife
	}
	if p.endOfLifeNew != "" {
		p.cfg.Commit.EndOfLifeRebase = &p.endOfLifeNew
	}
	if err := p.chooseKind(); err != nil {
		return err
	}
	p.cfg.Name = cmp.Or(p.repo, p.tree)
	p.cfg.Client = &hubapi.Client{Base: strings.TrimSuffix(p.hub, "/")}
	p.cfg.CacheDir = push.DefaultCacheDir()
	return p.authorize(cmd)
}

// authorize gives the client a token.
func (p *pushFlags) authorize(cmd *cobra.Command) (err error) {
	if !p.oidc.wanted() {
		if p.cfg.Client.Token, err = readToken(p.token, p.tokenFile); err != nil {
			return fmt.Errorf("push: %w", err)
		}
		return nil
	}
	answer, err := p.oidc.exchange(cmd.Context(), p.cfg.Client, p.cfg.Name)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	p.cfg.Client.Token = answer.Token
	p.cfg.Progress.Line(fmt.Sprintf("trusted as %s until %s", answer.Publisher, answer.Expires.Local().Format(time.TimeOnly)))
	return nil
}

// chooseKind compares what the folder is with what it is to be pushed as.
func (p *pushFlags) chooseKind() error {
	kind, err := push.Detect(p.cfg.Dir)
	if err != nil {
		return err
	}
	switch {
	case p.repo == "":
		p.cfg.Kind = push.Tree
		if kind == push.OSTree {
			p.cfg.Progress.Line(fmt.Sprintf("warning: %s is an OSTree repository; --repo publishes it as such, --tree only its files", p.cfg.Dir))
		}
	case kind == push.OSTree:
		p.cfg.Kind = push.OSTree
	default:
		lacks := "objects"
		if _, err := os.Stat(filepath.Join(p.cfg.Dir, "config")); err != nil {
			lacks = "config"
		}
		return fmt.Errorf("push: %s is no OSTree repository (no %s); for a plain folder use --tree", p.cfg.Dir, lacks)
	}
	return nil
}

func isHubURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && !strings.HasSuffix(u.Host, ":")
}

// interruptedError says that the user has ended a push.
type interruptedError struct{ again bool }

func (e *interruptedError) Error() string {
	if !e.again {
		return "interrupted"
	}
	return "interrupted; run the same command again to go on"
}

// ExitCode is what shells report of a program that SIGINT has ended.
func (*interruptedError) ExitCode() int { return 130 }

func printPushed(cmd *cobra.Command, cfg push.Config, r push.Result) error {
	verb := "sent"
	if cfg.DryRun {
		verb = "would send"
	}
	line := fmt.Sprintf("%s: %s %s of %s", cfg.Name, verb, r.Sent, r.Total)
	switch {
	case r.Unchanged && r.Generation.ID != 0:
		line = fmt.Sprintf("%s: unchanged, generation %d", cfg.Name, r.Generation.ID)
	case r.Unchanged:
		line = fmt.Sprintf("%s: unchanged by build %d", cfg.Name, r.Build.ID)
	case r.Generation.ID != 0:
		line += fmt.Sprintf("; generation %d, event %d", r.Generation.ID, r.Serial)
	case r.Serial != 0:
		line += fmt.Sprintf("; build %d published, event %d", r.Build.ID, r.Serial)
	case r.Build.ID != 0:
		line += fmt.Sprintf("; build %d", r.Build.ID)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), line)
	return err
}

// readToken returns the token given directly, in a file, or by environment.
func readToken(token, file string) (string, error) {
	const need = "give --token-file or set " + tokenVariable
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read token: %w", err)
		}
		if token = strings.TrimSpace(string(b)); token == "" {
			return "", fmt.Errorf("no token: %s is empty; %s", file, need)
		}
		if err := oneWord(token); err != nil {
			return "", fmt.Errorf("no token: %s %w", file, err)
		}
		return token, nil
	}
	for _, token := range []string{token, os.Getenv(tokenVariable), os.Getenv(clientTokenVariable)} {
		if token = strings.TrimSpace(token); token != "" {
			if err := oneWord(token); err != nil {
				return "", fmt.Errorf("no token: what is given %w", err)
			}
			return token, nil
		}
	}
	return "", errors.New("no token: " + need)
}

// oneWord refuses what cannot be a token: it would be no field of a request
// (RFC 6750 §2.1), which nobody needs to try.
func oneWord(token string) error {
	if strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return errors.New("has more than one word in it: is it another file, a key perhaps?")
	}
	return nil
}
