package mirrormanager

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"freshet/internal/mirrorlist"
)

// reader takes the tables in, one after the other.
type reader struct {
	tx  pgx.Tx
	opt Options
	b   *mirrorlist.Builder

	hosts       map[int64]host
	categories  map[int64]*category
	carriers    map[int64]*carrier
	directories map[int64]int // id → place in names
	names       []string
	category    []*category // of each directory; nil if it has none
	blocks      []ownedBlock
}

// host is what decides where a host is listed.
type host struct {
	active, private             bool
	internet2, internet2Clients bool
	country                     string
}

// category is a tree that hosts carry.
type category struct {
	id       int64
	topdir   string
	carriers []*carrier
}

// carrier is a host's row for a category.
type carrier struct {
	host   int64
	always bool
	urls   []mirrorURL
	upTo   bitmap // its directories that are up to date
}

type mirrorURL struct {
	id  int64
	url string
}

func newReader(tx pgx.Tx, opt Options) *reader {
	return &reader{
		tx: tx, opt: opt, b: mirrorlist.NewBuilder(),
		hosts:       make(map[int64]host),
		categories:  make(map[int64]*category),
		carriers:    make(map[int64]*carrier),
		directories: make(map[int64]int),
	}
}

func (r *reader) readHosts(ctx context.Context) error {
	var id, bandwidth, connections int64
	var asn *int64
	var country string
	var asnClients bool
	var h host
	asns := make(map[int64][]int64)
	err := r.each(ctx, `
		SELECT h.id::int8, coalesce(h.bandwidth_int, 100)::int8, coalesce(h.max_connections, 1)::int8, h.asn::int8,
			upper(coalesce(h.country, '')), coalesce(h.asn_clients, false),
			coalesce(h.admin_active AND h.user_active AND s.admin_active AND s.user_active, false),
			coalesce(h.private, false) OR coalesce(s.private, false), coalesce(h.internet2, false), coalesce(h.internet2_clients, false)
		FROM host h JOIN site s ON s.id = h.site_id ORDER BY h.id`,
		[]any{&id, &bandwidth, &connections, &asn, &country, &asnClients, &h.active, &h.private, &h.internet2, &h.internet2Clients},
		func() {
			h.country = country
			r.hosts[id] = h
			r.b.AddBandwidth(id, min(max(bandwidth, 1), 10_000))
			r.b.AddMaxConnections(id, connections)
			if country != "" {
				r.b.AddHostCountry(id, country)
			}
			if asnClients && asn != nil {
				asns[*asn] = append(asns[*asn], id)
			}
		})
	for asn, ids := range asns {
		r.b.AddASN(asn, ids)
	}
	return err
}

func (r *reader) readNetblocks(ctx context.Context) error {
	var b ownedBlock
	return r.each(ctx, `SELECT host_id::int8, netblock FROM host_netblock WHERE netblock IS NOT NULL ORDER BY host_id, netblock`,
		[]any{&b.host, &b.text}, func() {
			if r.hosts[b.host].active {
				r.blocks = append(r.blocks, ownedBlock{b.host, strings.TrimSpace(b.text)})
			}
		})
}

func (r *reader) readAllowed(ctx context.Context) error {
	var id int64
	var codes []string
	return r.each(ctx, `
		SELECT host_id::int8, array_agg(DISTINCT upper(country)) FROM host_country_allowed WHERE country IS NOT NULL GROUP BY host_id ORDER BY host_id`,
		[]any{&id, &codes}, func() {
			if r.hosts[id].active {
				r.b.AddAllowedCountries(id, codes)
			}
		})
}

func (r *reader) readCarriers(ctx context.Context) error {
	var id, categoryID, hostID int64
	var always bool
	var topdir string
	// Categories without hosts are there too: their directories are, and nobody has them.
	err := r.each(ctx, `SELECT c.id::int8, d.name FROM category c JOIN directory d ON d.id = c.topdir_id ORDER BY c.id`,
		[]any{&id, &topdir}, func() { r.categories[id] = &category{id: id, topdir: topdir} })
	if err != nil {
		return err
	}
	return r.each(ctx, `SELECT id::int8, category_id::int8, host_id::int8, coalesce(always_up2date, false) FROM host_category ORDER BY id`,
		[]any{&id, &categoryID, &hostID, &always}, func() {
			if c := r.categories[categoryID]; c != nil && r.hosts[hostID].active {
				r.carriers[id] = &carrier{host: hostID, always: always}
				c.carriers = append(c.carriers, r.carriers[id])
			}
		})
}

func (r *reader) readURLs(ctx context.Context) error {
	var id, carrierID int64
	var url string
	err := r.each(ctx, `SELECT id::int8, host_category_id::int8, url FROM host_category_url WHERE private = false ORDER BY id`,
		[]any{&id, &carrierID, &url}, func() {
			url = strings.TrimRight(url, "/")
			r.b.AddURL(id, url)
			if c := r.carriers[carrierID]; c != nil {
				c.urls = append(c.urls, mirrorURL{id, url})
			}
		})
	for _, c := range r.carriers {
		slices.SortStableFunc(c.urls, func(a, b mirrorURL) int { return preference(a.url) - preference(b.url) })
	}
	return err
}

