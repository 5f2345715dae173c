package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"freshet/internal/director"
	"freshet/internal/node"
)

func newDirectorCommand() *cobra.Command {
	var (
		flags serveFlags
		set   directorSettings
	)
	cmd := &cobra.Command{
		Use:     "director",
		Short:   "Tell clients which mirrors to download from",
		GroupID: "roles",
		Long: `Director sends each client that asks for a file to a mirror that has it, near
by and working, or to the origin. With --state it keeps a catalogue of mirrors,
which "freshet director mirror" and others change; finds out who has which file
and who works; and explains itself: ask for a file with "?why" behind its name.

With --snapshot it answers dnf and others who ask for a list of mirrors, a
metalink or one mirror from the files of MirrorManager, and speaks the protocol
of its mirrorlist-server; "freshet mirrorlist-server" takes the options of that
as well. One director may do both.

Files that change are read anew while it serves.`,
		Example: `  # send clients to mirrors
  freshet director --state /var/lib/freshet/director --geoip-city GeoLite2-City.mmdb --listen :80
  curl -LO http://localhost/fedora/releases/42/image.iso
  curl 'http://localhost/fedora/releases/42/image.iso?why'

  # with TLS: certificates from files, which may change while it runs, or got by
  # ACME for the names (Let's Encrypt, whose terms are agreed to by this)
  freshet director --state /var/lib/freshet/director --listen :80 --listen-tls :443 \
      --acme-dir /var/lib/freshet/acme --acme-host download.example.org

  # with the files of MirrorManager
  freshet director --snapshot mirrorlist_cache.proto --geoip GeoLite2-Country.mmdb \
      --netblocks global_netblocks.txt --continents country_continent.csv --listen :80
  curl 'http://localhost/mirrorlist?repo=epel-9&arch=x86_64'
  curl 'http://localhost/metalink?repo=epel-9&arch=x86_64&country=de'

  # one mirror for a file
  curl -I 'http://localhost/mirrorlist?path=pub/epel/9/Everything/x86_64/repodata/repomd.xml&redirect'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			build := func(flags *serveFlags) (node.Config, error) { return set.over(cmd, flags) }
			cfg, err := build(&flags)
			if err != nil {
				return err
			}
			return flags.serve(cmd, cfg, build)
		},
	}
	flags.register(cmd)
	set.register(cmd.Flags())
	cmd.AddCommand(
		newDirectorSnapshotCommand(), newDirectorTokenCommand(), newDirectorCatalogueCommand(),
		newDirectorProjectCommand(), newDirectorSiteCommand(), newDirectorMirrorCommand(), newDirectorDesiredCommand(),
	)
	return cmd
}

// directorSettings are the settings of a director that have flags.
type directorSettings struct {
	director.Config
	listeners listenerFlags
}

func (d *directorSettings) register(f *pflag.FlagSet) {
	d.listeners.register(f, ":8082", "")
	f.StringVar(&d.Snapshot, "snapshot", "", "`file` that says which mirror has what (mirrorlist_cache.proto)")
	f.StringVar(&d.State, "state", "", "`folder` for what is known of mirrors: send clients of files to them")
	f.StringVar(&d.Catalogue, "catalogue", "", "database, `URL` or file of the catalogue of mirrors (default: in the state folder)")
	f.BoolVar(&d.NoProbes, "no-probes", false, "take all mirrors to work")
	f.BoolVar(&d.NoScans, "no-scans", false, "read no listings of mirrors")
	f.StringVar(&d.GeoIPCity, "geoip-city", "", "MaxMind `database` of the places of addresses")
	f.StringVar(&d.GeoIPASN, "geoip-asn", "", "MaxMind `database` of autonomous systems")
	f.StringVar(&d.GeoIP, "geoip", "", "MaxMind `database` of the countries of addresses")
	f.StringVar(&d.Netblocks, "netblocks", "", "`table` of netblocks and their autonomous systems (global_netblocks.txt)")
	f.StringVar(&d.Continents, "continents", "", "`table` of countries and their continents (country_continent.csv)")
	f.IntVar(&d.Minimum, "minimum", 0, "how many mirrors near the client are enough; -1: any (default 5)")
	f.StringVar(&d.Prefer, "prefer", "", `URL of a mirror for who gets one: "https", or the "first" of the snapshot (default "https")`)
	f.BoolVar(&d.Strict, "strict", false, "answer as mirrorlist-server also where that is odd")
	f.StringVar(&d.RequestLog, "request-log", "", "`file` for the lines of which MirrorManager makes statistics")
}

// over reads the configuration file, if there is one, and puts the flags over
// it.
func (d *directorSettings) over(cmd *cobra.Command, flags *serveFlags) (cfg node.Config, err error) {
	if err := flags.load(cmd, &cfg); err != nil {
		return cfg, err
	}
	cfg.Hub, cfg.Edge, cfg.Mirror = nil, nil, nil
	if cfg.Director == nil {
		cfg.Director = new(director.Config)
	}
	c := cfg.Director
	if err := d.listeners.over(cmd, &c.Listeners); err != nil {
		return cfg, err
	}
	if d.listeners.given() && c.ListenTLS == "" {
		return cfg, usageError(cmd, "a certificate needs a listener: --listen-tls")
	}
	override(&c.Snapshot, d.Snapshot)
	override(&c.State, d.State)
	override(&c.Catalogue, d.Catalogue)
	override(&c.NoProbes, d.NoProbes)
	override(&c.NoScans, d.NoScans)
	override(&c.GeoIPCity, d.GeoIPCity)
	override(&c.GeoIPASN, d.GeoIPASN)
	override(&c.GeoIP, d.GeoIP)
	override(&c.Netblocks, d.Netblocks)
	override(&c.Continents, d.Continents)
	override(&c.Minimum, d.Minimum)
	override(&c.Prefer, d.Prefer)
	override(&c.Strict, d.Strict)
	override(&c.RequestLog, d.RequestLog)
	return cfg, nil
}
