package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/catalogue"
)

func newDirectorMirrorCommand() *cobra.Command {
	l := itemList[directorapi.Mirror]{
		items: directorapi.Mirrors, one: "mirror",
		example:  "uni site=uni carries.fedora.https=https://mirror.uni.example/fedora/ carries.fedora.inventory.how=http",
		edit:     "uni capacity=20000 rules.countries+=AT,CH",
		disabled: func(m *directorapi.Mirror) *bool { return &m.Disabled },
		head:     "MIRROR\tSITE\tMBIT/S\tCARRIES\tSTATE\tCOMMENT",
		row: func(m *directorapi.Mirror) string {
			projects := make([]string, len(m.Carries))
			for i, c := range m.Carries {
				projects[i] = c.Project
			}
			return fmt.Sprintf("%s\t%s\t%d\t%s\t%s\t%s", m.Name, m.Site, cmp.Or(m.Capacity, 1000),
				cmp.Or(strings.Join(projects, ","), "nothing"), state(m.Disabled), printable(m.Comment))
		},
		list: func(c *directorapi.Catalogue) []directorapi.Mirror { return c.Mirrors },
	}
	cmd := &cobra.Command{
		Use:   "mirror",
		Short: "See and change which mirrors there are",
		Long: `Mirror changes the mirrors in the catalogue of a running director, over its admin
listener, or with --catalogue in a file that directors follow. A mirror belongs to a
site (freshet director site) and carries projects (freshet director project).`,
		Example: `  freshet director project add fedora path=/fedora/ origins=https://dl.example.org/fedora/ inventory.how=http
  freshet director site add uni country=DE asn=680 organisation='Example University'
  freshet director mirror add uni site=uni carries.fedora.https=https://mirror.uni.example/fedora/ carries.fedora.inventory.how=http
  freshet director mirror disable uni --note 'disk is being replaced'
  freshet director mirror why /fedora/40/os/repodata/repomd.xml --client 192.0.2.7`,
	}
	cmd.AddCommand(l.commands()...)
	cmd.AddCommand(newMirrorTokenCommand(), newMirrorClaimCommand(), newMirrorScanCommand(), newMirrorWhyCommand())
	return cmd
}

func newDirectorSiteCommand() *cobra.Command {
	l := itemList[directorapi.Site]{
		items: directorapi.Sites, one: "site",
		example: "uni country=DE asn=680 organisation='Example University' contact=mirror@uni.example latitude=50.1 longitude=8.7",
		edit:    "uni contact=noc@uni.example",
		head:    "SITE\tCOUNTRY\tASN\tORGANISATION\tCONTACT",
		row: func(s *directorapi.Site) string {
			return fmt.Sprintf("%s\t%s\t%d\t%s\t%s", s.Name, s.Country, s.ASN, printable(s.Organisation), printable(s.Contact))
		},
		list: func(c *directorapi.Catalogue) []directorapi.Site { return c.Sites },
	}
	cmd := &cobra.Command{
		Use:   "site",
		Short: "See and change the places where mirrors are",
		Long: `Site changes the places where mirrors are, and who runs them: the country, the
coordinates and the autonomous system of a site say whom its mirrors are near.`,
	}
	cmd.AddCommand(l.commands()...)
	return cmd
}

func newDirectorProjectCommand() *cobra.Command {
	l := itemList[directorapi.Project]{
		items: directorapi.Projects, one: "project",
		example:  "fedora path=/fedora/ origins=https://dl.example.org/fedora/ inventory.how=http repositories.40/os/.kind=rpm",
		edit:     "fedora origins+=https://dl2.example.org/fedora/",
		disabled: func(p *directorapi.Project) *bool { return &p.Disabled },
		head:     "PROJECT\tPATH\tORIGINS\tREPOSITORIES\tSTATE",
		row: func(p *directorapi.Project) string {
			return fmt.Sprintf("%s\t%s\t%s\t%d\t%s", p.Name, p.Path, strings.Join(p.Origins, " "), len(p.Repositories), state(p.Disabled))
		},
		list: func(c *directorapi.Catalogue) []directorapi.Project { return c.Projects },
	}
	cmd := &cobra.Command{
		Use:   "project",
		Short: "See and change the trees that mirrors carry",
		Long: `Project changes the trees of files that mirrors carry: where clients find them on
the director, where the original is, and which folders in them are repositories,
whose metadata is had only from mirrors that have all of a version.`,
	}
	cmd.AddCommand(l.commands()...)
	return cmd
}