// preference is the place of a URL among those of its host.
func preference(url string) int {
	schemes := []string{"https:", "http:", "rsync:"}
	at := slices.IndexFunc(schemes, func(scheme string) bool { return strings.HasPrefix(url, scheme) })
	if at < 0 {
		return len(schemes)
	}
	return at
}

func (r *reader) readDirectories(ctx context.Context) error {
	var id int64
	var name string
	err := r.each(ctx, `SELECT id::int8, name FROM directory ORDER BY id`, []any{&id, &name}, func() {
		r.directories[id] = len(r.names)
		r.names = append(r.names, name)
	})
	r.category = make([]*category, len(r.names))
	return err
}

func (r *reader) readCategories(ctx context.Context) error {
	var directoryID, categoryID int64
	// By category, so that of two with equal top directories the first one counts.
	return r.each(ctx, `SELECT directory_id::int8, category_id::int8 FROM category_directory ORDER BY category_id`,
		[]any{&directoryID, &categoryID}, func() {
			at, known := r.directories[directoryID]
			c := r.categories[categoryID]
			if !known || c == nil {
				return
			}
			name := r.names[at]
			if _, inside := subpath(name, c.topdir); !inside {
				r.b.AddProblem("MirrorListCache", name, "is in a category whose top directory is elsewhere: "+c.topdir)
				return
			}
			if old := r.category[at]; old == nil || len(c.topdir) > len(old.topdir) {
				r.category[at] = c
			}
		})
}

// subpath is the name of a directory below the top directory of its category.
func subpath(name, topdir string) (below string, inside bool) {
	if topdir == "" {
		return name, true
	}
	below, inside = strings.CutPrefix(name, topdir)
	if !inside || below == "" {
		return "", inside
	}
	return strings.CutPrefix(below, "/")
}

// readUpToDate reads millions of rows, of which each becomes a bit.
func (r *reader) readUpToDate(ctx context.Context) error {
	for _, c := range r.carriers {
		if !c.always {
			c.upTo = newBitmap(len(r.names))
		}
	}
	rows, err := r.tx.Query(ctx, `
		SELECT host_category_id::int8, directory_id::int8 FROM host_category_dir WHERE up2date AND directory_id IS NOT NULL`,
		pgx.QueryResultFormats{pgx.BinaryFormatCode})
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		values := rows.RawValues() // a third of the time that Scan takes
		c := r.carriers[bigEndian(values[0])]
		if c == nil || c.always {
			continue
		}
		if at, known := r.directories[bigEndian(values[1])]; known {
			c.upTo.set(at)
		}
	}
	return rows.Err()
}

func (r *reader) readRepositories(ctx context.Context) error {
	var directoryID int64
	var prefix, arch string
	var disabled bool
	return r.each(ctx, `
		SELECT r.directory_id::int8, r.prefix, a.name, coalesce(r.disabled, false)
		FROM repository r JOIN arch a ON a.id = r.arch_id
		WHERE r.directory_id IS NOT NULL AND r.version_id IS NOT NULL AND r.prefix <> '' ORDER BY r.id`,
		[]any{&directoryID, &prefix, &arch, &disabled}, func() {
			if disabled {
				r.b.AddDisabled(prefix, true)
			}
			if at, known := r.directories[directoryID]; known {
				r.b.AddRepository(prefix+"+"+arch, r.names[at])
			}
		})
}

func (r *reader) readRedirects(ctx context.Context) error {
	var from, to string
	return r.each(ctx, `SELECT from_repo, to_repo FROM repository_redirect WHERE to_repo IS NOT NULL ORDER BY id`,
		[]any{&from, &to}, func() { r.b.AddRedirect(from, to) })
}

func (r *reader) readContinents(ctx context.Context) error {
	var country, continent string
	return r.each(ctx, `SELECT country, continent FROM country_continent_redirect ORDER BY id`,
		[]any{&country, &continent}, func() { r.b.AddContinent(country, continent) })
}

func (r *reader) readNetblockCountries(ctx context.Context) error {
	var netblock, country string
	return r.each(ctx, `SELECT netblock, country FROM netblock_country ORDER BY id`,
		[]any{&netblock, &country}, func() { r.b.AddNetblockCountry(netblock, country) })
}

func (r *reader) readFiles(ctx context.Context) error {
	var directoryID, timestamp, size int64
	var name string
	var v mirrorlist.Version
	var versions []mirrorlist.Version
	current := struct {
		directory int64
		name      string
	}{-1, ""}
	flush := func() {
		if at, known := r.directories[current.directory]; known && len(versions) > 0 {
			r.b.AddFile(r.names[at], current.name, versions)
		}
		versions = versions[:0]
	}
	err := r.each(ctx, `
		SELECT directory_id::int8, filename, greatest(coalesce(file_detail.timestamp, 0), 0)::int8, greatest(coalesce(size, 0), 0)::int8,
			coalesce(md5, ''), coalesce(sha1, ''), coalesce(sha256, ''), coalesce(sha512, '')
		FROM file_detail ORDER BY directory_id, filename, file_detail.timestamp DESC, id DESC`,
		[]any{&directoryID, &name, &timestamp, &size, &v.MD5, &v.SHA1, &v.SHA256, &v.SHA512}, func() {
			if current.directory != directoryID || current.name != name {
				flush()
				current.directory, current.name = directoryID, name
			}
			v.Timestamp, v.Size = uint64(timestamp), uint64(size)
			versions = append(versions, v)
		})
	flush()
	return err
}
