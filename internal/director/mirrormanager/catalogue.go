package mirrormanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"freshet/api/directorapi"
	"freshet/internal/geoip"
)

// ReadCatalogue makes projects, sites and mirrors of the database at dsn, and says what
// could not be taken over. Each category is a project, if hosts carry it; each host is a
// mirror, and its place a site. A private host is kept to its netblocks, or, if it has
// none, to its autonomous system; one that has neither is disabled. Errors do not repeat
// the DSN.
func ReadCatalogue(ctx context.Context, dsn string) (c *directorapi.Catalogue, notes []string, err error) {
	conn, err := connect(ctx, dsn)
	if err != nil {
		return nil, nil, fmt.Errorf("open MirrorManager's database: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, nil, fmt.Errorf("read MirrorManager's database: %w", err)
	}
	defer func() { err = errors.Join(err, tx.Rollback(context.WithoutCancel(ctx))) }()
	m := &importer{
		reader: reader{tx: tx}, projects: make(map[int64]*directorapi.Project),
		mirrors: make(map[int64]*importedHost), carried: make(map[int64]*importedCarrier),
	}
	for _, step := range []struct {
		table string
		read  func(context.Context) error
	}{
		{"category", m.readProjects},
		{"host", m.readMirrors},
		{"host_netblock", m.readBlocks},
		{"host_country_allowed", m.readCountries},
		{"host_category", m.readCarried},
		{"host_category_url", m.readPlaces},
	} {
		if err := step.read(ctx); err != nil {
			return nil, nil, fmt.Errorf("read MirrorManager's database: table %s: %w", step.table, err)
		}
	}
	return m.catalogue(), m.notes, nil
}

// importer takes the tables in, one after the other.
type importer struct {
	reader

	projects map[int64]*directorapi.Project
	mirrors  map[int64]*importedHost
	carried  map[int64]*importedCarrier
	notes    []string
}

type importedHost struct {
	directorapi.Mirror

	site    directorapi.Site
	private bool
}

// importedCarrier is what a host has of a category.
type importedCarrier struct {
	host    int64
	project *directorapi.Project
	directorapi.Carried
}

func (m *importer) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

func (m *importer) readProjects(ctx context.Context) error {
	var id int64
	var name, topdir, canonical string
	return m.each(ctx, `SELECT c.id::int8, coalesce(c.name, ''), d.name, coalesce(c.canonicalhost, '')
			FROM category c JOIN directory d ON d.id = c.topdir_id ORDER BY c.id`,
		[]any{&id, &name, &topdir, &canonical}, func() {
			p := &directorapi.Project{Name: directorapi.Slug(name), Path: "/" + strings.Trim(topdir, "/") + "/"}
			if canonical = strings.TrimRight(canonical, "/"); canonical != "" {
				p.Origins = []string{canonical + p.Path}
				p.Inventory.How = directorapi.HowHTTP
			}
			m.projects[id] = p
		})
}

func (m *importer) readMirrors(ctx context.Context) error {
	var id, bandwidth, asn int64
	var name, site, url, country, comment, reason string
	var active, private, asnClients bool
	var latitude, longitude float64
	return m.each(ctx, `
		SELECT h.id::int8, coalesce(h.name, ''), coalesce(s.name, ''), coalesce(s.org_url, ''), upper(coalesce(h.country, '')),
			coalesce(h.bandwidth_int, 0)::int8, coalesce(h.asn, 0)::int8, coalesce(h.asn_clients, false),
			coalesce(h.comment, ''), coalesce(h.disable_reason, ''),
			coalesce(h.admin_active AND h.user_active AND s.admin_active AND s.user_active, false),
			coalesce(h.private, false) OR coalesce(s.private, false), coalesce(h.latitude, 0)::float8, coalesce(h.longitude, 0)::float8
		FROM host h JOIN site s ON s.id = h.site_id ORDER BY h.id`,
		[]any{&id, &name, &site, &url, &country, &bandwidth, &asn, &asnClients, &comment, &reason, &active, &private, &latitude, &longitude},
		func() {
			slug := directorapi.Slug(name)
			switch {
			case slug == "":
				m.note("host %d: left out: it has no name", id)
				return
			case geoip.CountryName(country) == country:
				m.note("%s: left out: its country is %q", name, country)
				return
			}
			h := &importedHost{private: private}
			h.site = directorapi.Site{
				Name: slug, Organisation: oneLine(site), Country: country, Latitude: latitude, Longitude: longitude,
			}
			if strings.HasPrefix(url, "http://") || strings.HasPrefix(url, "https://") {
				h.site.URL = url
			}
			if asn > 0 && asn < 1<<32 {
				h.site.ASN = uint32(asn)
			}
			h.Mirror = directorapi.Mirror{
				Name: slug, Site: slug, Disabled: !active, Comment: oneLine(cmp.Or(reason, comment)), Capacity: int(min(max(bandwidth, 0), 1_000_000)),
			}
			h.Rules.ASNOnly = private && asnClients && h.site.ASN != 0
			m.mirrors[id] = h
		})
}

// oneLine is a text without what a catalogue does not take.
func oneLine(text string) string {
	const limit = 1000
	text = strings.Join(strings.Fields(text), " ")
	return strings.ToValidUTF8(text[:min(len(text), limit)], "")
}

func (m *importer) readBlocks(ctx context.Context) error {
	var id int64
	var text string
	return m.each(ctx, `SELECT host_id::int8, netblock FROM host_netblock WHERE netblock IS NOT NULL ORDER BY host_id, id`,
		[]any{&id, &text}, func() {
			h := m.mirrors[id]
			if h == nil {
				return
			}
			prefixes, ok := literal(strings.TrimSpace(text))
			if !ok || len(prefixes) == 0 {
				m.note("%s: netblock %q is left out: it is no prefix", h.Name, text)
			}
			for _, p := range prefixes {
				if p = p.Masked(); !slices.Contains(h.Rules.Netblocks, p) {
					h.Rules.Netblocks = append(h.Rules.Netblocks, p)
				}
			}
		})
}

func (m *importer) readCountries(ctx context.Context) error {
	var id int64
	var code string
	return m.each(ctx, `SELECT host_id::int8, upper(country) FROM host_country_allowed WHERE country IS NOT NULL ORDER BY host_id, country`,
		[]any{&id, &code}, func() {
			h := m.mirrors[id]
			switch {
			case h == nil:
			case geoip.CountryName(code) == code:
				m.note("%s: country %q is left out: nobody knows it", h.Name, code)
			default:
				h.Rules.CountryOnly = true
				h.Rules.Countries = append(h.Rules.Countries, code)
			}
		})
}

func (m *importer) readCarried(ctx context.Context) error {
	var id, category, host int64
	return m.each(ctx, `SELECT id::int8, category_id::int8, host_id::int8 FROM host_category ORDER BY id`,
		[]any{&id, &category, &host}, func() {
			if p := m.projects[category]; p != nil && m.mirrors[host] != nil {
				m.carried[id] = &importedCarrier{host: host, project: p}
			}
		})
}

func (m *importer) readPlaces(ctx context.Context) error {
	var carrier int64
	var url string
	return m.each(ctx, `SELECT host_category_id::int8, url FROM host_category_url WHERE private = false ORDER BY id`,
		[]any{&carrier, &url}, func() {
			c := m.carried[carrier]
			if c == nil {
				return
			}
			url = strings.TrimRight(strings.TrimSpace(url), "/") + "/"
			scheme, _, _ := strings.Cut(url, "://")
			for _, at := range []struct {
				scheme string
				url    *string
			}{{"http", &c.HTTP}, {"https", &c.HTTPS}, {"rsync", &c.RSYNC}} {
				if scheme == at.scheme && *at.url == "" {
					*at.url = url
					return
				}
			}
			m.note("%s: %s is left out: there is another one for %s, or nobody can use it", m.mirrors[c.host].Name, url, c.project.Name)
		})
}

// catalogue puts together what was read.
func (m *importer) catalogue() *directorapi.Catalogue {
	used := make(map[*directorapi.Project]bool)
	for _, id := range slices.Sorted(maps.Keys(m.carried)) {
		c := m.carried[id]
		h := m.mirrors[c.host]
		if c.HTTP == "" && c.HTTPS == "" {
			m.note("%s: %s is left out: clients cannot get it there by http", h.Name, c.project.Name)
			continue
		}
		c.Project, c.Inventory.How = c.project.Name, directorapi.HowHTTP
		if c.RSYNC != "" {
			c.Inventory.How = directorapi.HowRsync
		}
		used[c.project] = true
		h.Carries = append(h.Carries, c.Carried)
	}
	c := &directorapi.Catalogue{}
	for _, id := range slices.Sorted(maps.Keys(m.projects)) {
		if p := m.projects[id]; used[p] {
			c.Projects = append(c.Projects, *p)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.mirrors)) {
		h := m.mirrors[id]
		h.limit(m)
		c.Sites, c.Mirrors = append(c.Sites, h.site), append(c.Mirrors, h.Mirror)
	}
	return c
}

// limit keeps a private host to those it is for.
func (h *importedHost) limit(m *importer) {
	slices.SortFunc(h.Rules.Netblocks, netip.Prefix.Compare)
	switch {
	case !h.private:
		return
	case len(h.Rules.Netblocks) > 0:
		h.Rules.NetblocksOnly, h.Rules.ASNOnly = true, false
	case !h.Rules.ASNOnly && !h.Disabled:
		h.Disabled = true
		m.note("%s: is private and has neither netblocks nor an autonomous system: disabled", h.Name)
	}
}