func state(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "enabled"
}

// itemList makes the commands for one list of a catalogue.
type itemList[T any] struct {
	items         directorapi.Items
	one           string // in words
	example, edit string
	disabled      func(*T) *bool // nil: they cannot be
	head          string         // of a table
	row           func(*T) string
	list          func(*directorapi.Catalogue) []T
}

func (l itemList[T]) commands() []*cobra.Command {
	commands := []*cobra.Command{l.newAdd(), l.newEdit(), l.newRemove(), l.newList(), l.newShow()}
	if l.disabled != nil {
		commands = append(commands, l.newDisable("disable", true), l.newDisable("enable", false))
	}
	return commands
}

// settings explains KEY=VALUE.
func (l itemList[T]) settings() string {
	var b strings.Builder
	b.WriteString("KEY=VALUE sets a value, KEY= takes it back, KEY+=VALUE adds to a list and\nKEY-=VALUE takes out of it. The keys are\n")
	for _, key := range catalogue.Keys(new(T))[1:] {
		fmt.Fprintf(&b, "\n  %-31s %s", key, keyHelp[key])
	}
	return b.String()
}

func (l itemList[T]) newAdd() *cobra.Command {
	var (
		flags editFlags
		file  string
	)
	cmd := &cobra.Command{
		Use:     "add NAME [KEY=VALUE...]",
		Short:   "Add a " + l.one,
		Long:    "Add adds a " + l.one + " that is not there yet.\n\n" + l.settings(),
		Example: "  freshet director " + l.one + " add " + l.example,
		RunE: func(cmd *cobra.Command, args []string) error {
			var item T
			if err := fillItem(cmd, &item, file, args[1:]); err != nil {
				return err
			}
			backend, err := flags.backend(cmd)
			if err != nil {
				return err
			}
			opt := flags.options()
			opt.New = true
			done, err := backend.Put(cmd.Context(), l.items, args[0], item, opt)
			if err != nil {
				return flags.failed(cmd, err)
			}
			return flags.told(cmd, done)
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", `file with the `+l.one+` in JSON, as "show --json" prints it; "-": standard input`)
	return cmd
}

func (l itemList[T]) newEdit() *cobra.Command {
	var (
		flags editFlags
		file  string
	)
	cmd := &cobra.Command{
		Use:     "edit NAME [KEY=VALUE...]",
		Short:   "Change a " + l.one,
		Long:    "Edit changes a " + l.one + ".\n\n" + l.settings(),
		Example: "  freshet director " + l.one + " edit " + l.edit,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && file == "" {
				return usageError(cmd, "nothing to change: give KEY=VALUE, or --file")
			}
			return modify(cmd, &flags, l.items, args[0], func(item *T) error { return fillItem(cmd, item, file, args[1:]) })
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", `file with all of it in JSON, as "show --json" prints it; "-": standard input`)
	return cmd
}

// fillItem reads an item from a file, if one is given, and sets what was given besides.
func fillItem[T any](cmd *cobra.Command, item *T, file string, settings []string) error {
	if file != "" {
		in := cmd.InOrStdin()
		if file != "-" {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }() // it was only read
			in = f
		}
		*item = *new(T)
		d := json.NewDecoder(in)
		d.DisallowUnknownFields()
		if err := d.Decode(item); err != nil {
			return fmt.Errorf("--file %s: %w", file, err)
		}
	}
	for _, setting := range settings {
		if err := catalogue.Set(item, setting); err != nil {
			return usageError(cmd, "%w", err)
		}
	}
	return nil
}

func (l itemList[T]) newRemove() *cobra.Command {
	var flags editFlags
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a " + l.one,
		Long:  "Remove takes a " + l.one + " out of the catalogue. What others in it still need cannot be removed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			backend, err := flags.backend(cmd)
			if err != nil {
				return err
			}
			done, err := backend.Remove(cmd.Context(), l.items, args[0], flags.options())
			if err != nil {
				return flags.failed(cmd, err)
			}
			return flags.told(cmd, done)
		},
	}
	flags.register(cmd)
	return cmd
}

