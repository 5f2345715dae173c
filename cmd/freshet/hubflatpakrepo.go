package main

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"freshet/internal/durable"
	"freshet/internal/flatpak"
	"freshet/internal/ostree"
	"freshet/internal/sign"
)

// flatpakrepoFlags are what a .flatpakrepo file is to say instead of what the
// repository does.
type flatpakrepoFlags struct {
	repositoryFlags

	set      flatpak.RepoFile
	key, out string
}

// repoFileJSON is a .flatpakrepo file for scripts.
type repoFileJSON struct {
	Title         string `json:"title,omitempty"`
	URL           string `json:"url"`
	Homepage      string `json:"homepage,omitempty"`
	Comment       string `json:"comment,omitempty"`
	Description   string `json:"description,omitempty"`
	Icon          string `json:"icon,omitempty"`
	DefaultBranch string `json:"default-branch,omitempty"`
	Subset        string `json:"subset,omitempty"`
	GPGKey        []byte `json:"gpg-key,omitempty"`
	CollectionID  string `json:"collection-id,omitempty"`
	Authenticator string `json:"authenticator-name,omitempty"`
}

func newHubFlatpakrepoCommand() *cobra.Command {
	var flags flatpakrepoFlags
	cmd := &cobra.Command{
		Use:   "flatpakrepo REPO",
		Short: "Write the .flatpakrepo file by which users add a repository",
		Long: `Flatpakrepo prints the file that "flatpak remote-add --from" takes: the URL of a
repository, its title, the keys that sign it, and what else clients are told.

Of a hub's repository it is the file that the hub keeps beside the summary, also
for a subset. Of another repository it is made of its summary, which knows neither
its URL nor, as a rule, its keys: give --url and --key.` + repositoryHelp,
		Example: `  freshet hub flatpakrepo stable --dir /srv/hub --out stable.flatpakrepo
  flatpak remote-add --from stable stable.flatpakrepo

  # for one subset, and for a repository that another program has made
  freshet hub flatpakrepo stable --dir /srv/hub --subset floss
  freshet hub flatpakrepo ./repo --url https://dl.example.org/repo --key key.asc`,
		RunE: func(cmd *cobra.Command, args []string) error { return flags.run(cmd, args[0]) },
	}
	flags.register(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.set.URL, "url", "", "URL under which clients reach the repository")
	f.StringVar(&flags.set.Title, "title", "", "what users see as its name")
	f.StringVar(&flags.set.Subset, "subset", "", "show this part of it only")
	f.StringVar(&flags.set.CollectionID, "collection-id", "", "collection id that clients take over")
	f.StringVar(&flags.set.DefaultBranch, "default-branch", "", "branch that clients prefer")
	f.StringVar(&flags.key, "key", "", "file with the OpenPGP public keys that sign it, armored or not")
	f.StringVarP(&flags.out, "out", "o", "", "write it to this file instead")
	return cmd
}

func (f *flatpakrepoFlags) run(cmd *cobra.Command, repo string) error {
	at, err := f.locate(cmd, repo)
	if err != nil {
		return err
	}
	opened, err := f.open(cmd, repo)
	if err != nil {
		return err
	}
	name := filepath.Base(filepath.Clean(at.dir))
	if at.url != "" {
		name = path.Base(at.url)
	}
	file, err := opened.RepoFile(name, f.set.Subset)
	if err != nil {
		return fmt.Errorf("hub flatpakrepo: %s: %w", cmp.Or(at.dir, at.url), err)
	}
	override(&file.URL, cmp.Or(f.set.URL, cmp.Or(file.URL, strings.TrimRight(at.url, "/"))))
	override(&file.Title, f.set.Title)
	override(&file.CollectionID, f.set.CollectionID)
	override(&file.DefaultBranch, f.set.DefaultBranch)
	if err := f.check(cmd, &file); err != nil {
		return err
	}
	return f.write(cmd, &file)
}

// check completes the file and finds what clients could not use.
func (f *flatpakrepoFlags) check(cmd *cobra.Command, file *flatpak.RepoFile) error {
	switch {
	case file.URL == "":
		return usageError(cmd, "--url is needed: the repository does not say where clients reach it")
	case !isHubURL(file.URL):
		return usageError(cmd, "--url wants a URL like https://dl.example.org/repo, got %q", file.URL)
	case file.CollectionID != "":
		if err := ostree.ValidateCollectionID(file.CollectionID); err != nil {
			return usageError(cmd, "--collection-id: %w", err)
		}
	}
	if f.key != "" {
		data, err := os.ReadFile(f.key)
		if err != nil {
			return fmt.Errorf("hub flatpakrepo: %w", err)
		}
		if file.GPGKey, err = sign.PublicKeys(data); err != nil {
			return fmt.Errorf("hub flatpakrepo: %s: %w", f.key, err)
		}
	}
	if len(file.GPGKey) == 0 {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "warning: no keys, so that clients will not check signatures; give --key")
	}
	return nil
}

func (f *flatpakrepoFlags) write(cmd *cobra.Command, file *flatpak.RepoFile) error {
	data, err := file.Bytes()
	if err != nil {
		return fmt.Errorf("hub flatpakrepo: %w", err)
	}
	if f.out != "" {
		if err := writeFile(f.out, data); err != nil {
			return fmt.Errorf("hub flatpakrepo: %w", err)
		}
	}
	switch {
	case f.asJSON:
		return printJSON(cmd.OutOrStdout(), repoFileJSON{
			file.Title, file.URL, file.Homepage, file.Comment, file.Description, file.Icon, file.DefaultBranch, file.Subset, file.GPGKey,
			file.CollectionID, file.AuthenticatorName,
		})
	case f.out != "":
		return nil
	}
	_, err = cmd.OutOrStdout().Write(data)
	return err
}

// writeFile writes a file whole, in the place of what was there.
func writeFile(name string, data []byte) error {
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // what was written is synced
	return durable.Dir{Root: root}.WriteFile(filepath.Base(name), data, 0o644)
}
