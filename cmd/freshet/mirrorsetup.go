package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"freshet/api/directorapi"
	"freshet/internal/mirror/setup"
)

func newMirrorSetupCommand() *cobra.Command {
	var o setup.Options
	cmd := &cobra.Command{
		Use:   "setup CLAIM",
		Short: "Make this box a mirror, by a claim of its director",
		Long: `Setup makes a fresh box a mirror: it looks at the disk, the clock and rsync, shows the
claim to the director, pins the key that signs what is desired of the mirror, and writes the
configuration and its tokens. Whatever ends it, it may be repeated with the same claim.

The claim comes from "freshet director mirror claim NAME"; it is good once. A box
whose token is good no longer is set up again with a new one.`,
		Example: `  freshet mirror setup fc1_… --directory /srv/mirror
  freshet mirror --config /etc/freshet/mirror.toml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			claim, err := directorapi.ParseClaim(args[0])
			if err != nil {
				return usageError(cmd, "%w", err)
			}
			o.Claim = claim
			out := cmd.OutOrStdout()
			o.Say = func(line string) { _, _ = fmt.Fprintln(out, line) } // what is done counts
			r, err := setup.Run(cmd.Context(), o)
			if err != nil {
				return fmt.Errorf("mirror setup: %w", err)
			}
			if o.DryRun {
				_, err = fmt.Fprintf(out, "\nwould write %s:\n\n%s", o.Config, r.Config)
				return err
			}
			_, err = fmt.Fprintf(out, `
This box is mirror %s of %s. Next:
  freshet mirror --config %s
  freshet mirror status --admin http://%s --token-file %s
`, claim.Mirror, claim.URL, o.Config, cmp.Or(o.Admin, "127.0.0.1:9600"), r.OpsToken)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Directory, "directory", "/srv/mirror", "`folder` for the projects, on a file system that holds them all")
	f.StringVar(&o.Config, "config", "/etc/freshet/mirror.toml", "`file` for the configuration; its tokens are put beside it")
	f.StringVar(&o.Listen, "listen", "", `address to serve on (default ":8083")`)
	f.StringVar(&o.Admin, "admin", "", `address for operators (default "127.0.0.1:9600")`)
	f.BoolVar(&o.Rsync.AnyVersion, "any-rsync", false, "take an rsync of any version: one that the distribution mends without a new number")
	f.BoolVar(&o.DryRun, "dry-run", false, "look at everything, write nothing, and do not use up the claim")
	return cmd
}