func (l itemList[T]) newDisable(verb string, disable bool) *cobra.Command {
	var flags editFlags
	cmd := &cobra.Command{
		Use:   verb + " NAME",
		Short: strings.ToUpper(verb[:1]) + verb[1:] + " a " + l.one,
		Long:  "A " + l.one + " that is disabled stays in the catalogue, and clients are not told of it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return modify(cmd, &flags, l.items, args[0], func(item *T) error {
				*l.disabled(item) = disable
				return nil
			})
		},
	}
	flags.register(cmd)
	return cmd
}

func (l itemList[T]) newList() *cobra.Command {
	var flags catalogueFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all " + l.one + "s",
		RunE: func(cmd *cobra.Command, _ []string) error {
			backend, err := flags.backend(cmd)
			if err != nil {
				return err
			}
			c, err := backend.Catalogue(cmd.Context())
			if err != nil {
				return flags.failed(cmd, err)
			}
			list := l.list(c)
			return flags.answer(cmd, list, func(out io.Writer) error {
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				_, _ = fmt.Fprintln(w, l.head) // Flush tells
				for i := range list {
					_, _ = fmt.Fprintln(w, l.row(&list[i]))
				}
				return w.Flush()
			})
		},
	}
	flags.register(cmd)
	return cmd
}

func (l itemList[T]) newShow() *cobra.Command {
	var flags catalogueFlags
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Print a " + l.one + " in JSON, which add and edit take by --file",
		RunE: func(cmd *cobra.Command, args []string) error {
			backend, err := flags.backend(cmd)
			if err != nil {
				return err
			}
			var item T
			if _, err := backend.Item(cmd.Context(), l.items, args[0], &item); err != nil {
				return flags.failed(cmd, err)
			}
			if flags.asJSON {
				return printJSON(cmd.OutOrStdout(), item)
			}
			encoder := json.NewEncoder(cmd.OutOrStdout())
			encoder.SetEscapeHTML(false)
			encoder.SetIndent("", "  ")
			return encoder.Encode(item)
		},
	}
	flags.register(cmd)
	return cmd
}

func newMirrorTokenCommand() *cobra.Command {
	var (
		flags editFlags
		out   string
	)
	cmd := &cobra.Command{
		Use:   "token NAME",
		Short: "Make the token with which a mirror tells what it has",
		Long: `Token makes a random token for a mirror, writes it to the file --out, and its hash
into the catalogue. With it the mirror pushes its manifests and tells its load. The
token before, if there was one, is good no longer.`,
		Example: "  freshet director mirror token uni --out uni.token",
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usageError(cmd, "--out is needed: the file for the token")
			}
			token, hash := control.NewToken(mirrorTokenPrefix)
			if !flags.dryRun {
				if err := writeNewFile(out, []byte(token+"\n")); err != nil {
					return fmt.Errorf("director mirror token: %w", err)
				}
			}
			return modify(cmd, &flags, directorapi.Mirrors, args[0], func(m *directorapi.Mirror) error {
				m.Token = hash
				return nil
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVarP(&out, "out", "o", "", "write the token to this file, which only you can read and which must not be there yet")
	return cmd
}
