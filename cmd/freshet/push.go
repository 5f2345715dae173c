package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"freshet/api/hubapi"
	"freshet/internal/push"
)

// tokenVariable is the environment variable that holds a token; the second
// one is flat-manager-client's.
const (
	tokenVariable       = "FRESHET_TOKEN" //nolint:gosec // G101: the name of a variable, not a secret
	clientTokenVariable = "REPO_TOKEN"
)

func newPushCommand() *cobra.Command {
	var (
		cfg                     push.Config
		hub, token, tokenFile   string
		until                   string
		repo, tree              string
		endOfLife, endOfLifeNew string
	)
	cmd := &cobra.Command{
		Use:     "push FOLDER",
		Short:   "Push a Flatpak/OSTree repository or a directory to a hub and publish it",
		GroupID: "use",
		Long: `Push brings a folder to a hub and publishes it.

An OSTree repository in archive mode (what flatpak build-export and
flatpak-builder --repo write) is uploaded into a new build of the hub's
repository --repo, committed and published. Any other folder becomes the next
generation of the plain tree --tree, and is switched to at once.

Only what the hub lacks is sent. When the push is interrupted, run it again: it
goes on where it was. The token is taken from --token-file, or from the
environment variable ` + tokenVariable + ` (or ` + clientTokenVariable + `).`,
		Example: `  # publish a Flatpak build
  flatpak build-export repo appdir
  freshet push --hub https://hub.example.org --repo stable repo

  # publish a folder of packages, after createrepo_c has made its metadata
  freshet push --hub https://hub.example.org --tree fedora-extras ./rpms

  # see what would be sent
  freshet push --hub https://hub.example.org --tree fedora-extras --dry-run ./rpms`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if token, err = readToken(token, tokenFile); err != nil {
				return err
			}
			cfg.Dir, cfg.Name = args[0], cmp.Or(repo, tree)
			switch {
			case hub == "":
				return errors.New("push: --hub is needed, the URL of the hub")
			case (repo == "") == (tree == ""):
				return errors.New("push: give --repo for an OSTree repository or --tree for a plain tree")
			case repo != "":
				cfg.Kind = push.OSTree
			default:
				cfg.Kind = push.Tree
			}
			switch until {
			case "published":
				cfg.Until = push.Published
			case "committed":
				cfg.Until = push.Committed
			case "uploaded":
				cfg.Until = push.Uploaded
			default:
				return fmt.Errorf("push: --until wants published, committed or uploaded, got %q", until)
			}
			if endOfLife != "" {
				cfg.Commit.EndOfLife = &endOfLife
			}
			if endOfLifeNew != "" {
				cfg.Commit.EndOfLifeRebase = &endOfLifeNew
			}
			cfg.Client = &hubapi.Client{Base: strings.TrimSuffix(hub, "/"), Token: token}
			cfg.CacheDir = push.DefaultCacheDir()
			cfg.Progress = push.NewProgress(os.Stderr)
			result, err := push.Run(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			return printPushed(cmd, cfg, result)
		},
	}
	f := cmd.Flags()
	f.StringVar(&hub, "hub", os.Getenv("FRESHET_HUB"), "URL of the hub (environment: FRESHET_HUB)")
	f.StringVar(&repo, "repo", "", "repository of the hub to publish an OSTree repository into")
	f.StringVar(&tree, "tree", "", "plain tree of the hub to publish a folder as")
	f.StringVar(&tokenFile, "token-file", "", "file that holds the token")
	f.StringVar(&token, "token", "", "the token itself; other users of this machine can see it, prefer --token-file")
	f.BoolVarP(&cfg.DryRun, "dry-run", "n", false, "tell what would be sent, send nothing")
	f.StringVar(&until, "until", "published", "how far to go: uploaded, committed or published")
	f.StringSliceVar(&cfg.Refs, "ref", nil, "push only this ref (repeatable); default: all app/, runtime/ and screenshots/ refs")
	f.Int64Var(&cfg.Build, "build", 0, "upload into this build instead of a new one")
	f.StringVar(&cfg.AppID, "app-id", "", "application id of a new build")
	f.StringSliceVar(&cfg.ExtraIDs, "extra-id", nil, "further id that the build may publish (repeatable)")
	f.StringVar(&cfg.BuildLogURL, "build-log-url", "", "where the build's log can be read")
	f.StringVar(&endOfLife, "end-of-life", "", "mark the applications as end of life, with this reason")
	f.StringVar(&endOfLifeNew, "end-of-life-rebase", "", "the id that replaces them")
	f.BoolVar(&cfg.NoDeltas, "no-deltas", false, "leave the repository's static deltas out")
	f.IntVar(&cfg.Parallel, "parallel", 4, "uploads at a time")
	cmd.MarkFlagsMutuallyExclusive("repo", "tree")
	cmd.MarkFlagsMutuallyExclusive("token", "token-file")
	return cmd
}

func printPushed(cmd *cobra.Command, cfg push.Config, r push.Result) error {
	verb := "sent"
	if cfg.DryRun {
		verb = "would send"
	}
	line := fmt.Sprintf("%s: %s %s of %s", cfg.Name, verb, r.Sent, r.Total)
	switch {
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
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read token: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	}
	return cmp.Or(token, os.Getenv(tokenVariable), os.Getenv(clientTokenVariable)), nil
}
