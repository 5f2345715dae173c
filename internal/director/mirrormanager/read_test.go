package mirrormanager_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"freshet/internal/director/mirrormanager"
	"freshet/internal/mirrorlist"
	"freshet/internal/mirrorlist/snapshotpb"
	"freshet/internal/sqldb/sqldbtest"
)

// schema has the tables and columns of MirrorManager that are read.
const schema = `
	CREATE TABLE site (id SERIAL PRIMARY KEY, name TEXT, private BOOLEAN DEFAULT false, admin_active BOOLEAN DEFAULT true, user_active BOOLEAN DEFAULT true);
	CREATE TABLE host (id SERIAL PRIMARY KEY, name TEXT, site_id INTEGER REFERENCES site, country TEXT, bandwidth_int INTEGER DEFAULT 100,
		private BOOLEAN DEFAULT false, internet2 BOOLEAN DEFAULT false, internet2_clients BOOLEAN DEFAULT false, asn INTEGER, asn_clients BOOLEAN DEFAULT true,
		max_connections INTEGER DEFAULT 1, admin_active BOOLEAN DEFAULT true, user_active BOOLEAN DEFAULT true);
	CREATE TABLE host_netblock (id SERIAL PRIMARY KEY, host_id INTEGER, netblock TEXT, name TEXT);
	CREATE TABLE host_country_allowed (id SERIAL PRIMARY KEY, host_id INTEGER, country TEXT UNIQUE);
	CREATE TABLE directory (id SERIAL PRIMARY KEY, name TEXT UNIQUE, files BYTEA, readable BOOLEAN, ctime BIGINT);
	CREATE TABLE category (id SERIAL PRIMARY KEY, name TEXT, topdir_id INTEGER);
	CREATE TABLE category_directory (category_id INTEGER, directory_id INTEGER, PRIMARY KEY (category_id, directory_id));
	CREATE TABLE host_category (id SERIAL PRIMARY KEY, host_id INTEGER, category_id INTEGER, always_up2date BOOLEAN DEFAULT false);
	CREATE TABLE host_category_url (id SERIAL PRIMARY KEY, host_category_id INTEGER, url TEXT UNIQUE, private BOOLEAN DEFAULT false);
	CREATE TABLE host_category_dir (id SERIAL PRIMARY KEY, host_category_id INTEGER, path TEXT, up2date BOOLEAN DEFAULT true, directory_id INTEGER);
	CREATE TABLE arch (id SERIAL PRIMARY KEY, name TEXT);
	CREATE TABLE repository (id SERIAL PRIMARY KEY, name TEXT, prefix TEXT, category_id INTEGER, version_id INTEGER, arch_id INTEGER, directory_id INTEGER, disabled BOOLEAN DEFAULT false);
	CREATE TABLE repository_redirect (id SERIAL PRIMARY KEY, from_repo TEXT UNIQUE, to_repo TEXT);
	CREATE TABLE country_continent_redirect (id SERIAL PRIMARY KEY, country TEXT, continent TEXT);
	CREATE TABLE netblock_country (id SERIAL PRIMARY KEY, netblock TEXT, country TEXT);
	CREATE TABLE file_detail (id SERIAL PRIMARY KEY, directory_id INTEGER, filename TEXT, timestamp BIGINT, size BIGINT, sha1 TEXT, md5 TEXT, sha256 TEXT, sha512 TEXT);`

