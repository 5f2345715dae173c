package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freshet/internal/durable"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/flatmanager"
	"freshet/internal/page"
	"freshet/internal/push"
)

// importFlags say what is taken over, and where to.
type importFlags struct {
	db, dir, database string
	repos             []string
	dryRun            bool
	asJSON            bool
}

// importReport is what "hub import-flat-manager --json" prints.
type importReport struct {
	DryRun       bool                 `json:"dry-run,omitempty"`
	Database     *importedDatabase    `json:"database,omitempty"`
	Repositories []importedRepository `json:"repositories"`
}

type importedDatabase struct {
	Builds      int64    `json:"builds"`
	Unpublished int64    `json:"unpublished,omitempty"` // told with --dry-run
	Refs        int64    `json:"refs"`
	Jobs        int64    `json:"jobs"`
	Checks      int64    `json:"checks"`
	Tokens      int64    `json:"tokens"`
	Others      []string `json:"others,omitempty"` // repositories of builds that no --repo names
}

type importedRepository struct {
	Name   string `json:"name"`
	Refs   int64  `json:"refs"`
	Files  int64  `json:"files"`
	Copied bool   `json:"copied"` // instead of linked
	Bytes  int64  `json:"bytes,omitempty"`
}

func newImportedDatabase(n flatmanager.Counts) *importedDatabase {
	return &importedDatabase{Builds: n.Builds, Refs: n.Refs, Jobs: n.Jobs, Checks: n.Checks, Tokens: n.Tokens}
}

