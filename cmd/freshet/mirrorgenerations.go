package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"freshet/api/mirrorapi"
	"freshet/internal/page"
)

func newMirrorGenerationsCommand() *cobra.Command {
	var flags mirrorFlags
	cmd := &cobra.Command{
		Use:   "generations PROJECT",
		Short: "List the versions of a project that are on the disk",
		Long: `Generations lists the versions of a project that a mirror has, newest first: the
one that is served, and older ones, whose files are served until their grace
time is over when the current one has not got them.`,
		Example: "  freshet mirror generations epel",
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, &flags, func(c *mirrorapi.Client) (mirrorapi.Generations, error) {
				return c.Generations(cmd.Context(), args[0])
			}, printProjectGenerations)
		},
	}
	flags.register(cmd)
	return cmd
}

func printProjectGenerations(out io.Writer, list mirrorapi.Generations) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "GENERATION\tSERVED SINCE\tUNTIL\tFILES\tSIZE\tTAKES ALONE") // Flush tells
	for _, g := range list.Generations {
		end, alone := "current", ""
		if !g.Current {
			end, alone = when(g.Until)+" at the latest", bytesText(g.Frees)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", g.ID, when(g.Made), end, g.Files, bytesText(g.Bytes), alone)
	}
	err := w.Flush()
	if list.Hold != nil {
		_, lerr := fmt.Fprintf(out, "%s is held %s; freshet mirror release %s ends that\n", list.Project, holdText(*list.Hold), list.Project)
		err = errors.Join(err, lerr)
	}
	return err
}

func newMirrorRollbackCommand() *cobra.Command {
	var (
		flags mirrorFlags
		req   mirrorapi.GenerationRequest
	)
	cmd := &cobra.Command{
		Use:   "rollback PROJECT [GENERATION]",
		Short: "Serve an older version of a project, and hold it",
		Long: `Rollback serves an older generation of a project, by default the newest before the
current one, at once, and holds the project: it stays so, also after a restart. A sync
that runs is ended, and what is ordered or triggered meanwhile waits. When upstream is
as it should be, "freshet mirror release PROJECT" has the project synced again.`,
		Example: `  freshet mirror rollback epel --reason 'upstream has published a broken kernel'
  freshet mirror rollback epel 41
  freshet mirror release epel`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				req.ID = args[1]
			}
			return ask(cmd, &flags, func(c *mirrorapi.Client) (mirrorapi.Generations, error) {
				return c.Rollback(cmd.Context(), args[0], req)
			}, printProjectGenerations)
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for those who wonder")
	return cmd
}

func newMirrorDropCommand() *cobra.Command {
	var (
		flags    mirrorFlags
		all, yes bool
	)
	cmd := &cobra.Command{
		Use:   "drop PROJECT [GENERATION]",
		Short: "Remove an older version of a project before its time, or a project that is configured no more",
		Long: `Drop removes a generation that is not the current one, and frees what it alone
takes. Clients that have read its index may miss files then.

With --all it removes a project that is not in the mirror's configuration any more,
with all its generations and the reports of its syncs. It asks before, unless --yes says that
it need not. "freshet mirror status" tells which projects are left on the disk. What the
mirror has not removed after ten minutes it goes on with by itself.`,
		Example: `  freshet mirror drop epel 000041
  freshet mirror drop epel --all`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case all && len(args) > 1:
				return usageError(cmd, "--all is about the whole project: leave out the GENERATION")
			case all:
				return dropAll(cmd, &flags, args[0], yes)
			case len(args) < 2:
				return usageError(cmd, "GENERATION is missing, or --all for the whole project")
			}
			return ask(cmd, &flags, func(c *mirrorapi.Client) (mirrorapi.Generations, error) {
				return c.Drop(cmd.Context(), args[0], mirrorapi.GenerationRequest{ID: args[1]})
			}, printProjectGenerations)
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "remove the whole project, which must not be configured")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// dropAll removes a project that is not configured.
func dropAll(cmd *cobra.Command, flags *mirrorFlags, project string, yes bool) error {
	client, err := flags.client(cmd)
	if err != nil {
		return err
	}
	if !yes {
		st, err := client.Status(cmd.Context())
		if err != nil {
			return flags.failed(cmd, err)
		}
		// What is configured, or not there, is refused by the mirror, which says what to do.
		i := slices.IndexFunc(st.Left, func(l mirrorapi.LeftProject) bool { return l.Name == project })
		if i >= 0 && !confirmed(cmd, fmt.Sprintf("Remove %s for good?", leftText(st.Left[i]))) {
			return errors.New("mirror drop: nothing is removed; --yes removes without a question")
		}
	}
	removal, err := client.Remove(cmd.Context(), project)
	if err != nil {
		return flags.failed(cmd, err)
	}
	return flags.answer(cmd, removal, func(out io.Writer) error {
		text := "is removed"
		if removal.Removing {
			text = "is being removed; the mirror goes on with it"
		}
		_, err := fmt.Fprintf(out, "%s %s\n", printable(removal.Project), text)
		return err
	})
}

