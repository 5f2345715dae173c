package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"freshet/internal/config"
	"freshet/internal/edge"
	"freshet/internal/node"
)

func newEdgeCommand() *cobra.Command {
	var (
		flags serveFlags
		set   edgeSettings
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
		Example: `  # in front of a hub, or of any web server
  freshet edge --origin https://hub.example.org --store /var/cache/freshet --size 200GB --listen :80
  curl -sI http://localhost/repo/stable/summary.idx | grep -i cache-status

  # by HTTP's rules alone, as a general cache; metrics for this machine only
  freshet edge --origin http://127.0.0.1:8000 --store ./cache --rules none --admin 127.0.0.1:9600

  # with TLS: certificates from files, which may change while it runs, or got by
  # ACME for the names (Let's Encrypt, whose terms are agreed to by this)
  freshet edge --origin https://hub.example.org --store /var/cache/freshet \
      --listen :80 --listen-tls :443 --tls-cert edge.pem --tls-key edge.key
  freshet edge --origin https://hub.example.org --store /var/cache/freshet \
      --listen :80 --listen-tls :443 --acme-dir /var/lib/freshet/acme --acme-host dl.example.org

  # more than flags can say: several sites, access rules, limits
  freshet config default >freshet.toml
  freshet edge --config freshet.toml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			build := func(flags *serveFlags) (node.Config, error) { return set.over(cmd, flags) }
			cfg, err := build(&flags)
			if err != nil {
				return err
			}
			return flags.serve(cmd, cfg, build)
		},
	}
	cmd.AddCommand(newTopCommand())
	flags.register(cmd)
	cmd.AddCommand(newEdgePurgeCommand(), newEdgeWarmCommand(), newEdgeTokenCommand(), newEdgeStoreCommand())
	f := cmd.Flags()
	set.register(f)
	return cmd
}

// edgeSettings are the settings of an edge that have flags.
type edgeSettings struct {
	edge.Config
	listeners listenerFlags
}

func (e *edgeSettings) register(f *pflag.FlagSet) {
	f.StringVar(&e.Origin, "origin", "", "URL of the server to cache")
	f.StringVar(&e.Store, "store", "", "folder in which answers are kept")
	e.listeners.register(f, ":8081", "; default: the hosts of all sites")
	f.StringVar(&e.ListenH3, "listen-h3", "", `address to serve on by HTTP/3`)
	f.TextVar(&e.Size, "size", config.Size(0), "`size` that the store may take on disk (default \"10GB\")")
	f.StringVar(&e.Rules, "rules", "", `"auto": by the kind of repository; "none": HTTP alone (default "auto")`)
	f.StringVar(&e.Follow, "follow", "", `hub's event log: "auto", "on", "off" or the hub's URL (default "auto")`)
}

// over reads the configuration file, if there is one, and puts the flags over
// it.
func (e *edgeSettings) over(cmd *cobra.Command, flags *serveFlags) (cfg node.Config, err error) {
	if err := flags.load(cmd, &cfg); err != nil {
		return cfg, err
	}
	cfg.Hub, cfg.Mirror, cfg.Director = nil, nil, nil
	if cfg.Edge == nil {
		cfg.Edge = new(edge.Config)
	}
	if err := e.listeners.over(cmd, &cfg.Edge.Listeners); err != nil {
		return cfg, err
	}
	override(&cfg.Edge.Origin, e.Origin)
	override(&cfg.Edge.ListenH3, e.ListenH3)
	override(&cfg.Edge.Store, e.Store)
	override(&cfg.Edge.Size, e.Size)
	override(&cfg.Edge.Rules, e.Rules)
	override(&cfg.Edge.Follow, e.Follow)
	if e.listeners.given() && cfg.Edge.ListenTLS == "" && cfg.Edge.ListenH3 == "" {
		return cfg, usageError(cmd, "a certificate needs a listener: --listen-tls or --listen-h3")
	}
	return cfg, nil
}