// content has a row for each rule.
const content = `
	INSERT INTO site (id, name, private, admin_active, user_active) VALUES (1, 'open', false, true, true), (2, 'house', true, true, true),
		(3, 'refused', false, false, true), (4, 'left', false, true, false);
	INSERT INTO host (id, site_id, country, bandwidth_int, private, internet2, internet2_clients, asn, asn_clients, admin_active, user_active) VALUES
		(1, 1, 'de', 100, false, true, false, 3320, true, true, true),
		(2, 1, 'AT', 0, false, false, false, 3320, false, true, true),
		(3, 2, 'DE', 20000, false, true, true, 680, true, true, true),     -- private by its site
		(4, 1, 'FR', 100, true, true, false, NULL, true, true, true),      -- private, not for clients of Internet2
		(5, 3, 'US', 100, false, false, false, NULL, true, true, true),    -- its site is off
		(6, 4, 'US', 100, false, false, false, NULL, true, true, true),
		(7, 1, 'US', 100, false, false, false, NULL, true, false, true),
		(8, 1, 'US', 100, false, false, false, NULL, true, true, false),
		(9, NULL, 'US', 100, false, false, false, NULL, true, true, true), -- has no site
		(10, 1, NULL, NULL, false, false, false, NULL, true, NULL, true),  -- its state is not known
		(11, 1, NULL, NULL, false, false, false, NULL, true, true, true);
	INSERT INTO host_netblock (host_id, netblock) VALUES (3, '10.0.0.0/8'), (1, '10.0.0.0/8'), (3, '192.0.2.8/255.255.255.248'), (3, ' 192.0.2.1 '),
		(3, 'clients.example'), (3, 'gone.example'), (3, '10.0.0.0/33'), (3, '10.0.0.0/255.0.255.0'), (3, '2001:db8::/ffff:ffff::'), (5, '10.5.0.0/16'), (3, NULL);
	INSERT INTO host_country_allowed (host_id, country) VALUES (2, 'at'), (2, 'CH'), (5, 'US');
	INSERT INTO directory (id, name) VALUES (1, 'pub'), (2, 'pub/a'), (3, 'pub/a/os'), (4, 'pub/a/os/repodata'), (5, 'pub/b'), (6, 'pub/bee'), (7, 'lost');
	INSERT INTO category (id, name, topdir_id) VALUES (1, 'A', 2), (2, 'B', 5), (3, 'all', 1), (4, 'no top', NULL);
	INSERT INTO category_directory (category_id, directory_id) VALUES (1, 2), (1, 3), (1, 4), (2, 5), (2, 6), (3, 3), (3, 1), (4, 7);
	INSERT INTO host_category (id, host_id, category_id, always_up2date) VALUES
		(11, 1, 1, false), (21, 2, 1, true), (31, 3, 1, false), (41, 4, 1, false), (51, 5, 1, true), (61, 11, 1, true), (12, 1, 2, false), (71, 9, 1, true);
	INSERT INTO host_category_url (id, host_category_id, url, private) VALUES (1, 11, 'rsync://a.de/a', false), (2, 11, 'http://a.de/a/', false),
		(3, 11, 'https://a.de/a', false), (4, 11, 'https://master.a.de/a', true), (5, 21, 'https://b.at/a', false), (6, 31, 'http://c.lan/a', false),
		(7, 41, 'http://d.lan/a', false), (8, 51, 'http://e.us/a', false), (9, 11, 'ftp://a.de/a', false), (10, 12, 'http://a.de/b', false);
	INSERT INTO host_category_dir (host_category_id, path, up2date, directory_id) VALUES (11, '', true, 2), (11, '/os', true, 3), (11, '/os/repodata', false, 4),
		(31, '/os', true, 3), (41, '/os', true, 3), (51, '/os', true, 3), (12, '', true, 5), (12, '/gone', true, NULL), (12, '/x', true, 99), (99, '', true, 2);
	INSERT INTO arch VALUES (1, 'x86_64'), (2, 'source');
	INSERT INTO repository (prefix, version_id, arch_id, directory_id, disabled) VALUES ('a-1', 1, 1, 3, false), ('a-source-1', 1, 2, 3, false), ('old', 1, 1, 2, true),
		('', 1, 1, 3, false), (NULL, 1, 1, 3, true), ('none', NULL, 1, 3, true), ('none', 1, NULL, 3, false), ('none', 1, 1, NULL, false);
	INSERT INTO repository_redirect (from_repo, to_repo) VALUES ('a', 'a-1'), ('nowhere', NULL);
	INSERT INTO country_continent_redirect (country, continent) VALUES ('IL', 'EU');
	INSERT INTO netblock_country (netblock, country) VALUES ('198.51.100.0/24', 'US');
	INSERT INTO file_detail (directory_id, filename, timestamp, size, md5, sha1, sha256, sha512) VALUES
		(4, 'repomd.xml', 100, 10, 'm', 's', 't', 'u'), (4, 'repomd.xml', 300, 30, NULL, NULL, 'x', NULL), (4, 'repomd.xml', NULL, NULL, NULL, NULL, 'y', NULL),
		(7, 'image.iso', 200, -1, NULL, NULL, 'z', NULL), (99, 'gone', 1, 1, NULL, NULL, NULL, NULL);`