// leftText describes a project that is on the disk alone.
func leftText(l mirrorapi.LeftProject) string {
	return fmt.Sprintf("%s (%s, the largest of %s and %s)", printable(l.Name), page.Plural(l.Generations, "generation", "generations"), filesText(l.Files), bytesText(l.Bytes))
}

// confirmed asks whoever types, and reports whether the answer is yes.
func confirmed(cmd *cobra.Command, question string) bool {
	_, _ = fmt.Fprint(cmd.ErrOrStderr(), question, " [y/N] ") // who does not see it does not say yes
	answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

func newMirrorVerifyCommand() *cobra.Command {
	var (
		flags mirrorFlags
		req   mirrorapi.VerifyRequest
	)
	cmd := &cobra.Command{
		Use:   "verify PROJECT",
		Short: "Read all files of a project, and compare them with their checksums",
		Long: `Verify has a mirror read what it serves of a project and compare it with the
SHA-256 of each file, no faster than its limit for the disk. It prints what is
not as it should be, and fails if anything is. With --repair such files are taken
out of service, and a sync fetches them again.

A check that is interrupted goes on where it was when the command is given again,
until the project has a new generation; --restart begins anew.`,
		Example: `  freshet mirror verify epel
  freshet mirror verify epel --repair
  freshet mirror verify epel --restart`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := flags.client(cmd)
			if err != nil {
				return err
			}
			begun := time.Now()
			var last mirrorapi.VerifyProgress
			show := newCheckProgress(cmd, 1)
			defer show.clear()
			for p, err := range client.Verify(cmd.Context(), args[0], req) {
				if err != nil {
					return flags.failed(cmd, err)
				}
				show.total = max(p.BytesTotal, 1)
				if show.bar != nil {
					show.bar.ChangeMax64(show.total)
				}
				if last.FilesTotal == 0 && p.Resumed > 0 && !flags.asJSON {
					show.clear()
					_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "going on with the check of %s: %d of %s were read\n", when(p.Began), p.Resumed, filesText(p.FilesTotal))
				}
				show.step(p.Bytes - last.Bytes)
				if last = p; p.Found != nil && !flags.asJSON {
					show.clear()
					_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s: %q\n", p.Found.Reason, p.Found.Path)
				}
				if flags.asJSON {
					if err := printJSON(cmd.OutOrStdout(), p); err != nil {
						return err
					}
				}
			}
			show.clear()
			if !flags.asJSON {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s, %s read in %s: %d bad\n", filesText(last.Files), bytesText(last.Bytes), tookText(time.Since(begun)), last.Bad)
			}
			switch {
			case last.Error != "":
				return fmt.Errorf("mirror verify: %s", printable(last.Error))
			case last.Bad > 0:
				return fmt.Errorf("mirror verify: of %s, %s", args[0], page.Plural(last.Bad, "file is not what it should be", "files are not what they should be"))
			}
			return err
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&req.Restart, "restart", false, "begin anew, also when a check was interrupted")
	cmd.Flags().BoolVar(&req.Repair, "repair", false, "take bad files out of service, and fetch them again")
	return cmd
}