func newHubImportCommand() *cobra.Command {
	var flags importFlags
	cmd := &cobra.Command{
		Use:   "import-flat-manager",
		Short: "Take over a flat-manager: its database and repositories",
		Long: `Import takes over what a flat-manager of version 0.5.3 has: builds, their refs,
jobs with recent logs, checks and tokens from its PostgreSQL database, and its
repositories. Numbers of builds and jobs and ids of tokens stay the same. With
flat-manager's secret in the hub's secret file its tokens go on to work.

Repositories are taken over by hard links where --dir is on their file system,
else by copies. flat-manager's own files are not changed. Builds that it has not
published are listed as purged: upload them again.

The hub must not run meanwhile. Stop flat-manager for the last import, so that
nothing is published and missed. An import that was interrupted goes on where
it was when it is started again; begin with a new --dir to import anew.

Afterwards start the hub with the same --dir and the keys that have signed the
repository, or with others: what is published is then signed anew.`,
		Example: `  # what would be done
  freshet hub import-flat-manager --db postgres://flatmanager@/repo --repo stable=/srv/repo --repo beta=/srv/beta --dir /srv/hub --dry-run

  systemctl stop flat-manager
  freshet hub import-flat-manager --db postgres://flatmanager@/repo --repo stable=/srv/repo --repo beta=/srv/beta --dir /srv/hub
  jq -r .secret flat-manager.json >/srv/hub/secret && chmod 600 /srv/hub/secret
  freshet hub --dir /srv/hub --repo stable --repo beta --gpg-key stable.asc`,
		RunE: func(cmd *cobra.Command, _ []string) error { return flags.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&flags.db, "db", "", "flat-manager's database-url (postgres://…)")
	f.StringArrayVar(&flags.repos, "repo", nil, "NAME=DIR, a repository and its folder (repeatable); without NAME, that of the folder")
	f.StringVar(&flags.dir, "dir", "", "the hub's folder")
	f.StringVar(&flags.database, "database", "", "the hub's database, if it is not in its folder (postgres://…)")
	f.BoolVar(&flags.dryRun, "dry-run", false, "say what would be done and change nothing")
	f.BoolVar(&flags.asJSON, "json", false, "print what was done, or would be, in JSON")
	return cmd
}

func (f *importFlags) run(cmd *cobra.Command) error {
	switch {
	case f.dir == "":
		return usageError(cmd, "--dir is needed: the hub's folder")
	case f.db == "" && len(f.repos) == 0:
		return usageError(cmd, "what to import? Give --db, --repo or both")
	}
	repos, err := f.repositories()
	if err != nil {
		return usageError(cmd, "%v", err)
	}
	ctx, progress := cmd.Context(), push.NewProgress(cmd.ErrOrStderr())
	var source *flatmanager.Database
	if f.db != "" {
		if source, err = flatmanager.OpenDatabase(ctx, f.db); err != nil {
			return err
		}
		defer source.Close(ctx) //nolint:errcheck // it was only read
	}
	if f.dryRun {
		return f.inspect(cmd, source, repos, progress)
	}
	return f.take(cmd, source, repos, progress)
}

// repositories reads the --repo flags.
func (f *importFlags) repositories() ([]flatmanager.Repository, error) {
	var repos []flatmanager.Repository
	for _, text := range f.repos {
		name, dir, named := strings.Cut(text, "=")
		if !named {
			name, dir = filepath.Base(filepath.Clean(text)), text
		}
		if name == "" || dir == "" || strings.ContainsAny(name, "/") || name == "." || name == ".." {
			return nil, fmt.Errorf("--repo: want NAME=DIR, got %q", text)
		}
		if slices.ContainsFunc(repos, func(r flatmanager.Repository) bool { return r.Name == name }) {
			return nil, fmt.Errorf("--repo: %q is named twice", name)
		}
		repos = append(repos, flatmanager.Repository{Name: name, Dir: dir})
	}
	return repos, nil
}

// inspect says what take would do.
func (f *importFlags) inspect(cmd *cobra.Command, source *flatmanager.Database, repos []flatmanager.Repository, progress push.Progress) error {
	ctx, out := cmd.Context(), f.textTo(cmd)
	report := importReport{DryRun: true, Repositories: []importedRepository{}}
	if source != nil {
		var err error
		if report.Database, err = inspectDatabase(ctx, out, source, repos); err != nil {
			return err
		}
	}
	for _, repo := range repos {
		n, err := repo.Inspect(ctx, existing(f.dir), every(100*batchRows, progress, repo.Name))
		if err != nil {
			return err
		}
		how := "linked"
		if n.Copied {
			how = fmt.Sprintf("copied (%d bytes): %s is on another file system", n.Bytes, f.dir)
		}
		_, _ = fmt.Fprintf(out, "repository %s: %s, %s, to be %s\n", repo.Name, page.Plural(n.Refs, "ref", "refs"), filesText(n.Files), how)
		report.Repositories = append(report.Repositories, importedRepository{repo.Name, n.Refs, n.Files, n.Copied, n.Bytes})
	}
	if f.asJSON {
		return printJSON(cmd.OutOrStdout(), report)
	}
	_, err := fmt.Fprintln(out, "nothing was changed (--dry-run)")
	return err
}

// restText is what a database has besides builds.
func restText(n flatmanager.Counts) string {
	return strings.Join([]string{
		page.Plural(n.Refs, "ref of a build", "refs of builds"), page.Plural(n.Jobs, "job", "jobs"), page.Plural(n.Checks, "check", "checks"), page.Plural(n.Tokens, "token", "tokens"),
	}, ", ")
}

// textTo is where text for people goes: nowhere with --json.
func (f *importFlags) textTo(cmd *cobra.Command) io.Writer {
	if f.asJSON {
		return io.Discard
	}
	return cmd.OutOrStdout()
}

func inspectDatabase(ctx context.Context, out io.Writer, source *flatmanager.Database, repos []flatmanager.Repository) (*importedDatabase, error) {
	n, err := source.Count(ctx)
	if err != nil {
		return nil, err
	}
	unfinished, err := source.Unfinished(ctx)
	if err != nil {
		return nil, err
	}
	names, err := source.Repos(ctx)
	if err != nil {
		return nil, err
	}
	report := newImportedDatabase(n)
	report.Unpublished = unfinished
	_, _ = fmt.Fprintf(out, "database: %s (%d not published), %s\n", page.Plural(n.Builds, "build", "builds"), unfinished, restText(n))
	for _, name := range names {
		if !slices.ContainsFunc(repos, func(r flatmanager.Repository) bool { return r.Name == name }) {
			_, _ = fmt.Fprintf(out, "database: there are builds for the repository %s, which no --repo names\n", name)
			report.Others = append(report.Others, name)
		}
	}
	return report, nil
}

// batchRows is how many rows the import takes over at a time.
const batchRows = 1000

// every tells of each n-th of the things that are done.
func every(n int64, progress push.Progress, what string) func(int64) {
	return func(done int64) {
		if done > 0 && done%n == 0 {
			progress.Line(fmt.Sprintf("%s: %d", what, done))
		}
	}
}

// existing returns a path, or the nearest folder above that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// take does it.
func (f *importFlags) take(cmd *cobra.Command, source *flatmanager.Database, repos []flatmanager.Repository, progress push.Progress) (err error) {
	ctx, out := cmd.Context(), f.textTo(cmd)
	report := importReport{Repositories: []importedRepository{}}
	dir, err := durable.Open(f.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Root.Close()) }()
	lock, err := dir.Lock("lock")
	if err != nil {
		return fmt.Errorf("%s is in use, stop the hub: %w", f.dir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	var into *catalog.Catalog
	if source != nil {
		if into, err = catalog.Open(ctx, catalog.Config{DSN: f.database, Path: filepath.Join(f.dir, "hub.db")}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, into.Close()) }()
		n, err := source.Count(ctx)
		if err != nil {
			return err
		}
		progress.Line(fmt.Sprintf("database: %s", page.Plural(n.Total(), "row", "rows")))
		n, err = source.Take(ctx, into, every(10*batchRows, progress, "database"))
		if errors.Is(err, catalog.ErrNotEmpty) {
			return fmt.Errorf("%w: give the import a new --dir", err)
		}
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "database: %s, %s\n", page.Plural(n.Builds, "build", "builds"), restText(n))
		report.Database = newImportedDatabase(n)
	}
	for _, repo := range repos {
		begun := time.Now()
		n, err := repo.Take(ctx, filepath.Join(f.dir, "repos", repo.Name), every(100*batchRows, progress, repo.Name))
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "repository %s: %s, %s in %v\n", repo.Name, page.Plural(n.Refs, "ref", "refs"), filesText(n.Files), time.Since(begun).Round(time.Millisecond))
		report.Repositories = append(report.Repositories, importedRepository{repo.Name, n.Refs, n.Files, n.Copied, n.Bytes})
	}
	if source != nil {
		if err := source.Done(ctx, into); err != nil {
			return err
		}
	}
	if f.asJSON {
		return printJSON(cmd.OutOrStdout(), report)
	}
	return nil
}
