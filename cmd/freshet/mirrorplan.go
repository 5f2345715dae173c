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
disk. To plan before the first sync, give the project the schedule "never".

Lists of checksums and OSTree repositories tell no sizes. Those are taken from the
listing of an upstream by rsync, or a few hundred files are asked for by HTTP; what
remains without a size is told, with what is known as the least that it can be.`,
		Example: `  freshet mirror plan epel
  freshet mirror plan debian --json | jq '.bytes, .unsized, .room'`,
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
	least := ""
	if p.Unsized > 0 {
		least = "at least "
	}
	o.printf("%s: %s, %s%s\n", p.Project, filesText(p.Files), least, bytesText(p.Bytes))
	if p.Unsized > 0 {
		o.printf("  NOT KNOWN: the size of %s, which nobody tells%s\n", filesText(p.Unsized), guessText(p))
	}
	o.printf("  to fetch: %s, %s%s", filesText(p.Fetch.Files), least, bytesText(p.Fetch.Bytes))
	switch {
	case p.Rate > 0 && p.Unsized > 0 && p.Guess == 0:
		o.printf(": %s or longer at %s/s", ageText(int64(p.Time.Seconds())), bytesText(p.Rate))
	case p.Rate > 0:
		o.printf(": about %s at %s/s", ageText(int64(p.Time.Seconds())), bytesText(p.Rate))
	}
	o.printf("\n")
	if p.Held.Files > 0 {
		o.printf("  is here: %s, %s\n", filesText(p.Held.Files), bytesText(p.Held.Bytes))
	}
	o.printf("  the disk has %s for it: %s\n", bytesText(p.Free), roomText(p))
	o.printf("  read for this: %s, %s, from %s\n", filesText(p.Metadata.Files), bytesText(p.Metadata.Bytes), cmp.Or(printable(p.Upstream), "a listing"))
	for _, note := range p.Notes {
		o.printf("  note: %s\n", printable(note))
	}
	largest := slices.SortedStableFunc(slices.Values(p.Repositories), func(a, b mirrorapi.PlanRepository) int { return cmp.Compare(b.Bytes, a.Bytes) })
	for i, r := range largest {
		if i == mostRepositories {
			o.printf("  and %d smaller repositories\n", len(largest)-i)
			break
		}
		o.printf("  %10s  %s in %s", bytesText(r.Bytes), printable(r.Path), filesText(r.Files))
		if r.Unsized > 0 {
			o.printf(", %d of them without a size", r.Unsized)
		}
		o.printf("\n")
	}
	return o.err
}

// guessText is what a sample says of the files whose size nobody tells.
func guessText(p mirrorapi.Plan) string {
	if p.Guess == 0 {
		return ""
	}
	return fmt.Sprintf("; about %s, if they are like %d that were asked for", bytesText(p.Guess), p.Sampled)
}

// roomText says whether a project fits.
func roomText(p mirrorapi.Plan) string {
	switch {
	case p.Room == mirrorapi.RoomShort:
		return "IT DOES NOT FIT"
	case p.Room == mirrorapi.RoomUnknown && p.Guess > 0 && p.Fetch.Bytes+p.Guess > p.Free:
		return "whether it fits is not known; by the sample it does NOT"
	case p.Room == mirrorapi.RoomUnknown && p.Guess > 0:
		return "whether it fits is not known; by the sample it does"
	case p.Room == mirrorapi.RoomUnknown:
		return "whether it fits is not known"
	}
	return "it fits"
}
