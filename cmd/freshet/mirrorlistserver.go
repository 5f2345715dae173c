package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"freshet/internal/director"
	"freshet/internal/doors"
	"freshet/internal/node"
)

// mirrorlistServerName is the name of the command, and of a program that is this one
// and takes only that command's options.
const mirrorlistServerName = "mirrorlist-server"

// underName is the command line of a program that was started under the name of a
// command: with that in front.
func underName(args []string) []string {
	if filepath.Base(args[0]) == mirrorlistServerName {
		return append([]string{mirrorlistServerName}, args[1:]...)
	}
	return args[1:]
}

// mirrorlistServer are the options of MirrorManager's mirrorlist-server, and some of
// ours.
type mirrorlistServer struct {
	listen, port, minimum string
	cache, netblocks      string
	internet2             string // is not read any more
	log, continents       string
	geoip                 string

	admin, logLevel     string
	preferHTTPS, strict bool
}

func newMirrorlistServerCommand() *cobra.Command {
	var m mirrorlistServer
	cmd := &cobra.Command{
		Use:     mirrorlistServerName,
		Short:   "Run a director with the options of MirrorManager's mirrorlist-server",
		GroupID: "roles",
		Long: `Mirrorlist-server is "freshet director" in the place of MirrorManager's program of
that name: with its options and their defaults, the same answers and the same
log. It does the same when freshet is started under this name, by a link for
instance.

Unlike that program it needs no restart for new files: it reads them when they
change, and at SIGHUP.`,
		Example: `  freshet mirrorlist-server --port 18081 -c /var/lib/mirrormanager/mirrorlist_cache.proto \
      -g /var/lib/mirrormanager/global_netblocks.txt -l /var/log/mirrormanager/mirrorlist.log

  ln -s /usr/bin/freshet /usr/local/bin/mirrorlist-server
  mirrorlist-server --listen 127.0.0.1 --port 18081`,
		RunE: func(cmd *cobra.Command, _ []string) error { return m.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&m.listen, "listen", "127.0.0.1", "`address` to listen on")
	f.StringVar(&m.port, "port", "3000", "TCP `port` to listen on")
	f.StringVarP(&m.minimum, "minimum", "m", "5", "`number` of mirrors near the client that are enough")
	f.StringVarP(&m.cache, "cache", "c", "/var/lib/mirrormanager/mirrorlist_cache.proto", "`file` that says which mirror has what")
	f.StringVarP(&m.internet2, "internet2_netblocks", "i", "", "`file` that is not read any more")
	f.StringVarP(&m.netblocks, "global_netblocks", "g", "/var/lib/mirrormanager/global_netblocks.txt", "`table` of netblocks and their autonomous systems")
	f.StringVarP(&m.log, "log", "l", "/var/log/mirrormanager/mirrorlist.log", "`file` to append a line to for each request for a repository")
	f.StringVar(&m.continents, "cccsv", "/var/lib/mirrormanager/country_continent.csv", "`table` of countries and their continents")
	f.StringVar(&m.geoip, "geoip", "/usr/share/GeoIP/GeoLite2-Country.mmdb", "MaxMind `database` of the countries of addresses")
	f.BoolVar(&m.preferHTTPS, "prefer-https", false, "give who gets one URL of a mirror that with https, instead of the first")
	f.BoolVar(&m.strict, "strict", false, "answer as the old program also where that is odd")
	f.StringVar(&m.admin, "admin", "", "address for operators: health, metrics, profiles (never public)")
	f.StringVar(&m.logLevel, "log-level", "", `debug, info, warn or error (default "info")`)
	return cmd
}

// run runs the director that the options describe.
func (m *mirrorlistServer) run(cmd *cobra.Command) error {
	build := func(flags *serveFlags) (cfg node.Config, err error) {
		if err := flags.load(cmd, &cfg); err != nil {
			return cfg, err
		}
		cfg.Director = m.director(cmd)
		return cfg, nil
	}
	flags := &serveFlags{admin: m.admin, logLevel: m.logLevel, accessLog: "off"}
	cfg, err := build(flags)
	if err != nil {
		return err
	}
	flags.ready = func() { _, _ = fmt.Fprintf(cmd.OutOrStdout(), "Listening on http://%s\n", cfg.Director.Listen) }
	return flags.serve(cmd, cfg, build)
}

// director is the configuration that the options say.
func (m *mirrorlistServer) director(cmd *cobra.Command) *director.Config {
	cfg := &director.Config{
		Listeners: doors.Listeners{Listen: net.JoinHostPort(strings.Trim(m.listen, "[]"), strconv.Itoa(m.number(cmd, "port", m.port, 3000)))},
		Snapshot:  m.cache, GeoIP: m.geoip, Netblocks: m.netblocks, Continents: m.continents,
		Minimum: m.number(cmd, "minimum", m.minimum, 5), RequestLog: m.log,
		Prefer: "first", Strict: m.strict,
	}
	if m.preferHTTPS {
		cfg.Prefer = "https"
	}
	if cfg.Minimum == 0 {
		cfg.Minimum = -1 // 0 stands for the default there
	}
	return cfg
}

// mirrorlistServerTable is the table that the options of this command are of, if cmd is
// that command.
func mirrorlistServerTable(cmd *cobra.Command) string {
	if cmd.Name() == mirrorlistServerName {
		return "director"
	}
	return ""
}

// mirrorlistServerFlag is the option for a setting of a director.
func mirrorlistServerFlag(setting string) string {
	switch setting {
	case "snapshot":
		return "cache"
	case "netblocks":
		return "global_netblocks"
	case "continents":
		return "cccsv"
	case "request-log":
		return "log"
	}
	return setting
}

// number is the value of an option. One that is no number is told of, and the default
// counts: so did the old program.
func (m *mirrorlistServer) number(cmd *cobra.Command, name, value string, otherwise int) int {
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "freshet: --%s: %q is no number: it is %d\n", name, value, otherwise)
		return otherwise
	}
	return int(n)
}
