package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"freshet/internal/config"
	"freshet/internal/edge"
	"freshet/internal/edge/diskcache"
	"freshet/internal/node"
	"freshet/internal/page"
)

func newEdgeStoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Look at the store of an edge that does not run",
		Long: `Store has commands for the folder in which an edge keeps answers, for use
while no edge has it open. What a crash left half-done is repaired as by the
next start of the edge; nothing is evicted.

The store is named by --store, or by the configuration of the edge, which also
says how large it may be and which sites have rules (--config).`,
	}
	cmd.AddCommand(newStoreCheckCommand(), newStoreStatCommand(), newStoreLsCommand(), newStoreRmCommand())
	return cmd
}

// storeFlags say which store is meant.
type storeFlags struct{ dir, config string }

func (s *storeFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.dir, "store", "", "folder of the store (default: that of --config)")
	f.StringVarP(&s.config, "config", "c", "", "configuration file of the edge")
}

// with opens the store for the time of do. Instead says what is to be used
// while an edge runs.
func (s *storeFlags) with(cmd *cobra.Command, instead string, do func(*edge.Inspection) error) (err error) {
	var cfg node.Config
	if s.config != "" {
		if _, err := config.Read(s.config, &cfg); err != nil {
			return err
		}
	}
	if cfg.Edge == nil {
		cfg.Edge = new(edge.Config)
	} else if cfg.Edge.Size == 0 {
		cfg.Edge.Size = cfg.Edge.WithDefaults().Size
	}
	override(&cfg.Edge.Store, s.dir)
	switch {
	case cfg.Edge.Store == "" && s.config != "":
		return usageError(cmd, "%s has no edge.store: give --store", s.config)
	case cfg.Edge.Store == "":
		return usageError(cmd, "which store? give --store FOLDER, or --config FILE of its edge")
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := edge.OpenStore(cmd.Context(), *cfg.Edge, log)
	if errors.Is(err, diskcache.ErrInUse) {
		return fmt.Errorf("%w; a running edge has it open: stop that first, or %s", err, instead)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return do(store)
}

func newStoreStatCommand() *cobra.Command {
	var (
		flags  storeFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "stat",
		Short: "Count what a store holds",
		Long: `Stat reads every stored answer, but for long bodies, and counts them by site, by
class, by HTTP status and by state.

Fixed answers are those whose name binds their bytes for good; the others are
changeable. Stale ones are asked for again when they are next used, and so are
purged ones, which are not used as they are unless the origin is away. States
are told by the lifetimes that hold without a hub's events.`,
		Example: `  freshet edge store stat --store /var/cache/freshet
  freshet edge store stat -c /etc/freshet.toml --json | jq .sites`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.with(cmd, "see what it holds with freshet edge top or in its metrics", func(store *edge.Inspection) error {
				st, err := store.Stat(cmd.Context())
				switch {
				case err != nil:
					return err
				case asJSON:
					return printJSON(cmd.OutOrStdout(), st)
				}
				return printStoreStat(cmd.OutOrStdout(), st)
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object; sizes are in bytes")
	return cmd
}

func printStoreStat(out io.Writer, st edge.StoreStat) error {
	w := &lineWriter{w: out}
	limit := ""
	if st.Limit > 0 {
		limit = fmt.Sprintf(" of %s", bytesText(st.Limit))
	}
	w.printf("answers      %d, %s\n", st.Answers, bytesText(st.Bodies))
	w.printf("on disk      %s%s\n", bytesText(st.Disk), limit)
	w.printf("segments     %d\n", st.Segments)
	w.printf("long bodies  %s, %s\n", filesText(st.Files), bytesText(st.FilesBytes))
	w.printf("index        %s of memory\n", bytesText(st.Memory))
	w.printf("purges       %d pending\n", st.Bans)
	if st.Gone > 0 {
		w.printf("gone         %s, purged for good or damaged\n", page.Plural(st.Gone, "entry", "entries"))
	}
	if !st.Oldest.IsZero() {
		w.printf("validated    %s … %s\n", st.Oldest.Local().Format(time.DateTime), st.Newest.Local().Format(time.DateTime))
	}
	printParts(w, "site", st.Sites)
	printParts(w, "class", st.Classes)
	printParts(w, "status", st.Statuses)
	printParts(w, "state", st.States)
	return w.err
}

func printParts[K int | string](w *lineWriter, title string, parts map[K]edge.Part) {
	if len(parts) == 0 {
		return
	}
	w.printf("\n%-20s %10s %10s\n", title, "answers", "bytes")
	for _, key := range slices.Sorted(maps.Keys(parts)) {
		w.printf("%-20s %10d %10s\n", printable(fmt.Sprint(key)), parts[key].Answers, bytesText(parts[key].Bytes))
	}
}

func newStoreRmCommand() *cobra.Command {
	var (
		flags storeFlags
		sel   edge.Selected
		dry   bool
	)
	cmd := &cobra.Command{
		Use:   "rm [URI...]",
		Short: "Remove answers from a store",
		Long: `Rm removes what is stored of the URIs, each a path with its query as "store ls"
prints it, in all variants, and of those that begin with a --prefix. It prints
what goes. When it ends, that is durable.

A file that changes together with others takes its set along: the edge
begins anew with that set.`,
		Example: `  freshet edge store rm --store /var/cache/freshet /pool/main/h/hello/hello_2.10-3_amd64.deb
  freshet edge store rm -c /etc/freshet.toml --site stable --prefix /repo/objects/ --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel.URIs = args
			if len(sel.URIs)+len(sel.Prefixes) == 0 {
				return usageError(cmd, "nothing to remove: give URIs or --prefix (a single / stands for everything)")
			}
			for _, uri := range slices.Concat(sel.URIs, sel.Prefixes) {
				if len(uri) == 0 || uri[0] != '/' {
					return usageError(cmd, "%q: want a path that begins with a slash; its site is named by --site", uri)
				}
			}
			return flags.with(cmd, "use freshet edge purge --hard", func(store *edge.Inspection) error {
				return removeAnswers(cmd, store, sel, dry)
			})
		},
	}
	flags.register(cmd)
	f := cmd.Flags()
	f.StringVar(&sel.Site, "site", "", `site by its name, "default" for the one without (default: all)`)
	f.StringArrayVar(&sel.Prefixes, "prefix", nil, "begin of URIs (repeatable)")
	f.BoolVar(&dry, "dry-run", false, "change nothing, print what would be removed")
	return cmd
}

// errNothing ends a removal that met nothing.
var errNothing = errors.New("nothing of that is stored")

func removeAnswers(cmd *cobra.Command, store *edge.Inspection, sel edge.Selected, dry bool) error {
	w := &lineWriter{w: cmd.OutOrStdout()}
	var sum edge.Part
	err := store.Remove(cmd.Context(), sel, dry, func(a edge.Answer) error {
		sum.Answers++
		sum.Bytes += a.Size
		w.printf("%s %s\n", printable(a.Site), printable(a.URI))
		return w.err
	})
	if err != nil {
		return err
	}
	if sum.Answers == 0 {
		return errNothing
	}
	done := "removed"
	if dry {
		done = "would remove"
	}
	w.printf("%s %s, %s\n", done, page.Plural(sum.Answers, "answer", "answers"), bytesText(sum.Bytes))
	return w.err
}

// lineWriter writes until the first error, which it keeps.
type lineWriter struct {
	w   io.Writer
	err error
}

func (l *lineWriter) printf(format string, args ...any) {
	if l.err == nil {
		_, l.err = fmt.Fprintf(l.w, format, args...)
	}
}

// bytesText is a size for people.
func bytesText(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }

// printJSON prints one value on one line.
func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