// wanted is the snapshot of content, in the order in which snapshots are written.
const wanted = `
	Time: 1700000000
	NetblockCountryCache { key: "198.51.100.0/24" value: "US" }
	HCUrlCache { key: 1 value: "rsync://a.de/a" } HCUrlCache { key: 2 value: "http://a.de/a" } HCUrlCache { key: 3 value: "https://a.de/a" }
	HCUrlCache { key: 5 value: "https://b.at/a" } HCUrlCache { key: 6 value: "http://c.lan/a" } HCUrlCache { key: 7 value: "http://d.lan/a" }
	HCUrlCache { key: 8 value: "http://e.us/a" } HCUrlCache { key: 9 value: "ftp://a.de/a" } HCUrlCache { key: 10 value: "http://a.de/b" }
	FileDetailsCache { directory: "lost" FileDetailsCacheFiles { filename: "image.iso" FileDetails { TimeStamp: 200 Size: 0 SHA256: "z" } } }
	FileDetailsCache { directory: "pub/a/os/repodata" FileDetailsCacheFiles { filename: "repomd.xml"
		FileDetails { TimeStamp: 0 Size: 0 SHA256: "y" } FileDetails { TimeStamp: 300 Size: 30 SHA256: "x" }
		FileDetails { TimeStamp: 100 Size: 10 SHA1: "s" MD5: "m" SHA256: "t" SHA512: "u" } } }
	DisabledRepositoryCache { key: "old" value: true }
	CountryContinentRedirectCache { key: "IL" value: "EU" }
	RepositoryRedirectCache { key: "a" value: "a-1" }
	RepoArchToDirectoryName { key: "a-1+x86_64" value: "pub/a/os" } RepoArchToDirectoryName { key: "a-source-1+source" value: "pub/a/os" }
	RepoArchToDirectoryName { key: "old+x86_64" value: "pub/a" }
	HostAsnCache { key: 680 value: 3 } HostAsnCache { key: 3320 value: 1 }
	HostMaxConnectionCache { key: 1 value: 1 } HostMaxConnectionCache { key: 2 value: 1 } HostMaxConnectionCache { key: 3 value: 1 }
	HostMaxConnectionCache { key: 4 value: 1 } HostMaxConnectionCache { key: 5 value: 1 } HostMaxConnectionCache { key: 6 value: 1 }
	HostMaxConnectionCache { key: 7 value: 1 } HostMaxConnectionCache { key: 8 value: 1 } HostMaxConnectionCache { key: 10 value: 1 } HostMaxConnectionCache { key: 11 value: 1 }
	HostCountryCache { key: 1 value: "DE" } HostCountryCache { key: 2 value: "AT" } HostCountryCache { key: 3 value: "DE" } HostCountryCache { key: 4 value: "FR" }
	HostCountryCache { key: 5 value: "US" } HostCountryCache { key: 6 value: "US" } HostCountryCache { key: 7 value: "US" } HostCountryCache { key: 8 value: "US" }
	HostBandwidthCache { key: 1 value: 100 } HostBandwidthCache { key: 2 value: 1 } HostBandwidthCache { key: 3 value: 10000 } HostBandwidthCache { key: 4 value: 100 }
	HostBandwidthCache { key: 5 value: 100 } HostBandwidthCache { key: 6 value: 100 } HostBandwidthCache { key: 7 value: 100 } HostBandwidthCache { key: 8 value: 100 }
	HostBandwidthCache { key: 10 value: 100 } HostBandwidthCache { key: 11 value: 100 }
	HostCountryAllowedCache { key: 2 value: "AT" value: "CH" }
	HostNetblockCache { key: "10.0.0.0/8" value: 1 value: 3 } HostNetblockCache { key: "192.0.2.1/32" value: 3 } HostNetblockCache { key: "192.0.2.8/29" value: 3 }
	HostNetblockCache { key: "2001:db8::/32" value: 3 } HostNetblockCache { key: "2001:db8::7/128" value: 3 } HostNetblockCache { key: "203.0.113.7/32" value: 3 }
	MirrorListCache { directory: "pub" Subpath: "" }
	MirrorListCache { directory: "pub/a" Subpath: "" Global: 1 Global: 2 Global: 11 ByCountry { key: "AT" value: 2 } ByCountry { key: "DE" value: 1 }
		ByCountryInternet2 { key: "DE" value: 1 } ByHostId { key: 1 value: 3 value: 2 value: 1 value: 9 } ByHostId { key: 2 value: 5 } }
	MirrorListCache { directory: "pub/a/os" Subpath: "os" Global: 1 Global: 2 Global: 11 ByCountry { key: "AT" value: 2 } ByCountry { key: "DE" value: 1 }
		ByCountryInternet2 { key: "DE" value: 1 value: 3 } ByHostId { key: 1 value: 3 value: 2 value: 1 value: 9 } ByHostId { key: 2 value: 5 }
		ByHostId { key: 3 value: 6 } ByHostId { key: 4 value: 7 } }
	MirrorListCache { directory: "pub/a/os/repodata" Subpath: "os/repodata" Global: 2 Global: 11 ByCountry { key: "AT" value: 2 } ByHostId { key: 2 value: 5 } }
	MirrorListCache { directory: "pub/b" Subpath: "" Global: 1 ByCountry { key: "DE" value: 1 } ByCountryInternet2 { key: "DE" value: 1 } ByHostId { key: 1 value: 10 } }`

