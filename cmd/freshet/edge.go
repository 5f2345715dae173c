package main

import (
	"github.com/spf13/cobra"

	"freshet/internal/config"
	"freshet/internal/edge"
	"freshet/internal/node"
)

func newEdgeCommand() *cobra.Command {
	var (
		flags serveFlags
		set   edge.Config
	)
	cmd := &cobra.Command{
		Use:     "edge",
		Short:   "Cache a hub, or any web server, for its users",
		GroupID: "roles",
		Long: `Edge is a caching front for software distribution. It streams what it does
not have to the client while it stores it, asks the origin once however many
clients ask, and knows which files of an OSTree, rpm, apt or pacman repository
never change and which must be asked for again.

In front of a Freshet hub it follows the hub's event log, so that a publish
shows within a second. When the origin is away it goes on serving what it has.`,
		Example: `  freshet edge --origin https://hub.example.org --store /var/cache/freshet --size 200GB --listen :80
  curl -sI http://localhost/repo/stable/summary.idx | grep -i cache-status`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var cfg node.Config
			if err := flags.load(cmd, &cfg); err != nil {
				return err
			}
			cfg.Hub = nil
			if cfg.Edge == nil {
				cfg.Edge = new(edge.Config)
			}
			override(&cfg.Edge.Origin, set.Origin)
			override(&cfg.Edge.Listen, set.Listen)
			override(&cfg.Edge.Store, set.Store)
			override(&cfg.Edge.Size, set.Size)
			override(&cfg.Edge.Rules, set.Rules)
			override(&cfg.Edge.Follow, set.Follow)
			return flags.serve(cmd, cfg)
		},
	}
	cmd.AddCommand(newTopCommand())
	flags.register(cmd)
	cmd.AddCommand(newEdgePurgeCommand(), newEdgeWarmCommand(), newEdgeTokenCommand())
	f := cmd.Flags()
	f.StringVar(&set.Origin, "origin", "", "URL of the server to cache")
	f.StringVar(&set.Store, "store", "", "folder in which answers are kept")
	f.StringVar(&set.Listen, "listen", "", `address to serve on (default ":8081")`)
	f.TextVar(&set.Size, "size", config.Size(0), `what the store may take on disk (default "10GB")`)
	f.StringVar(&set.Rules, "rules", "", `"auto": by the kind of repository; "none": HTTP alone (default "auto")`)
	f.StringVar(&set.Follow, "follow", "", `hub's event log: "auto", "on", "off" or the hub's URL (default "auto")`)
	return cmd
}
