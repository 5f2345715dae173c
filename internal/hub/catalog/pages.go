package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

// Pages of long lists go by key, newest first: a page holds what is older than
// the last of the page before, found by an index, so that the last page costs
// what the first does. What no index finds is looked for in a part of the table
// of bounded size; the page says where it ended.

const (
	// scanned bounds the rows that a page looks through without an index.
	scanned = 10_000
	// maxSeeks bounds the applications that are looked up one by one.
	maxSeeks = 200
)

// BuildFilter says which builds a list has. The zero value has all.
type BuildFilter struct {
	// Repos are the repositories; empty means all.
	Repos []string
	// IDs are the applications; nil means all, and builds of none.
	IDs *IDs
	// Token is the id of a token whose builds of no application are listed beside
	// those of IDs; "" is none.
	Token string
	// Bring adds the builds of no application that bring refs of IDs.
	Bring bool
	// Stages are those that builds are in; empty means all.
	Stages []Stage

	look int // instead of scanned, in tests
}

// IDs is a set of application ids.
type IDs struct {
	// Apps are ids, Below are ids that stand for themselves and all below them
	// ("org.a", "org.a.*"), and Prefixes are the first characters of ids.
	Apps, Below, Prefixes []string
}

// BuildPage is a part of a list of builds, newest first.
type BuildPage struct {
	Builds []hubapi.Build
	// Next is the before of the next page, 0 at the end. A page may be shorter
	// than asked for, even empty, without being the last.
	Next int64
}

// BuildPage returns builds with an id below before (0: from the newest on), at most
// limit.
func (c *Catalog) BuildPage(ctx context.Context, filter BuildFilter, before int64, limit int) (page BuildPage, err error) {
	before = fromNewest(before)
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		page = BuildPage{}
		seeks, err := filter.seeks(ctx, tx, c.db.Engine() == sqldb.SQLite)
		if err != nil {
			return err
		}
		var ids []int64
		if ids, page.Next, err = find(ctx, tx, "builds", seeks, cmp.Or(filter.look, scanned), before, limit); err != nil {
			return err
		}
		page.Builds, err = buildsByID(ctx, tx, ids)
		return err
	})
	if err != nil {
		return page, fmt.Errorf("list builds: %w", err)
	}
	return page, nil
}

