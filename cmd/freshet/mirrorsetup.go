package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"freshet/api/directorapi"
	"freshet/api/mirrorapi"
	"freshet/internal/mirror/setup"
	"freshet/internal/page"
)

func newMirrorSetupCommand() *cobra.Command {
	var o setup.Options
	cmd := &cobra.Command{
		Use:   "setup CLAIM",
		Short: "Make this box a mirror, by a claim of its director",
		Long: `Setup makes a fresh box a mirror: it looks at the disk, the clock and rsync, shows the
claim to the director, pins the key that signs what is desired of the mirror, and writes the
configuration and its tokens. Whatever ends it, it may be repeated with the same claim.

With --service, as root, the mirror then runs as a service of systemd, with a user of its own that
is given the folder and may read the mirror's token. Where that cannot be done, it says what is to be
done by hand, and fails. In the end the doctor looks at all of it.

The claim comes from "freshet director mirror claim NAME"; it is good once. A box
whose token is good no longer is set up again with a new one.`,
		Example: `  sudo freshet mirror setup fc1_… --directory /srv/mirror --service
  sudo freshet mirror setup fc1_… --service --ca our-authority.pem

  # without systemd
  freshet mirror setup fc1_… --directory /srv/mirror
  freshet mirror --config /etc/freshet/mirror.toml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			claim, err := directorapi.ParseClaim(args[0])
			if err != nil {
				return usageError(cmd, "%w", err)
			}
			o.Claim = claim
			syscall.Umask(0o022) // others than root are to come to what is made; what is secret says so
			out := cmd.OutOrStdout()
			o.Say = func(line string) { _, _ = fmt.Fprintln(out, line) } // what is done counts
			r, err := setup.Run(cmd.Context(), o)
			if err != nil && !errors.Is(err, setup.ErrByHand) {
				return fmt.Errorf("mirror setup: %w", err)
			}
			byHand := err
			if o.DryRun {
				_, err = fmt.Fprintf(out, "\nwould write %s:\n\n%s", o.Config, r.Config)
				return err
			}
			admin := "http://" + cmp.Or(o.Admin, "127.0.0.1:9600")
			d, err := lookAfterSetup(cmd, &o, r, admin, o.Service && byHand == nil)
			if err != nil {
				return fmt.Errorf("mirror setup: %w", err)
			}
			if err := printDiagnosis(out, d); err != nil {
				return err
			}
			start := ""
			if !o.Service && !r.Runs { // or it runs, or it was said how it is to be begun
				start = "  freshet mirror --config " + o.Config + "\n"
			}
			_, err = fmt.Fprintf(out, `
This box is mirror %s of %s. Next:
%s  freshet mirror status --admin %s --token-file %s
`, claim.Mirror, claim.URL, start, admin, r.OpsToken)
			if n := sick(d); n > 0 {
				err = errors.Join(err, fmt.Errorf("mirror setup: it is done, and %s wrong: see above, and freshet mirror doctor --config %s", page.Plural(n, "thing is", "things are"), o.Config))
			}
			if byHand != nil {
				err = errors.Join(err, fmt.Errorf("mirror setup: %w", byHand))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Directory, "directory", "/srv/mirror", "`folder` for the projects, on a file system that holds them all")
	f.StringVar(&o.Config, "config", "/etc/freshet/mirror.toml", "`file` for the configuration; its tokens are put beside it")
	f.StringVar(&o.Listen, "listen", "", `address to serve on (default ":8083")`)
	f.StringVar(&o.Admin, "admin", "", `address for operators (default "127.0.0.1:9600")`)
	f.BoolVar(&o.Service, "service", false, "have it run as a service of systemd, or say what is to be done for that")
	f.StringVar(&o.User, "user", "", "`user` that the mirror runs as (default: you; with --service "+setup.ServiceUser+")")
	f.StringVar(&o.CA, "ca", "", "`file` with the certificates that vouch for the director's (default: the system's)")
	f.BoolVar(&o.Rsync.AnyVersion, "any-rsync", false, "take an rsync of any version: one that the distribution mends without a new number")
	f.BoolVar(&o.DryRun, "dry-run", false, "look at everything, write nothing, and do not use up the claim")
	return cmd
}

// lookAfterSetup asks the mirror that runs what is wrong, or looks at one that is to be started.
func lookAfterSetup(cmd *cobra.Command, o *setup.Options, r setup.Result, admin string, begun bool) (mirrorapi.Diagnosis, error) {
	if begun || r.Runs {
		token, err := os.ReadFile(r.OpsToken)
		if err != nil {
			return mirrorapi.Diagnosis{}, err
		}
		client := mirrorapi.Client{Base: admin, Token: strings.TrimSpace(string(token))}
		if d, err := client.Doctor(cmd.Context()); err == nil {
			return d, nil
		}
	}
	d := examineMirror(cmd, o.Config)
	if !begun && !r.Runs {
		// It is not to run yet.
		d.Findings = slices.DeleteFunc(d.Findings, func(f mirrorapi.Finding) bool { return f.About == "mirror" })
	}
	return d, nil
}

// sick is how many things are wrong.
func sick(d mirrorapi.Diagnosis) (n int) {
	for _, f := range d.Findings {
		if f.Level == mirrorapi.LevelError {
			n++
		}
	}
	return n
}
