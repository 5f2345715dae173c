package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"freshet/api/hubapi"
	"freshet/internal/auth"
)

func newHubPublishesCommand() *cobra.Command {
	var (
		c      hubClient
		ref    string
		before int64
		limit  int
	)
	cmd := &cobra.Command{
		Use:   "publishes REPO",
		Short: "Show what was published, when, and who asked for it",
		Long: `Publishes lists the changes of a repository, newest first: their number, the
refs that moved with the commits before and after, and who asked for the jobs.
The number is what "freshet hub rollback --undo" and "--to" take. It stands in
the repository's summaries too ("freshet.serial"), so that it can be told which
publish a mirror has.`,
		Example: `  freshet hub publishes stable --hub https://hub.example.org --token-file token
  freshet hub publishes stable --ref app/org.example.App/x86_64/stable
  freshet hub publishes stable --json | jq '.publishes[0].refs'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if before < 0 || limit < 0 {
				return usageError(cmd, "--before and --limit want numbers above zero")
			}
			client, err := c.client(cmd)
			if err != nil {
				return err
			}
			list, err := client.Publishes(cmd.Context(), args[0], ref, before, limit)
			if err != nil {
				return err
			}
			return c.answer(cmd, list, func(w io.Writer) error { return printPublishes(w, list, ref) })
		},
	}
	c.register(cmd, scopes(auth.ScopeJobs))
	f := cmd.Flags()
	f.StringVar(&ref, "ref", "", "only the publishes that moved this ref")
	f.Int64Var(&before, "before", 0, "only those with a lower number")
	f.IntVar(&limit, "limit", 0, "at most so many (default 50)")
	return cmd
}

// printPublishes prints a line for each ref that moved; with a ref that one alone.
func printPublishes(out io.Writer, list hubapi.PublishList, ref string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "NUMBER\tTIME\tJOB\tBY\tREF\tFROM\tTO\n") // Flush tells
	for _, publish := range list.Publishes {
		var jobs, actors []string
		for _, job := range publish.Jobs {
			jobs = append(jobs, fmt.Sprintf("%s %d", job.Kind, job.ID))
			if !slices.Contains(actors, job.Actor) {
				actors = append(actors, job.Actor)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(publish.Refs)) {
			if ref != "" && ref != name {
				continue
			}
			move := publish.Refs[name]
			_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", publish.Number, publish.Time.UTC().Format(time.RFC3339),
				orDash(strings.Join(jobs, ", ")), orDash(printable(strings.Join(actors, ", "))), printable(name),
				orDash(shortCommit(move.From)), orDash(shortCommit(move.To)))
		}
	}
	if list.Next > 0 {
		_, _ = fmt.Fprintf(w, "older ones: --before %d\n", list.Next)
	}
	return w.Flush()
}

// shortCommit abbreviates a checksum for people.
func shortCommit(commit string) string { return commit[:min(len(commit), 10)] }

func newHubRollbackCommand() *cobra.Command {
	var (
		c       hubClient
		request hubapi.RollbackRequest
	)
	cmd := &cobra.Command{
		Use:   "rollback REPO [REF[=COMMIT]...]",
		Short: "Put refs back to what was published before",
		Long: `Rollback makes refs have the content again that they had before, and waits until
that is published. Clients get it as an update: it is a new commit of the old
tree, because they refuse commits that are older than theirs.

REF goes back to what it was before its last publish, REF=COMMIT to a commit
that it had. --undo takes back one publish with all of its refs: what was new
in it is removed, what it removed returns. --to takes back everything that was
published after a publish. Their numbers are what "freshet hub publishes" shows.

Nothing is lost by a rollback: it is a publish like others, and can be undone.
When somebody publishes one of the refs in the meantime, the rollback fails and
changes nothing. To keep the next build from bringing the trouble back, place a
hold before (freshet hub hold).`,
		Example: `  # the last update of one application was bad
  freshet hub rollback stable app/org.example.App/x86_64/stable --reason 'does not start'

  # everything since Tuesday's publish 1234 was bad
  freshet hub rollback stable --to 1234 --reason 'signed with the wrong runtime'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, arg := range args[1:] {
				ref, commit, given := strings.Cut(arg, "=")
				if given && len(commit) != 64 {
					return usageError(cmd, "%q: want REF=COMMIT with a commit of 64 hexadecimal digits", arg)
				}
				if request.Refs == nil {
					request.Refs = make(map[string]string)
				}
				request.Refs[ref] = commit
			}
			given := 0
			for _, one := range [...]bool{len(request.Refs) > 0, request.Undo != 0, request.To != 0} {
				if one {
					given++
				}
			}
			if given != 1 {
				return usageError(cmd, "what to put back? Give refs, --undo or --to, and one of them only")
			}
			return c.move(cmd, func(client *hubapi.Client) (hubapi.Job, error) {
				return client.Rollback(cmd.Context(), args[0], request)
			})
		},
	}
	c.register(cmd, scopes(auth.ScopePublish, auth.ScopeJobs))
	f := cmd.Flags()
	f.Int64Var(&request.Undo, "undo", 0, "number of the publish to take back")
	f.Int64Var(&request.To, "to", 0, "number of the publish after which everything is taken back")
	f.StringVar(&request.Reason, "reason", "", "why, for the audit log")
	return cmd
}

func newHubUnpublishCommand() *cobra.Command {
	var (
		c       hubClient
		request hubapi.UnpublishRequest
	)
	cmd := &cobra.Command{
		Use:   "unpublish REPO [REF...]",
		Short: "Take refs out of a repository",
		Long: `Unpublish takes refs out of the summaries, the catalogue and the repository, and
waits until that is done. Who has them installed keeps them, and gets no updates.
The commits stay until they are pruned: until then "freshet hub rollback --undo"
brings the refs back.

Where users are meant to move to something else, publish the application with
an end-of-life notice instead.`,
		Example: `  freshet hub unpublish stable --app org.example.App --reason 'by wish of the author'
  freshet hub unpublish beta app/org.example.App/x86_64/beta`,
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Refs = args[1:]
			if len(request.Refs) == 0 && request.App == "" {
				return usageError(cmd, "what to take out? Give refs or --app")
			}
			return c.move(cmd, func(client *hubapi.Client) (hubapi.Job, error) {
				return client.Unpublish(cmd.Context(), args[0], request)
			})
		},
	}
	c.register(cmd, scopes(auth.ScopePublish, auth.ScopeJobs))
	f := cmd.Flags()
	f.StringVar(&request.App, "app", "", "all refs of this id and of those below it (ID.Locale)")
	f.StringVar(&request.Reason, "reason", "", "why, for the audit log")
	return cmd
}

// move queues a job and follows it.
func (c *hubClient) move(cmd *cobra.Command, queue func(*hubapi.Client) (hubapi.Job, error)) error {
	client, err := c.client(cmd)
	if err != nil {
		return err
	}
	job, err := queue(client)
	if err != nil {
		return err
	}
	return c.follow(cmd, client, job.ID)
}