// options have a resolver that knows one name.
func options() mirrormanager.Options {
	return mirrormanager.Options{
		Now: time.Unix(1700000000, 0),
		Resolve: func(_ context.Context, name string) ([]netip.Addr, error) {
			if name != "clients.example" {
				return nil, errors.New("no such host")
			}
			return []netip.Addr{netip.MustParseAddr("::ffff:203.0.113.7"), netip.MustParseAddr("2001:db8::7")}, nil
		},
	}
}

func database(tb testing.TB, statements ...string) (dsn string) {
	tb.Helper()
	dsn = sqldbtest.PostgreSQL(tb)
	conn, err := pgx.Connect(tb.Context(), dsn)
	if err != nil {
		tb.Fatal(err)
	}
	for _, statement := range statements {
		if _, err := conn.Exec(tb.Context(), statement); err != nil {
			tb.Fatal(err)
		}
	}
	if err := conn.Close(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return dsn
}

func encode(tb testing.TB, s *mirrorlist.Snapshot) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestRead(t *testing.T) {
	dsn := database(t, schema, content)
	s, err := mirrormanager.Read(t.Context(), dsn, options())
	if err != nil {
		t.Fatal(err)
	}
	var got, want snapshotpb.MirrorList
	file := encode(t, s)
	if err := proto.Unmarshal(file, &got); err != nil {
		t.Fatal(err)
	}
	if err := prototext.Unmarshal([]byte(wanted), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, &got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	problems := strings.Join(s.Problems().First, "\n")
	for _, text := range []string{`"10.0.0.0/33"`, `"10.0.0.0/255.0.255.0"`, `"gone.example"`, `MirrorListCache: "pub/bee" is in a category whose top directory is elsewhere: pub/b`} {
		if !strings.Contains(problems, text) {
			t.Errorf("%s is no problem; they are\n%s", text, problems)
		}
	}
	if s.Problems().Count != 4 {
		t.Errorf("%d problems:\n%s", s.Problems().Count, problems)
	}
	if _, err := mirrorlist.Read(bytes.NewReader(file)); err != nil {
		t.Errorf("the snapshot cannot be read: %v", err)
	}
}

// The same rows in another order of the disk are the same bytes.
func TestReadIsDeterministic(t *testing.T) {
	dsn := database(t, schema, content)
	first, err := mirrormanager.Read(t.Context(), dsn, options())
	if err != nil {
		t.Fatal(err)
	}
	moved := database(t, schema, content, `
		UPDATE host SET name = 'moved' WHERE id < 5; UPDATE host_category SET host_id = host_id WHERE id < 30; UPDATE directory SET name = name WHERE id < 4;
		UPDATE host_category_url SET private = private WHERE id < 4; UPDATE host_netblock SET name = 'x' WHERE id < 4; UPDATE file_detail SET size = size WHERE id < 2;
		UPDATE category SET name = 'x' WHERE id < 3; UPDATE repository SET name = 'x' WHERE id < 2`)
	second, err := mirrormanager.Read(t.Context(), moved, options())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encode(t, first), encode(t, second)) {
		t.Error("the snapshots differ")
	}
}

func TestReadFails(t *testing.T) {
	_, err := mirrormanager.Read(t.Context(), database(t), options())
	if err == nil || !strings.Contains(err.Error(), "table host: ") {
		t.Errorf("an empty database: %v", err)
	}
	_, err = mirrormanager.Read(t.Context(), "postgresql://user:secret@%zz/", options())
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v, want one without the password", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	opt := options()
	opt.Resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) {
		cancel()
		return nil, ctx.Err()
	}
	if _, err := mirrormanager.Read(ctx, database(t, schema, content), opt); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
