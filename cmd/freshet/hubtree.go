package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"freshet/api/hubapi"
	"freshet/internal/auth"
)

func newHubTreeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tree",
		Short: "Look at the generations of a plain tree, and go back to one",
		Long: `Tree is about plain trees: repositories of rpm, Debian, pacman and apk packages,
or any files, that "freshet push --tree" brings. Each publish makes a generation;
old ones stay for the tree's grace time (24 hours unless configured).`,
	}
	cmd.AddCommand(newHubTreeShowCommand(), newHubTreeRollbackCommand())
	return cmd
}

func newHubTreeShowCommand() *cobra.Command {
	var c hubClient
	cmd := &cobra.Command{
		Use:   "show TREE",
		Short: "Show the generations that are readable",
		Long: `Show lists the generations of a tree that can be read and gone back to, newest
first. The first is what clients see.`,
		Example: `  freshet hub tree show rpms --hub https://hub.example.org --token-file token`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client(cmd)
			if err != nil {
				return err
			}
			info, err := client.TreeInfo(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.answer(cmd, info, func(w io.Writer) error { return printGenerations(w, info) })
		},
	}
	c.register(cmd, tokenNeed{scopes: []auth.Scope{auth.ScopeUpload, auth.ScopeDownload}, anyOf: true})
	return cmd
}

func printGenerations(out io.Writer, info hubapi.TreeInfo) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "GENERATION\tPUBLISHED\tFILES\tBYTES\tEVENT\tREADABLE UNTIL\tNOTE\n") // Flush tells
	for _, g := range info.Generations {
		until := "current"
		if g.Retires != nil {
			until = g.Retires.UTC().Format(time.RFC3339)
		}
		_, _ = fmt.Fprintf(w, "%d\t%s\t%d\t%d\t%d\t%s\t%s\n", g.ID, g.Created.UTC().Format(time.RFC3339), g.Files, g.Bytes, g.Serial,
			until, orDash(printable(g.Note)))
	}
	return w.Flush()
}

func newHubTreeRollbackCommand() *cobra.Command {
	var c hubClient
	cmd := &cobra.Command{
		Use:   "rollback TREE [GENERATION]",
		Short: "Publish again what an older generation had",
		Long: `Rollback makes a new generation with the content of an older one, which must
still be readable; "freshet hub tree show" lists those. Without GENERATION it is
the one before the current. It is checked as a push is, by today's keys, and edges
are told.

Whether clients follow is for their format to say: apt takes an older Release
only if its Date is not older than what it has, pacman and dnf follow as a rule. A
push of metadata that were made anew always helps.`,
		Example: `  freshet hub tree show rpms
  freshet hub tree rollback rpms 41`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client(cmd)
			if err != nil {
				return err
			}
			id, err := c.generation(cmd, client, args)
			if err != nil {
				return err
			}
			done, err := client.RollbackTree(cmd.Context(), args[0], id)
			if err != nil {
				return errors.Join(err, c.problems(cmd, err))
			}
			return c.answer(cmd, done, func(w io.Writer) error {
				if done.Unchanged {
					_, err := fmt.Fprintf(w, "tree %s has that content already, as generation %d\n", args[0], done.ID)
					return err
				}
				_, err := fmt.Fprintf(w, "tree %s is now generation %d, with the content of %d (event %d)\n", args[0], done.ID, id, done.Serial)
				return err
			})
		},
	}
	c.register(cmd, scopes(auth.ScopePublish, auth.ScopeUpload))
	return cmd
}

// generation returns the one that the arguments name, or that before the
// current.
func (c *hubClient) generation(cmd *cobra.Command, client *hubapi.Client, args []string) (int64, error) {
	if len(args) > 1 {
		id, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil || id < 1 {
			return 0, usageError(cmd, "GENERATION: want the number of a generation, got %q", args[1])
		}
		return id, nil
	}
	info, err := client.TreeInfo(cmd.Context(), args[0])
	if err != nil {
		return 0, err
	}
	if len(info.Generations) < 2 {
		return 0, fmt.Errorf("tree %s has no older generation that is readable", args[0])
	}
	return info.Generations[1].ID, nil
}

// problems shows all that is wrong with a tree, of which the error itself has the
// first: as lines, or with --json as the hub's answer.
func (c *hubClient) problems(cmd *cobra.Command, err error) error {
	answer, ok := errors.AsType[*hubapi.Error](err)
	if !ok || len(answer.Problems) == 0 {
		return nil
	}
	if c.asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(answer)
	}
	var failed error
	for line := range answer.ProblemLines() {
		_, err := fmt.Fprintln(cmd.ErrOrStderr(), line)
		failed = cmp.Or(failed, err)
	}
	return failed
}
