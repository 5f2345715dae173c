package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"freshet/internal/director/mirrormanager"
	"freshet/internal/mirrorlist"
	"freshet/internal/page"
)

// Where MirrorManager has the files.
const (
	snapshotFile   = "/var/lib/mirrormanager/mirrorlist_cache.proto"
	snapshotConfig = "/etc/mirrormanager/generate-mirrorlist-cache.cfg"
	snapshotEnv    = "DB_URL"
)

// snapshotFlags say what a snapshot is made of, and where it goes.
type snapshotFlags struct {
	config, db, out string
	force, asJSON   bool
}

func newDirectorSnapshotCommand() *cobra.Command {
	var flags snapshotFlags
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Write what a director reads from MirrorManager's database",
		Long: `Snapshot reads MirrorManager's PostgreSQL database and writes the file that
directors, and MirrorManager's own mirrorlist-server, answer from. It takes the
place of generate-mirrorlist-cache, and its options -c and -o.

The database is that of --db, or of $DB_URL, or of the line DB_URL="…" in the
configuration file of generate-mirrorlist-cache. It is only read.

The same rows give the same file, but for its time. The file is replaced as a
whole: a director never sees half of one. A snapshot with fewer than half the
directories or public mirrors of the one that is there is not written without
--force.`,
		Example: `  freshet director snapshot
  freshet director snapshot --db postgresql://mirrormanager@db.example.org/mirrormanager2 -o mirrorlist_cache.proto
  freshet director snapshot stat mirrorlist_cache.proto
  freshet director snapshot diff old.proto new.proto
  freshet director snapshot show mirrorlist_cache.proto epel-9+x86_64`,
		RunE: func(cmd *cobra.Command, _ []string) error { return flags.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVarP(&flags.config, "config", "c", "", `file with a line DB_URL="…" (default "`+snapshotConfig+`")`)
	f.StringVar(&flags.db, "db", "", "URL of MirrorManager's PostgreSQL database (default $"+snapshotEnv+", or of --config)")
	f.StringVarP(&flags.out, "outfile", "o", snapshotFile, "file to write")
	f.BoolVar(&flags.force, "force", false, "write it even if much is missing that the old one has")
	f.BoolVar(&flags.asJSON, "json", false, "print JSON")
	cmd.AddCommand(newSnapshotShowCommand(), newSnapshotDiffCommand(), newSnapshotStatCommand())
	return cmd
}

func (s *snapshotFlags) run(cmd *cobra.Command) error {
	dsn, err := s.dsn(cmd)
	if err != nil {
		return err
	}
	snapshot, err := mirrormanager.Read(cmd.Context(), dsn, mirrormanager.Options{})
	if err != nil {
		return fmt.Errorf("director snapshot: %w", err)
	}
	stat := snapshot.Stat()
	if !s.force {
		if err := s.compare(stat); err != nil {
			return fmt.Errorf("director snapshot: %w", err)
		}
	}
	if err := snapshot.WriteFile(s.out); err != nil {
		return fmt.Errorf("director snapshot: %w", err)
	}
	tellProblems(cmd.ErrOrStderr(), snapshot.Problems())
	if s.asJSON {
		return printJSON(cmd.OutOrStdout(), stat)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s on %s, %d of them public; %s\n", s.out, page.Plural(stat.Directories, "directory", "directories"),
		page.Plural(stat.PublicHosts+stat.PrivateHosts, "mirror", "mirrors"), stat.PublicHosts, page.Plural(stat.Repositories, "repository", "repositories"))
	return err
}

// tellProblems says what was left out.
func tellProblems(out io.Writer, p mirrorlist.Problems) {
	for _, text := range p.First {
		_, _ = fmt.Fprintln(out, "left out:", text) // it is only told
	}
	if more := p.Count - len(p.First); more > 0 {
		_, _ = fmt.Fprintf(out, "left out: %d more\n", more)
	}
}

// compare refuses a snapshot that has lost most of what the file has.
func (s *snapshotFlags) compare(now mirrorlist.Stat) error {
	if now.Directories == 0 || now.PublicHosts == 0 {
		return fmt.Errorf("the database has %d directories and %d public mirrors: nothing was written; --force writes it anyway", now.Directories, now.PublicHosts)
	}
	old, err := mirrorlist.ReadFile(s.out)
	if err != nil {
		return nil //nolint:nilerr // there is none, or one that nobody can read: anything is better
	}
	was := old.Stat()
	if 2*now.Directories < was.Directories || 2*now.PublicHosts < was.PublicHosts {
		return fmt.Errorf("%s has %d directories and %d public mirrors, the database %d and %d: nothing was written; --force writes it anyway",
			s.out, was.Directories, was.PublicHosts, now.Directories, now.PublicHosts)
	}
	return nil
}

// dsn finds out which database it is.
func (s *snapshotFlags) dsn(cmd *cobra.Command) (string, error) {
	if dsn := cmp.Or(s.db, os.Getenv(snapshotEnv)); dsn != "" {
		return dsn, nil
	}
	name := cmp.Or(s.config, snapshotConfig)
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && s.config == "" {
		return "", usageError(cmd, "which database? --db, $%s or --config tell, and there is no %s", snapshotEnv, name)
	}
	if err != nil {
		return "", fmt.Errorf("director snapshot: %w", err)
	}
	if dsn := dotenv(string(text), snapshotEnv); dsn != "" {
		return dsn, nil
	}
	return "", fmt.Errorf("director snapshot: %s has no line %s=\"postgresql://…\"", name, snapshotEnv)
}

// dotenv is the value of a variable in a file of lines NAME=value, of which the last one
// counts.
func dotenv(text, name string) (value string) {
	for line := range strings.Lines(text) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		key, v, ok := strings.Cut(line, "=")
		if !ok || strings.TrimSpace(key) != name {
			continue
		}
		v = strings.TrimSpace(v)
		if len(v) > 1 && (v[0] == '"' || v[0] == '\'') && v[len(v)-1] == v[0] {
			v = v[1 : len(v)-1]
		}
		value = v
	}
	return value
}
