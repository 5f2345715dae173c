package main

import (
	"github.com/spf13/cobra"

	"freshet/internal/hub"
	"freshet/internal/node"
)

func newHubCommand() *cobra.Command {
	var (
		flags serveFlags
		set   hub.Config
		repos []string
	)
	cmd := &cobra.Command{
		Use:     "hub",
		Short:   "Take uploads, verify, sign and publish them",
		GroupID: "roles",
		Long: `Hub takes builds of Flatpak applications and runtimes, and whole trees of
packages, verifies every byte, signs and publishes them.

It speaks flat-manager's REST API, so flat-manager-client works with it
unchanged. With --dir alone it starts with one repository, "stable", a new
signing key and a new secret for tokens in that folder; everything else is in
the configuration file (freshet config default).`,
		Example: `  freshet hub --dir /srv/hub --listen :8080 --base-url https://hub.example.org --public-url https://dl.example.org
  freshet token create --dir /srv/hub --name me >token
  freshet push --hub http://localhost:8080 --token-file token --repo stable repo`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var cfg node.Config
			if err := flags.load(cmd, &cfg); err != nil {
				return err
			}
			cfg.Edge, cfg.Mirror, cfg.Director = nil, nil, nil
			if cfg.Hub == nil {
				cfg.Hub = new(hub.Config)
			}
			override(&cfg.Hub.Dir, set.Dir)
			override(&cfg.Hub.Listen, set.Listen)
			override(&cfg.Hub.BaseURL, set.BaseURL)
			override(&cfg.Hub.PublicURL, set.PublicURL)
			override(&cfg.Hub.Database, set.Database)
			override(&cfg.Hub.Shared.Instance, set.Shared.Instance)
			if len(set.GPGKeys) > 0 {
				cfg.Hub.GPGKeys = set.GPGKeys
			}
			for _, name := range repos {
				if _, known := cfg.Hub.Repos[name]; known {
					continue
				}
				if cfg.Hub.Repos == nil {
					cfg.Hub.Repos = make(map[string]hub.RepoConfig)
				}
				cfg.Hub.Repos[name] = hub.RepoConfig{}
			}
			return flags.serve(cmd, cfg, nil)
		},
	}
	flags.register(cmd)
	cmd.AddCommand(newHubNodesCommand(), newHubKeysCommand(), newHubTreeCommand(), newHubImportCommand())
	cmd.AddCommand(newHubFsckCommand(), newHubPruneCommand(), newHubDeltaWorkerCommand())
	cmd.AddCommand(newHubPublishesCommand(), newHubRollbackCommand(), newHubUnpublishCommand(),
		newHubHoldCommand(), newHubHoldsCommand(), newHubReleaseCommand(), newHubAuditCommand())
	cmd.AddCommand(newHubRefsCommand(), newHubLogCommand(), newHubDiffCommand(), newHubDeltasCommand(), newHubFlatpakrepoCommand())
	f := cmd.Flags()
	f.StringVar(&set.Dir, "dir", "", "folder that holds everything the hub keeps")
	f.StringVar(&set.Listen, "listen", "", `address to serve on (default ":8080")`)
	f.StringVar(&set.BaseURL, "base-url", "", "URL under which the hub itself is reached, for pushing")
	f.StringVar(&set.PublicURL, "public-url", "", "URL under which clients download, that of the edge (default: --base-url)")
	f.StringVar(&set.Database, "database", "", "postgres://… instead of a SQLite file in --dir")
	f.StringVar(&set.Shared.Instance, "instance", "", "name of this hub among several that share --dir and --database")
	f.StringSliceVar(&set.GPGKeys, "gpg-key", nil, "file with an OpenPGP secret key to sign with (repeatable)")
	f.StringSliceVar(&repos, "repo", nil, `name of an OSTree repository (repeatable; default "stable")`)
	return cmd
}

// override sets *setting to the value of a flag that was given.
func override[T comparable](setting *T, flag T) {
	var unset T
	if flag != unset {
		*setting = flag
	}
}
