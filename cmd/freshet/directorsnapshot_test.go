package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"freshet/internal/mirrorlist"
	"freshet/internal/sqldb/sqldbtest"
)

// mirrorManager has what a snapshot is made of: two hosts with one directory each, and
// the one of the second on both.
const mirrorManager = `
	CREATE TABLE site (id INT, private BOOLEAN, admin_active BOOLEAN, user_active BOOLEAN);
	CREATE TABLE host (id INT, site_id INT, country TEXT, bandwidth_int INT, private BOOLEAN, internet2 BOOLEAN, internet2_clients BOOLEAN, asn INT,
		asn_clients BOOLEAN, max_connections INT, admin_active BOOLEAN, user_active BOOLEAN);
	CREATE TABLE host_netblock (host_id INT, netblock TEXT);
	CREATE TABLE host_country_allowed (host_id INT, country TEXT);
	CREATE TABLE directory (id INT, name TEXT);
	CREATE TABLE category (id INT, topdir_id INT);
	CREATE TABLE category_directory (category_id INT, directory_id INT);
	CREATE TABLE host_category (id INT, host_id INT, category_id INT, always_up2date BOOLEAN);
	CREATE TABLE host_category_url (id INT, host_category_id INT, url TEXT, private BOOLEAN);
	CREATE TABLE host_category_dir (host_category_id INT, up2date BOOLEAN, directory_id INT);
	CREATE TABLE arch (id INT, name TEXT);
	CREATE TABLE repository (id INT, prefix TEXT, version_id INT, arch_id INT, directory_id INT, disabled BOOLEAN);
	CREATE TABLE repository_redirect (id INT, from_repo TEXT, to_repo TEXT);
	CREATE TABLE country_continent_redirect (id INT, country TEXT, continent TEXT);
	CREATE TABLE netblock_country (id INT, netblock TEXT, country TEXT);
	CREATE TABLE file_detail (id INT, directory_id INT, filename TEXT, timestamp INT, size BIGINT, sha1 TEXT, md5 TEXT, sha256 TEXT, sha512 TEXT);
	INSERT INTO site VALUES (1, false, true, true);
	INSERT INTO host VALUES (1, 1, 'DE', 100, false, false, false, NULL, true, 1, true, true), (2, 1, 'AT', 1000, false, false, false, NULL, true, 1, true, true),
		(3, 1, 'CH', 10, true, false, false, NULL, true, 1, true, true);
	INSERT INTO host_netblock VALUES (3, '10.0.0.0/8'), (3, '10.0.0.0/33');
	INSERT INTO directory VALUES (1, 'pub/r'), (2, 'pub/r/repodata');
	INSERT INTO category VALUES (1, 1);
	INSERT INTO category_directory VALUES (1, 1), (1, 2);
	INSERT INTO host_category VALUES (1, 1, 1, false), (2, 2, 1, true), (3, 3, 1, true);
	INSERT INTO host_category_url VALUES (1, 1, 'http://a.de/pub/r', false), (2, 1, 'https://a.de/pub/r', false), (3, 2, 'https://b.at/r', false), (4, 3, 'http://c.lan/r', false);
	INSERT INTO host_category_dir VALUES (1, true, 1), (1, true, 2);
	INSERT INTO arch VALUES (1, 'x86_64');
	INSERT INTO repository VALUES (1, 'r-1', 1, 1, 1, false);`

// snapshotCommand runs "freshet director snapshot".
func snapshotCommand(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, problems bytes.Buffer
	cmd := newRoot(streams{in: strings.NewReader(""), out: &out, err: &problems})
	cmd.SetArgs(append([]string{"director", "snapshot"}, args...))
	err = cmd.ExecuteContext(t.Context())
	return out.String(), problems.String(), err
}

