package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"freshet/internal/config"
	"freshet/internal/mirror"
	"freshet/internal/mirror/presets"
	"freshet/internal/node"
)

func newMirrorCommand() *cobra.Command {
	var (
		flags serveFlags
		set   mirrorSettings
	)
	cmd := &cobra.Command{
		Use:     "mirror",
		Short:   "Hold whole copies of projects, and serve them",
		GroupID: "roles",
		Long: `Mirror keeps whole copies of projects: it looks when there is something new
upstream, fetches what is missing beside what it serves, checks that all is
there and signed, and then serves it in one step. Nobody ever sees an index
whose packages are missing, whenever the power fails.

What is mirrored stands in the configuration, in tables [mirror.projects.NAME];
"freshet mirror presets" lists projects that need one line there. The commands
below talk to a running mirror by its admin listener.`,
		Example: `  # mirror.toml:
  #   [mirror]
  #   directory = "/srv/mirror"
  #   [mirror.projects.epel]
  #   preset = "epel"
  #   releases = ["10"]
  freshet mirror token ops --out ops.token >>mirror.toml
  freshet mirror --config mirror.toml --admin 127.0.0.1:9600

  # in another terminal
  export FRESHET_MIRROR_TOKEN=$(cat ops.token)
  freshet mirror plan epel
  freshet mirror sync epel
  freshet mirror status`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := set.over(cmd, &flags)
			if err != nil {
				return err
			}
			return flags.serve(cmd, cfg, func(again *serveFlags) (node.Config, error) { return set.over(cmd, again) })
		},
	}
	flags.register(cmd)
	set.register(cmd.Flags())
	cmd.AddCommand(
		newMirrorSetupCommand(), newMirrorSyncCommand(), newMirrorCancelCommand(), newMirrorStatusCommand(), newMirrorLogCommand(), newMirrorDoctorCommand(),
		newMirrorGenerationsCommand(), newMirrorRollbackCommand(), newMirrorHoldCommand(), newMirrorReleaseCommand(), newMirrorDropCommand(), newMirrorVerifyCommand(),
		newMirrorPlanCommand(), newMirrorTriggerCommand(), newMirrorTriggerKeyCommand(), newMirrorPresetsCommand(), newMirrorTokensCommand(),
	)
	return cmd
}

// mirrorSettings are the settings of a mirror that have flags.
type mirrorSettings struct{ mirror.Config }

func (m *mirrorSettings) register(f *pflag.FlagSet) {
	f.StringVar(&m.Directory, "directory", "", "`folder` for the projects, on a file system that holds them all")
	f.StringVar(&m.Listen, "listen", "", `address to serve on (default ":8083")`)
	f.StringVar(&m.Node, "node", "", "name that the mirror tells others (default: that of the machine)")
	f.TextVar(&m.Limits.Bandwidth, "bandwidth", config.Rate(0), "`rate` at which all projects together are received (\"200Mbit/s\"; default: no bound)")
	f.IntVar(&m.Limits.Syncs, "syncs", 0, "how many projects are synced at once (default 2)")
}

// over reads the configuration file, if there is one, and puts the flags over it.
func (m *mirrorSettings) over(cmd *cobra.Command, flags *serveFlags) (cfg node.Config, err error) {
	if err := flags.load(cmd, &cfg); err != nil {
		return cfg, err
	}
	cfg.Hub, cfg.Edge, cfg.Director = nil, nil, nil
	if cfg.Mirror == nil {
		cfg.Mirror = new(mirror.Config)
	}
	c := cfg.Mirror
	override(&c.Directory, m.Directory)
	override(&c.Listen, m.Listen)
	override(&c.Node, m.Node)
	override(&c.Limits.Bandwidth, m.Limits.Bandwidth)
	override(&c.Limits.Syncs, m.Limits.Syncs)
	return cfg, nil
}

func newMirrorPresetsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "presets [NAME]",
		Short: "List the projects that need one line of configuration",
		Long: `Presets lists projects of which it is known where they come from and what they
consist of, with about how large they are, and in which year that was seen;
"freshet mirror plan" finds out how large one is now. With a NAME it prints what the
preset says, as the table would that says the same, and where the keys are had that sign
it: these are named in the project's own table, after their fingerprints were compared
with what the project says elsewhere, because no preset can say whom you trust. Each
setting can be said otherwise there.`,
		Example: `  freshet mirror presets
  freshet mirror presets epel`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return listPresets(cmd.OutOrStdout())
			}
			p, err := presets.Find(args[0])
			if err != nil {
				return usageError(cmd, "%w", err)
			}
			return printPreset(cmd.OutOrStdout(), p)
		},
	}
}

func listPresets(out io.Writer) error {
	all, err := presets.All()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "PRESET\tKIND\tSIZE\tWHAT IT IS") // Flush tells
	for _, p := range all {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.Name, p.Config.Kind, presetSize(p), p.Title)
	}
	return w.Flush()
}

// presetSize is about how large a project is.
func presetSize(p presets.Preset) string {
	seen := func(size config.Size, year int) string {
		if year == 0 {
			return bytesText(int64(size))
		}
		return fmt.Sprintf("%s (%d)", bytesText(int64(size)), year)
	}
	switch {
	case p.Size > 0 && p.Whole > 0:
		return seen(p.Size, p.Seen) + " of " + seen(p.Whole, p.WholeSeen)
	case p.Size > 0:
		return seen(p.Size, p.Seen)
	case p.Whole > 0:
		return "part of " + seen(p.Whole, p.WholeSeen)
	}
	return "see plan"
}

func printPreset(out io.Writer, p presets.Preset) error {
	_, err := fmt.Fprintf(out, "# %s: %s\n# size: %s; more: %s\n# keys: %s\n", p.Name, p.Title, presetSize(p), cmp.Or(p.Home, "-"), p.Keys)
	if !strings.HasPrefix(p.Keys, "none") {
		_, lerr := fmt.Fprintf(out, "#   before you name one: gpg --show-keys FILE, and compare its fingerprint with the one that the project\n#   tells elsewhere; where keys are changes, and nobody has compared them for you\n")
		err = errors.Join(err, lerr)
	}
	if p.Notes != "" {
		_, lerr := fmt.Fprintf(out, "# %s\n", p.Notes)
		err = errors.Join(err, lerr)
	}
	_, lerr := fmt.Fprintf(out, "[mirror.projects.%s]\n%s", p.Name, p.Text)
	return errors.Join(err, lerr)
}
