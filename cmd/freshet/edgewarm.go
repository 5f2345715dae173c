package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"freshet/api/edgeapi"
	"freshet/internal/config"
)

func newEdgeWarmCommand() *cobra.Command {
	var (
		flags edgeFlags
		req   edgeapi.WarmRequest
		rate  config.Size
	)
	cmd := &cobra.Command{
		Use:   "warm URL|REF...",
		Short: "Have a running edge fetch what its users are going to want",
		Long: `Warm makes a running edge fetch URLs, or whole refs of an OSTree or Flatpak
repository: the commit, its signatures and every object, or with --deltas the
static delta. What is stored and fresh is left alone, so an interrupted
warming goes on where it was.

An argument that begins with a slash, http:// or https:// is a URL; any other
is a ref, or a commit, of the repository --repo. The command fails when
something is not in the edge's store at the end.`,
		Example: `  freshet edge warm --token-file t /pool/main/h/hello/hello_2.10-3_amd64.deb
  freshet edge warm --token-file t --repo /repo/stable --rate 20MB app/org.example.App/x86_64/stable
  freshet edge warm --token-file t --repo /repo/stable --deltas --from COMMIT runtime/org.example.Platform/x86_64/1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args {
				if strings.HasPrefix(arg, "/") || strings.Contains(arg, "://") {
					req.URLs = append(req.URLs, arg)
				} else {
					req.Refs = append(req.Refs, arg)
				}
			}
			if len(req.Refs) > 0 && req.Repo == "" {
				return usageError(cmd, "%q is a ref: give --repo, the path of its repository (/repo/stable)", req.Refs[0])
			}
			req.Rate = int64(rate)
			client, err := flags.client(cmd)
			if err != nil {
				return err
			}
			return flags.atAdmin(warm(cmd, client, req))
		},
	}
	flags.register(cmd)
	f := cmd.Flags()
	f.StringVar(&req.Site, "site", "", `site by its name (default "default", or the first)`)
	f.StringVar(&req.Repo, "repo", "", "path of the repository that refs are of (/repo/stable)")
	f.BoolVar(&req.Deltas, "deltas", false, "fetch the static delta of a ref, if there is one, instead of its objects")
	f.StringVar(&req.From, "from", "", "commit that the delta begins at (default: from nothing)")
	f.TextVar(&rate, "rate", config.Size(0), "`size` to take from the origin in a second (\"20MB\"; default: no bound)")
	f.IntVar(&req.Parallel, "parallel", 8, "fetches under way at once")
	return cmd
}

// errIncomplete ends a warming that could not fetch everything.
var errIncomplete = errors.New("not everything is in the edge's store")

// warm gives the order and shows how it goes: as a bar on a terminal, else by
// its end alone. Failures are lines either way.
func warm(cmd *cobra.Command, client *edgeapi.Client, req edgeapi.WarmRequest) error {
	out := cmd.ErrOrStderr()
	var bar *progressbar.ProgressBar
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		bar = warmBar(out)
	}
	begun := time.Now()
	var last edgeapi.WarmProgress
	for p, err := range client.Warm(cmd.Context(), req) {
		if err != nil {
			clearBar(bar)
			return fmt.Errorf("warm: %w", err)
		}
		last = p
		if f := p.Failure; f != nil {
			clearBar(bar)
			_, _ = fmt.Fprintf(out, "%q: %s\n", f.URL, failureText(f))
		}
		if bar != nil && p.Total > 0 {
			bar.ChangeMax(p.Total)
			_ = bar.Set(min(p.Done, p.Total-1))
			bar.Describe(fmt.Sprintf("%d of %d, %s", p.Done, p.Total, config.Size(p.Bytes)))
		}
	}
	clearBar(bar)
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d fetched (%d bytes in %v), %d were there, %d failed\n",
		last.Fetched, last.Bytes, time.Since(begun).Round(10*time.Millisecond), last.Stored, last.Failed)
	if last.Failed > 0 {
		return fmt.Errorf("warm: %w: %d failed", errIncomplete, last.Failed)
	}
	return err
}

func warmBar(out io.Writer) *progressbar.ProgressBar {
	return progressbar.NewOptions(1, progressbar.OptionSetWriter(out), progressbar.OptionShowDescriptionAtLineEnd(),
		progressbar.OptionSetWidth(20), progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false),
		progressbar.OptionThrottle(100*time.Millisecond))
}

func clearBar(bar *progressbar.ProgressBar) {
	if bar != nil {
		_ = bar.Clear()
	}
}

func failureText(f *edgeapi.WarmFailure) string {
	if f.Status == 0 {
		return f.Reason
	}
	return fmt.Sprintf("%s (%d)", f.Reason, f.Status)
}
