package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"freshet/api/hubapi"
	"freshet/internal/hub"
	"freshet/internal/hub/inspect"
	"freshet/internal/repoweb"
)

// repositoryHelp says what REPO may be, in the help of the commands that read one.
const repositoryHelp = `

REPO is a folder with an OSTree repository, the URL of one, or a name: with
--config or --dir that of a repository in this hub's folder, with --hub or
$FRESHET_HUB that of a repository this hub serves. No token is needed, unless
the repository asks for one.`

// repositoryFlags are the flags of a command that reads a repository.
type repositoryFlags struct {
	config, dir, hub, tokenFile string
	asJSON                      bool
}

func (r *repositoryFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&r.config, "config", "c", "", "configuration file of the hub whose repository it is")
	f.StringVar(&r.dir, "dir", "", "folder of the hub whose repository it is")
	f.StringVar(&r.hub, "hub", "", "URL of the hub that serves the repository (default $FRESHET_HUB)")
	f.StringVar(&r.tokenFile, "token-file", "", "file with a token, for what a repository gives only to its bearers")
	f.BoolVar(&r.asJSON, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("config", "hub")
	cmd.MarkFlagsMutuallyExclusive("dir", "hub")
}

// place is where a repository is: in a folder or behind a URL.
type place struct{ dir, url string }

// locate finds out what REPO means.
func (r *repositoryFlags) locate(cmd *cobra.Command, repo string) (place, error) {
	switch {
	case strings.HasPrefix(repo, "http://"), strings.HasPrefix(repo, "https://"):
		return place{url: strings.TrimRight(repo, "/")}, nil
	case r.config != "" || r.dir != "":
		cfg, err := hubConfig(cmd, r.config, hub.Config{Dir: r.dir})
		if err != nil {
			return place{}, err
		}
		set := cfg.WithDefaults()
		dir := set.RepoDir(repo)
		if _, known := set.Repos[repo]; !known {
			// Its configuration may not be at hand. What has a slash is no name.
			if _, err := os.Stat(dir); err != nil || strings.ContainsAny(repo, `/\`) || r.config != "" {
				return place{}, fmt.Errorf("hub %s: the hub has no repository %q, but %s", cmd.Name(), repo,
					strings.Join(slices.Sorted(maps.Keys(set.Repos)), ", "))
			}
		}
		return place{dir: dir}, nil
	case strings.ContainsAny(repo, `/\.`):
		return place{dir: repo}, nil
	}
	if url := cmp.Or(r.hub, os.Getenv("FRESHET_HUB")); url != "" {
		if !isHubURL(url) {
			return place{}, usageError(cmd, "--hub wants a URL like https://hub.example.org, got %q", url)
		}
		return place{url: strings.TrimSuffix(url, "/") + hubapi.RepoPath(repo)}, nil
	}
	return place{dir: repo}, nil
}

// open opens the repository that REPO means.
func (r *repositoryFlags) open(cmd *cobra.Command, repo string) (*inspect.Repository, error) {
	at, err := r.locate(cmd, repo)
	if err != nil {
		return nil, err
	}
	opened, err := r.openAt(cmd, at)
	if err != nil {
		return nil, fmt.Errorf("hub %s: %s: %w", cmd.Name(), cmp.Or(at.dir, at.url), err)
	}
	return opened, nil
}

func (r *repositoryFlags) openAt(cmd *cobra.Command, at place) (*inspect.Repository, error) {
	if at.dir != "" {
		return openFolder(at.dir)
	}
	files, err := r.web(cmd, at.url)
	if err != nil {
		return nil, err
	}
	opened, err := inspect.Open(files)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("there is no OSTree repository: %w", err)
	}
	return opened, err
}

// openFolder opens the repository in a folder. Where there is none, the error says what
// could have been meant.
func openFolder(dir string) (*inspect.Repository, error) {
	opened, err := inspect.Open(os.DirFS(dir))
	if !errors.Is(err, fs.ErrNotExist) {
		return opened, err
	}
	if _, statErr := os.Stat(dir); statErr == nil {
		return nil, fmt.Errorf("this folder is no OSTree repository: %w", err)
	}
	return nil, errors.New("there is no such folder. A repository of a hub is named by its name with --hub URL (or $FRESHET_HUB) or --dir FOLDER, " +
		"another one by its folder or its URL")
}

// web opens the files behind a URL, with the token if one is given.
func (r *repositoryFlags) web(cmd *cobra.Command, url string) (*repoweb.FS, error) {
	token := ""
	if r.tokenFile != "" {
		var err error
		if token, err = readToken("", r.tokenFile); err != nil {
			return nil, err
		}
	}
	return repoweb.New(cmd.Context(), url, token)
}

// answer prints v in JSON, or as text does.
func (r *repositoryFlags) answer(cmd *cobra.Command, v any, text func(io.Writer) error) error {
	if r.asJSON {
		return printJSON(cmd.OutOrStdout(), v)
	}
	return text(cmd.OutOrStdout())
}

// sizeText is a size for people, and a dash when it is not known.
func sizeText(n uint64) string {
	if n == 0 {
		return "-"
	}
	return bytesText(int64(min(n, 1<<62)))
}
