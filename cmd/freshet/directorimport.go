package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"freshet/api/directorapi"
	"freshet/internal/director/catalogue"
	"freshet/internal/director/mirrorbits"
	"freshet/internal/director/mirrormanager"
)

func newCatalogueImportCommand() *cobra.Command {
	var (
		flags         editFlags
		from, project string
	)
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Take over a catalogue, or the mirrors of mirrorbits or MirrorManager",
		Long: `Import takes over a catalogue as export prints it, in the place of all that there is.

With --from mirrorbits, FILE is what "mirrorbits show NAME" prints for each mirror, one
after the other, or the JSON of a mirror list ("…/file?mirrorlist"); the mirrors carry
the --project, which must be there. With --from mirrormanager, FILE is the URL of
MirrorManager's PostgreSQL database, which is only read; its categories become
projects. Both are added to what there is: projects that are there stay as they are,
sites and mirrors become what the import says. What cannot be taken over is told.

All of it is one change; with --dry-run it is only printed.`,
		Example: `  freshet director catalogue import mirrors.json --dry-run
  for m in $(mirrorbits list -state=false | tail -n +2 | cut -d' ' -f1); do mirrorbits show $m; done >shown
  freshet director catalogue import shown --from mirrorbits --project videolan
  freshet director catalogue import postgresql://mirrormanager@db.example.org/mirrormanager2 --from mirrormanager`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch from {
			case "", "catalogue":
				next, err := catalogue.ReadFile(args[0])
				if err != nil {
					return fmt.Errorf("director catalogue import: %w", err)
				}
				return replaceCatalogue(cmd, &flags, func(c *directorapi.Catalogue) { *c = *next })
			case "mirrorbits", "mirrormanager":
			default:
				return usageError(cmd, `--from: want "catalogue", "mirrorbits" or "mirrormanager", got %q`, from)
			}
			if (project != "") != (from == "mirrorbits") {
				return usageError(cmd, "--project and --from mirrorbits belong together")
			}
			imported, notes, err := readForeign(cmd.Context(), from, args[0], project)
			if err != nil {
				return fmt.Errorf("director catalogue import: %w", err)
			}
			tellNotes(cmd.ErrOrStderr(), notes)
			return replaceCatalogue(cmd, &flags, func(c *directorapi.Catalogue) { catalogue.Merge(c, imported) })
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&from, "from", "", `what FILE is: "catalogue", "mirrorbits" or "mirrormanager" (default "catalogue")`)
	cmd.Flags().StringVar(&project, "project", "", "the project that mirrors of mirrorbits carry")
	return cmd
}

// maxShown bounds what is read of mirrorbits, in bytes.
const maxShown = 16 << 20

// readForeign reads the mirrors of another program.
func readForeign(ctx context.Context, from, name, project string) (*directorapi.Catalogue, []string, error) {
	if from == "mirrormanager" {
		return mirrormanager.ReadCatalogue(ctx, name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxShown))
	if err != nil {
		return nil, nil, err
	}
	mirrors, err := mirrorbits.Parse(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	c, notes := mirrorbits.Import(mirrors, project)
	return &c, notes, nil
}

// tellNotes says what was not taken over.
func tellNotes(out io.Writer, notes []string) {
	for _, note := range notes {
		_, _ = fmt.Fprintln(out, printable(note)) // it is only told
	}
}

// replaceCatalogue changes the whole catalogue, unless somebody else does meanwhile.
func replaceCatalogue(cmd *cobra.Command, e *editFlags, change func(*directorapi.Catalogue)) error {
	backend, err := e.backend(cmd)
	if err != nil {
		return err
	}
	c, err := backend.Catalogue(cmd.Context())
	if err != nil {
		return e.failed(cmd, err)
	}
	opt := e.options()
	opt.IfMatch = c.ETag()
	change(c)
	done, err := backend.Replace(cmd.Context(), c, opt)
	if err != nil {
		return e.failed(cmd, err)
	}
	return e.told(cmd, done)
}