// find returns the ids of what the seeks find together, newest first, and the
// before of the next page. look bounds the rows that a scan looks at.
func find(ctx context.Context, tx *sqldb.Tx, table string, seeks []seek, look int, before int64, limit int) (ids []int64, next int64, err error) {
	for _, seek := range seeks {
		found, ended, err := seek.ids(ctx, tx, table, look, before, limit+1)
		if err != nil {
			return nil, 0, err
		}
		ids, next = append(ids, found...), max(next, ended)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	slices.Reverse(ids)
	// What is older than the end of a scan may lack what that has not seen.
	for len(ids) > 0 && ids[len(ids)-1] < next {
		ids = ids[:len(ids)-1]
	}
	if len(ids) > limit {
		ids = ids[:limit]
		next = ids[limit-1]
	}
	return ids, next, nil
}

// seek is a part of a list that one index finds in its order, or a bounded scan.
type seek struct {
	// key is what the index finds by equality; empty for the primary key.
	key  string
	args []any
	// rest is what the rows found must fulfil besides, and not by an index.
	rest     string
	restArgs []any
	// scan bounds the rows looked at.
	scan bool
}

// ids returns the ids of what is found below before, newest first, and where a
// bounded scan ended before the end of the table; 0 if it did not.
func (s seek) ids(ctx context.Context, tx *sqldb.Tx, table string, look int, before int64, limit int) (ids []int64, next int64, err error) {
	one := func(rows *sql.Rows) (id int64, err error) { return id, rows.Scan(&id) }
	if !s.scan {
		rows, err := tx.Query(ctx, `SELECT id FROM `+table+` WHERE id < ?`+s.key+s.rest+` ORDER BY id DESC LIMIT ?`,
			slices.Concat([]any{before}, s.args, s.restArgs, []any{limit})...)
		ids, err = collect(rows, err, one)
		return ids, 0, err
	}
	part := `(SELECT * FROM ` + table + ` WHERE id < ?` + s.key + ` ORDER BY id DESC LIMIT ?) AS part`
	args := slices.Concat([]any{before}, s.args, []any{look})
	rows, err := tx.Query(ctx, `SELECT id FROM `+part+` WHERE 1 = 1`+s.rest+` ORDER BY id DESC LIMIT ?`,
		slices.Concat(args, s.restArgs, []any{limit})...)
	if ids, err = collect(rows, err, one); err != nil || len(ids) == limit {
		return ids, 0, err
	}
	var n int
	if err := tx.QueryRow(ctx, `SELECT COUNT(*), COALESCE(MIN(id), 0) FROM `+part, args...).Scan(&n, &next); err != nil {
		return nil, 0, err
	}
	if n < look {
		next = 0
	}
	return ids, next, nil
}

// seeks returns how the builds of the filter are found: the narrowest of its
// conditions by an index, the others by looking.
//
// bytewise says that the engine orders texts by their bytes, so that an index
// finds ids by how they begin.
func (f BuildFilter) seeks(ctx context.Context, tx *sqldb.Tx, bytewise bool) ([]seek, error) {
	// Adding "" keeps an engine from a worse index, and from sorting by it.
	var repos, stages string
	var repoArgs, stageArgs []any
	if len(f.Repos) > 0 {
		repos, repoArgs = ` AND repo || '' IN (`+placeholders(len(f.Repos))+`)`, anys(f.Repos)
	}
	pairs := statesIn(f.Stages)
	if len(pairs) > 0 {
		stages = ` AND repo_state * 4 + published_state IN (` + placeholders(len(pairs)) + `)`
		for _, p := range pairs {
			stageArgs = append(stageArgs, int64(p.repo)*4+int64(p.published))
		}
	}
	switch {
	case f.IDs != nil:
		return f.byID(ctx, tx, bytewise, repos+stages, slices.Concat(repoArgs, stageArgs))
	case len(pairs) > 0:
		all := make([]seek, len(pairs))
		for i, p := range pairs {
			all[i] = seek{` AND repo_state = ? AND published_state = ?`, []any{p.repo, p.published}, repos, repoArgs, len(f.Repos) > 0}
		}
		return all, nil
	case len(f.Repos) > 0:
		all := make([]seek, len(f.Repos))
		for i, repo := range f.Repos {
			all[i] = seek{key: ` AND repo = ?`, args: []any{repo}}
		}
		return all, nil
	}
	return []seek{{}}, nil
}

// byID returns how the builds of applications are found: each by itself or, when
// they are many, by looking at all.
func (f BuildFilter) byID(ctx context.Context, tx *sqldb.Tx, bytewise bool, rest string, restArgs []any) ([]seek, error) {
	var all []seek
	if f.Token != "" {
		all = append(all, seek{` AND token_id = ?`, []any{f.Token}, ` AND app_id IS NULL` + rest, restArgs, true})
	}
	if f.Bring {
		where, args := f.IDs.brought()
		all = append(all, seek{key: ` AND app_id IS NULL`, rest: where + rest, restArgs: slices.Concat(args, restArgs), scan: true})
	}
	apps, few := f.IDs.Apps, len(f.IDs.Below)+len(f.IDs.Prefixes) == 0
	if !few && bytewise {
		var err error
		if apps, err = f.IDs.found(ctx, tx); err != nil {
			return nil, err
		}
		few = true
	}
	if !few || len(apps) > maxSeeks {
		where, args := f.IDs.where()
		return append(all, seek{rest: where + rest, restArgs: slices.Concat(args, restArgs), scan: true}), nil
	}
	for _, app := range apps {
		all = append(all, seek{` AND app_id = ?`, []any{app}, rest, restArgs, rest != ""})
	}
	return all, nil
}

// found returns those ids of s that have builds, one more than maxSeeks at most.
func (s IDs) found(ctx context.Context, tx *sqldb.Tx) ([]string, error) {
	apps := slices.Clone(s.Apps)
	find := func(from, until string) error {
		for after := `>=`; len(apps) <= maxSeeks; after = `>` {
			var app *string
			err := tx.QueryRow(ctx, `SELECT MIN(app_id) FROM builds WHERE app_id `+after+` ? AND app_id < ?`, from, until).Scan(&app)
			if err != nil || app == nil {
				return err
			}
			apps, from = append(apps, *app), *app
		}
		return nil
	}
	for _, id := range s.Below {
		apps = append(apps, id)
		if err := find(id+".", id+"/"); err != nil { // "/" follows on "."
			return nil, err
		}
	}
	for _, prefix := range s.Prefixes {
		if err := find(prefix, prefix+"\x7f"); err != nil { // ids are printable ASCII
			return nil, err
		}
	}
	slices.Sort(apps)
	return slices.Compact(apps), nil
}

// where is the condition that an application is in s.
func (s IDs) where() (where string, args []any) {
	where = ` AND (1 = 0`
	if exact := slices.Concat(s.Apps, s.Below); len(exact) > 0 {
		where, args = where+` OR app_id IN (`+placeholders(len(exact))+`)`, anys(exact)
	}
	begin := func(prefix string) {
		where, args = where+` OR substr(app_id, 1, ?) = ?`, append(args, len(prefix), prefix)
	}
	for _, id := range s.Below {
		begin(id + ".")
	}
	for _, prefix := range s.Prefixes {
		begin(prefix)
	}
	return where + `)`, args
}

// brought is the condition that a build, in a scan, has a ref of an id in s.
func (s IDs) brought() (where string, args []any) {
	where = ` AND EXISTS (SELECT 1 FROM build_refs WHERE build_id = part.id AND (1 = 0`
	begin := func(prefix string) {
		for _, kind := range [...]string{"app/", "runtime/"} {
			ref := kind + prefix
			where, args = where+` OR substr(ref_name, 1, ?) = ?`, append(args, len(ref), ref)
		}
	}
	for _, id := range slices.Concat(s.Apps, s.Below) {
		begin(id + "/")
	}
	for _, id := range s.Below {
		begin(id + ".")
	}
	for _, prefix := range s.Prefixes {
		begin(prefix)
	}
	return where + `))`, args
}

func buildsByID(ctx context.Context, tx *sqldb.Tx, ids []int64) ([]hubapi.Build, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	builds, err := queryBuilds(ctx, tx, `id IN (`+placeholders(len(ids))+`)`, anys(ids)...)
	slices.Reverse(builds)
	return builds, err
}

// JobListing says which jobs a list has. The zero value has all.
type JobListing struct {
	// Statuses and Kinds are those of the jobs; empty means all.
	Statuses []hubapi.JobStatus
	Kinds    []hubapi.JobKind
	// Repo is the repository, Build the build; "" and 0 mean all.
	Repo  string
	Build int64
}

// JobPage returns jobs with an id below before (0: from the newest on), newest
// first, at most limit, and the before of the next page, 0 at the end. A page may
// be shorter than limit without being the last.
func (c *Catalog) JobPage(ctx context.Context, listing JobListing, before int64, limit int) (jobs []*Job, next int64, err error) {
	before = fromNewest(before)
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		var ids []int64
		jobs = nil
		if ids, next, err = find(ctx, tx, "jobs", listing.seeks(), scanned, before, limit); err != nil {
			return err
		}
		if len(ids) > 0 {
			jobs, err = queryJobs(ctx, tx, `id IN (`+placeholders(len(ids))+`)`, anys(ids)...)
			slices.Reverse(jobs)
		}
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list jobs: %w", err)
	}
	return jobs, next, nil
}

