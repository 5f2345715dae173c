package main

import (
	"cmp"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"freshet/internal/config"
	"freshet/internal/node"
	"freshet/internal/top"
)

// defaultAdmin is where an admin listener usually is.
const defaultAdmin = "127.0.0.1:9600"

func newTopCommand() *cobra.Command {
	var (
		admin, file, ca string
		every           time.Duration
		once            bool
	)
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show live what an edge does",
		Long: `Top reads the metrics of an edge's admin listener twice a second and shows
requests and bytes by outcome, hit ratios, times to the first byte, errors by
reason, origins, the store and how far the edge is behind its hubs. Rates and
times are those of the last five seconds; the plots are of single moments.

q quits. With --once, or when the output is no terminal, it measures for one
interval, prints the result as text and ends.`,
		Example: `  freshet edge top
  freshet edge top --admin http://edge1.example.org:9600
  freshet edge top --admin https://edge1.example.org:9600 --ca ca.pem
  freshet edge top --once --every 10s`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 0 {
				return usageError(cmd, "--every: must not be negative")
			}
			if file != "" && admin == "" {
				var cfg node.Config
				if _, err := config.Read(file, &cfg); err != nil {
					return err
				}
				if cfg.Admin.Listen == "" {
					return usageError(cmd, "%s has no admin.listen", file)
				}
				admin = adminURL(cfg.Admin.Listen)
				if cfg.Admin.Cert != "" {
					admin = "https" + strings.TrimPrefix(admin, "http")
				}
			}
			client, err := adminClient(ca, "", "")
			if err != nil {
				return err
			}
			opt := top.Options{Admin: adminURL(cmp.Or(admin, os.Getenv(adminVariable), defaultAdmin)), Every: every, Client: client, In: cmd.InOrStdin(), Out: cmd.OutOrStdout()}
			out, ok := cmd.OutOrStdout().(*os.File)
			if once || !ok || !term.IsTerminal(int(out.Fd())) {
				return atAdmin("edge", top.Once(cmd.Context(), opt))
			}
			return atAdmin("edge", top.Run(cmd.Context(), opt))
		},
	}
	f := cmd.Flags()
	f.StringVar(&admin, "admin", "", `URL or address of the admin listener (default $`+adminVariable+` or "`+defaultAdmin+`")`)
	f.StringVar(&ca, "ca", "", "file with the certificates that vouch for the listener's (default: the system's)")
	f.StringVarP(&file, "config", "c", "", "configuration file of the edge, to find the admin listener by")
	f.DurationVar(&every, "every", 500*time.Millisecond, "time between measurements")
	f.BoolVar(&once, "once", false, "print one measurement as text and end")
	return cmd
}

// adminURL is the URL of an admin listener that may be given by its address.
func adminURL(s string) string {
	if strings.Contains(s, "://") {
		return s
	}
	if strings.HasPrefix(s, ":") {
		s = "127.0.0.1" + s
	}
	return "http://" + s
}
