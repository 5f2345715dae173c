package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"freshet/api/mirrorapi"
)

func newMirrorPlanCommand() *cobra.Command {
	var flags mirrorFlags
	cmd := &cobra.Command{
		Use:   "plan PROJECT",
		Short: "Find out how large a project is before it is fetched",
		Long: `Plan has a running mirror read the metadata of a project of its configuration, and
nothing else, and says how many files it has as it is configured, how much of
that is to be fetched, about how long that takes, and whether it fits on the
disk. To plan before the first sync, give the project the schedule "never".`,
		Example: `  freshet mirror plan epel
  freshet mirror plan debian --json | jq .bytes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, &flags, func(c *mirrorapi.Client) (mirrorapi.Plan, error) {
				return c.Plan(cmd.Context(), args[0])
			}, printPlan)
		},
	}
	flags.register(cmd)
	return cmd
}

// mostRepositories is how many repositories of a plan are listed.
const mostRepositories = 30

func printPlan(out io.Writer, p mirrorapi.Plan) error {
	o := &lineWriter{w: out}
	o.printf("%s: %d files, %s\n", p.Project, p.Files, bytesText(p.Bytes))
	o.printf("  to fetch: %d files, %s", p.Fetch.Files, bytesText(p.Fetch.Bytes))
	if p.Rate > 0 {
		o.printf(": about %s at %s/s", ageText(int64(p.Time.Seconds())), bytesText(p.Rate))
	}
	o.printf("\n")
	if p.Held.Files > 0 {
		o.printf("  is here: %d files, %s\n", p.Held.Files, bytesText(p.Held.Bytes))
	}
	fits := "it fits"
	if !p.Fits {
		fits = "IT DOES NOT FIT"
	}
	o.printf("  the disk has %s for it: %s\n", bytesText(p.Free), fits)
	o.printf("  read for this: %d files, %s, from %s\n", p.Metadata.Files, bytesText(p.Metadata.Bytes), cmp.Or(printable(p.Upstream), "a listing"))
	for _, note := range p.Notes {
		o.printf("  note: %s\n", printable(note))
	}
	largest := slices.SortedStableFunc(slices.Values(p.Repositories), func(a, b mirrorapi.PlanRepository) int { return cmp.Compare(b.Bytes, a.Bytes) })
	for i, r := range largest {
		if i == mostRepositories {
			o.printf("  and %d smaller repositories\n", len(largest)-i)
			break
		}
		o.printf("  %s  %s in %d files\n", fmt.Sprintf("%10s", bytesText(r.Bytes)), printable(r.Path), r.Files)
	}
	return o.err
}