func (l JobListing) seeks() (all []seek) {
	var rest string
	var args []any
	if l.Repo != "" {
		rest, args = ` AND repo || '' = ?`, []any{l.Repo}
	}
	if len(l.Kinds) > 0 && (len(l.Statuses) > 0 || l.Build != 0) {
		rest, args = rest+` AND kind + 0 IN (`+placeholders(len(l.Kinds))+`)`, append(args, kindArgs(l.Kinds)...)
	}
	switch {
	case l.Build != 0:
		if len(l.Statuses) > 0 {
			rest, args = rest+` AND status + 0 IN (`+placeholders(len(l.Statuses))+`)`, append(args, anys(l.Statuses)...)
		}
		return []seek{{` AND build_id = ?`, []any{l.Build}, rest, args, false}}
	case len(l.Statuses) > 0:
		for _, status := range l.Statuses {
			all = append(all, seek{` AND status = ?`, []any{status}, rest, args, rest != ""})
		}
	case len(l.Kinds) > 0:
		for _, kind := range l.Kinds {
			all = append(all, seek{` AND kind = ?`, []any{kind}, rest, args, rest != ""})
		}
	default:
		all = []seek{{rest: rest, restArgs: args, scan: rest != ""}}
	}
	return all
}

// JobsByID returns those of the jobs that there are, by id.
func (c *Catalog) JobsByID(ctx context.Context, ids []int64) (map[int64]*Job, error) {
	found := make(map[int64]*Job, len(ids))
	err := c.db.Read(ctx, func(tx *sqldb.Tx) error {
		for some := range slices.Chunk(ids, tokensAtOnce) {
			jobs, err := queryJobs(ctx, tx, `id IN (`+placeholders(len(some))+`)`, anys(some)...)
			if err != nil {
				return err
			}
			for _, job := range jobs {
				found[job.ID] = job
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read jobs: %w", err)
	}
	return found, nil
}

// TokenKey is the place of a token in the list of those used last.
type TokenKey struct {
	Micros int64
	ID     string
}

// SeenToken is a token with who it was made for.
type SeenToken struct {
	Token
	// Name is for whom the token says that it was made; of one not used since that
	// is noted, what its newest build says. "" if it does not say.
	Name string
}

// Key is the place of the token in the list.
func (t SeenToken) Key() TokenKey { return TokenKey{micros(t.LastUsed), t.ID} }

// TokenPage returns the tokens used or revoked before that of the key (nil: from
// the last used on), at most limit. Those never used come last.
func (c *Catalog) TokenPage(ctx context.Context, before *TokenKey, limit int) (tokens []SeenToken, err error) {
	where, args := ``, []any{}
	if before != nil {
		where, args = ` WHERE (last_used, id) < (?, ?)`, []any{before.Micros, before.ID}
	}
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id, expires, last_used, revoked, CASE WHEN name <> '' THEN name ELSE COALESCE((SELECT token_name FROM builds
			WHERE token_id = tokens.id ORDER BY id DESC LIMIT 1), '') END FROM tokens`+where+` ORDER BY last_used DESC, id DESC LIMIT ?`, append(args, limit)...)
		tokens, err = collect(rows, err, func(rows *sql.Rows) (t SeenToken, err error) {
			var expires, lastUsed, revoked int64
			err = rows.Scan(&t.ID, &expires, &lastUsed, &revoked, &t.Name)
			t.Expires, t.LastUsed, t.Revoked = timeOf(expires), timeOf(lastUsed), timeOf(revoked)
			return t, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return tokens, nil
}

// fromNewest is before, or beyond all ids when it is 0.
func fromNewest(before int64) int64 {
	if before == 0 {
		return math.MaxInt64
	}
	return before
}

// anys are values as arguments of a query.
func anys[T any](values []T) []any {
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	return args
}