// A database becomes a file, which is not replaced by one with much less.
func TestDirectorSnapshot(t *testing.T) {
	dsn := sqldbtest.PostgreSQL(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	execute := func(statement string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	execute(mirrorManager)
	dir := t.TempDir()
	file, config := filepath.Join(dir, "now.proto"), filepath.Join(dir, "snapshot.cfg")
	t.Setenv(snapshotEnv, "")

	_, _, err = snapshotCommand(t, "-c", config, "-o", file)
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without a configuration file: %v", err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("OTHER=x\n")
	if _, _, err = snapshotCommand(t, "-c", config, "-o", file); err == nil || !strings.Contains(err.Error(), `has no line DB_URL="postgresql://…"`) {
		t.Errorf("without a database: %v", err)
	}
	write("# the database\nexport DB_URL = \"" + dsn + "\"\n")
	out, problems, err := snapshotCommand(t, "-c", config, "-o", file)
	if err != nil || out != file+": 2 directories on 3 mirrors, 2 of them public; 1 repository\n" {
		t.Fatalf("%v: %s", err, out)
	}
	if want := `left out: HostNetblockCache: "10.0.0.0/33" is neither a prefix nor an address, nor a name that resolves` + "\n"; problems != want {
		t.Errorf("problems %q, want %q", problems, want)
	}
	old := filepath.Join(dir, "old.proto")
	if err := os.Link(file, old); err != nil {
		t.Fatal(err)
	}

	execute("UPDATE host SET bandwidth_int = 5000 WHERE id = 1; UPDATE host_category_dir SET up2date = false WHERE directory_id = 2")
	t.Setenv(snapshotEnv, dsn)
	if out, _, err = snapshotCommand(t, "-o", file, "--json"); err != nil || !strings.Contains(out, `"directories":2`) {
		t.Fatalf("%v: %s", err, out)
	}
	changes := "HostBandwidthCache\n  ~ 1: 100 → 5000\nMirrorListCache\n  ~ pub/r/repodata: DE 1, global 1, host 1 = 2 1 → -\n"
	if out, _, err = snapshotCommand(t, "diff", old, file); err != nil || out != changes {
		t.Errorf("%v: %s", err, out)
	}
	if _, _, err = snapshotCommand(t, "diff", old, file, "--exit-code"); err == nil || !strings.Contains(err.Error(), "differ") {
		t.Errorf("--exit-code: %v", err)
	}
	if out, _, err = snapshotCommand(t, "diff", old, old, "--exit-code"); err != nil || out != "" {
		t.Errorf("a file differs from itself: %v: %s", err, out)
	}

	execute("DELETE FROM category_directory")
	if _, _, err = snapshotCommand(t, "-o", file); err == nil || !strings.Contains(err.Error(), "nothing was written; --force") {
		t.Errorf("a database without directories: %v", err)
	}
	execute("INSERT INTO category_directory VALUES (1, 1); UPDATE host SET private = true WHERE id = 1")
	if _, _, err = snapshotCommand(t, "-o", file); err != nil {
		t.Errorf("half of the mirrors: %v", err)
	}
	execute("INSERT INTO directory SELECT n, 'pub/r/' || n FROM generate_series(3, 9) n; INSERT INTO category_directory SELECT 1, n FROM generate_series(3, 9) n")
	if _, _, err = snapshotCommand(t, "-o", file); err != nil {
		t.Error(err)
	}
	execute("DELETE FROM category_directory WHERE directory_id > 4")
	want := file + " has 8 directories and 1 public mirrors, the database 3 and 1: nothing was written"
	if _, _, err = snapshotCommand(t, "-o", file); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("less than half: %v", err)
	}
	if s, err := mirrorlist.ReadFile(file); err != nil || s.NumDirectories() != 8 {
		t.Errorf("the file was changed: %v", err)
	}
	if _, _, err = snapshotCommand(t, "-o", file, "--force"); err != nil {
		t.Error(err)
	}
	if s, err := mirrorlist.ReadFile(file); err != nil || s.NumDirectories() != 3 {
		t.Errorf("--force has not written: %v", err)
	}
}

// A snapshot is shown.
func TestDirectorSnapshotShow(t *testing.T) {
	dsn := sqldbtest.PostgreSQL(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), mirrorManager); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "s.proto")
	if _, _, err := snapshotCommand(t, "--db", dsn, "-o", file); err != nil {
		t.Fatal(err)
	}
	mirrors := "pub/r: 3 mirrors\n" +
		"ID  COUNTRY  MBIT/S  FOR           URLS\n" +
		"2   AT       1000    all           https://b.at/r/\n" +
		"1   DE       100     all           https://a.de/pub/r/ http://a.de/pub/r/\n" +
		"3   CH       10      its networks  http://c.lan/r/\n"
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"show", file}, "REPOSITORY  MIRRORS  PUBLIC  DIRECTORY\nr-1+x86_64  3        2       pub/r\n"},
		{[]string{"show", file, "--json"}, `{"repository":"r-1+x86_64","directory":"pub/r","mirrors":3,"public":2}` + "\n"},
		{[]string{"show", file, "r-1+x86_64"}, mirrors},
		{[]string{"show", file, "/pub/r/"}, mirrors},
		{[]string{"show", file, "pub/r/repodata", "--json"}, `"urls":["https://a.de/pub/r/repodata/","http://a.de/pub/r/repodata/"]`},
		{[]string{"stat", file}, "mirrors         3: 2 public, 1 private, 0 without directories; in 2 countries\n"},
		{[]string{"stat", file}, "URLs            4: 2 http, 2 https\n"},
		{[]string{"stat", file, "--json"}, `"schemes":{"http":2,"https":2}`},
	} {
		if out, _, err := snapshotCommand(t, tt.args...); err != nil || !strings.Contains(out, tt.want) {
			t.Errorf("%q: %v:\n%s\nwant\n%s", tt.args, err, out, tt.want)
		}
	}
	if _, _, err := snapshotCommand(t, "show", file, "r-2+x86_64"); err == nil || !strings.Contains(err.Error(), `no directory "r-2+x86_64"`) {
		t.Errorf("an unknown repository: %v", err)
	}
	if err := os.WriteFile(file, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := snapshotCommand(t, "stat", file); err == nil || !strings.Contains(err.Error(), file+": byte 0: ") {
		t.Errorf("no snapshot: %v", err)
	}
}
