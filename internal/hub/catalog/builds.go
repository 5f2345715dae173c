package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

// NewBuild is what a build begins with.
type NewBuild struct {
	Repo           string
	AppID          *string
	PublicDownload bool
	BuildLogURL    *string
	TokenName      *string
	TokenType      *int32
	// TokenID is the id (jti) of the token that creates it; may be empty.
	TokenID string
}

// CreateBuild begins a build, Uploading and Unpublished.
func (c *Catalog) CreateBuild(ctx context.Context, b NewBuild) (build hubapi.Build, err error) {
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		id, err := next(ctx, tx, "build")
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO builds
			(id, created, repo, app_id, extra_ids, public_download, build_log_url, token_name, token_id, token_type, repo_state, published_state)
			VALUES (?, ?, ?, ?, '[]', ?, ?, ?, ?, ?, ?, ?)`,
			id, c.now().UnixMicro(), clean(b.Repo), cleanPtr(b.AppID), flag(b.PublicDownload), cleanPtr(b.BuildLogURL),
			cleanPtr(b.TokenName), clean(b.TokenID), b.TokenType, hubapi.RepoUploading, hubapi.Unpublished)
		if err != nil {
			return err
		}
		if err := c.audit(ctx, tx, "build.create", buildName(id), b.Repo); err != nil {
			return err
		}
		build, err = readBuild(ctx, tx, id)
		return err
	})
	if err != nil {
		return hubapi.Build{}, fmt.Errorf("create build for %s: %w", b.Repo, err)
	}
	return build, nil
}

// Build returns a build; the error wraps [ErrNotFound] when there is none.
func (c *Catalog) Build(ctx context.Context, id int64) (build hubapi.Build, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		build, err = readBuild(ctx, tx, id)
		return err
	})
	return build, err
}

// BuildToken returns the id (jti) of the token that created a build; "" when
// it had none.
func (c *Catalog) BuildToken(ctx context.Context, build int64) (id string, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT token_id FROM builds WHERE id = ?`, build).Scan(&id)
	})
	switch {
	case sqldb.NoRows(err):
		return "", notFound("build", build)
	case err != nil:
		return "", fmt.Errorf("read token of build %d: %w", build, err)
	}
	return id, nil
}

// Builds lists, by id, the builds of an application that were not purged; nil
// means those of no application.
func (c *Catalog) Builds(ctx context.Context, appID *string) ([]hubapi.Build, error) {
	where := `app_id IS NULL`
	args := []any{hubapi.RepoPurged}
	if appID != nil {
		where = `app_id = ?`
		args = append(args, clean(*appID))
	}
	return c.listBuilds(ctx, `repo_state <> ? AND `+where, args...)
}

// StaleBuilds lists, by id, the builds created before a time that never were
// published, are not being worked on and were not purged.
func (c *Catalog) StaleBuilds(ctx context.Context, before time.Time) ([]hubapi.Build, error) {
	return c.listBuilds(ctx, `created < ? AND published_state IN (?, ?) AND repo_state IN (?, ?, ?)`,
		before.UnixMicro(), hubapi.Unpublished, hubapi.PublishFailed,
		hubapi.RepoUploading, hubapi.RepoReady, hubapi.RepoFailed)
}

func (c *Catalog) listBuilds(ctx context.Context, where string, args ...any) (builds []hubapi.Build, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		builds, err = queryBuilds(ctx, tx, where, args...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list builds: %w", err)
	}
	return builds, nil
}

// ExtendedBuild returns a build with its refs and checks, by name.
func (c *Catalog) ExtendedBuild(ctx context.Context, id int64) (extended hubapi.BuildExtended, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		build, err := readBuild(ctx, tx, id)
		if err != nil {
			return err
		}
		refs, err := queryBuildRefs(ctx, tx, `build_id = ?`, id)
		if err != nil {
			return err
		}
		checks, err := queryChecks(ctx, tx, `build_id = ?`, id)
		extended = hubapi.BuildExtended{Build: build, BuildRefs: refs, Checks: checks}
		return err
	})
	return extended, err
}

// BuildRefs lists the refs of a build, by name.
func (c *Catalog) BuildRefs(ctx context.Context, build int64) ([]hubapi.BuildRef, error) {
	extended, err := c.ExtendedBuild(ctx, build)
	return extended.BuildRefs, err
}

// RefNames returns the names of the refs in builds, by build; builds without refs
// are left out.
func (c *Catalog) RefNames(ctx context.Context, builds []int64) (names map[int64][]string, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		names = make(map[int64][]string)
		for some := range slices.Chunk(builds, tokensAtOnce) {
			refs, err := queryBuildRefs(ctx, tx, `build_id IN (`+placeholders(len(some))+`)`, anys(some)...)
			if err != nil {
				return err
			}
			for _, ref := range refs {
				names[ref.BuildID] = append(names[ref.BuildID], ref.RefName)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read refs of builds: %w", err)
	}
	return names, nil
}

// BuildRef returns one ref of a build.
func (c *Catalog) BuildRef(ctx context.Context, build, id int64) (ref hubapi.BuildRef, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		refs, err := queryBuildRefs(ctx, tx, `build_id = ? AND id = ?`, build, id)
		if err != nil {
			return err
		}
		if len(refs) == 0 {
			return notFound(fmt.Sprintf("build %d, ref", build), id)
		}
		ref = refs[0]
		return nil
	})
	return ref, err
}

// AddBuildRef sets the commit of a ref in a build that is Uploading; the ref
// keeps its id when it is set again. Otherwise the error is a
// [*WrongStateError].
func (c *Catalog) AddBuildRef(ctx context.Context, build int64, r hubapi.CreateBuildRefRequest) (ref hubapi.BuildRef, err error) {
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := requireUploading(ctx, tx, build, "Build is not uploading"); err != nil {
			return err
		}
		refs, err := queryBuildRefs(ctx, tx, `build_id = ? AND ref_name = ?`, build, r.Ref)
		if err != nil {
			return err
		}
		var id int64
		if len(refs) > 0 {
			id = refs[0].ID
		} else if id, err = next(ctx, tx, "build-ref"); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO build_refs (id, build_id, ref_name, checksum, build_log_url) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET checksum = excluded.checksum, build_log_url = excluded.build_log_url`,
			id, build, r.Ref, r.Commit, cleanPtr(r.BuildLogURL))
		if err != nil {
			return err
		}
		ref = hubapi.BuildRef{ID: id, BuildID: build, RefName: r.Ref, Commit: r.Commit, BuildLogURL: cleanPtr(r.BuildLogURL)}
		return c.audit(ctx, tx, "build.ref", buildName(build), r.Ref+" "+r.Commit)
	})
	if err != nil {
		return hubapi.BuildRef{}, fmt.Errorf("add ref %s to build %d: %w", r.Ref, build, err)
	}
	return ref, nil
}

// AddExtraIDs adds application ids to those of a build that is Uploading.
// Otherwise the error is a [*WrongStateError].
func (c *Catalog) AddExtraIDs(ctx context.Context, build int64, ids []string) (changed hubapi.Build, err error) {
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := requireUploading(ctx, tx, build, "Build is not uploading"); err != nil {
			return err
		}
		b, err := readBuild(ctx, tx, build)
		if err != nil {
			return err
		}
		all := slices.Concat(b.ExtraIDs, ids)
		slices.Sort(all)
		text, err := toJSON(slices.Compact(all))
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE builds SET extra_ids = ? WHERE id = ?`, clean(text), build); err != nil {
			return err
		}
		changed, err = readBuild(ctx, tx, build)
		return err
	})
	if err != nil {
		return hubapi.Build{}, fmt.Errorf("add ids to build %d: %w", build, err)
	}
	return changed, nil
}

// RequireUploading returns a [*WrongStateError] unless the build is Uploading.
func (c *Catalog) RequireUploading(ctx context.Context, build int64) error {
	return c.db.Read(ctx, func(tx *sqldb.Tx) error {
		return requireUploading(ctx, tx, build, "Build is not uploading")
	})
}

func requireUploading(ctx context.Context, tx *sqldb.Tx, build int64, message string) error {
	b, err := readBuild(ctx, tx, build)
	if err != nil {
		return err
	}
	if b.RepoState != hubapi.RepoUploading {
		return wrongRepoState(message, b.RepoState, hubapi.RepoUploading)
	}
	return nil
}

// SetRepoState moves a build from one state to another, with the reason for
// it, if any. When the build is in another state than expected, it stays there
// and the error is a [*WrongStateError]. Commits and purges have their own
// verbs.
func (c *Catalog) SetRepoState(ctx context.Context, build int64, expected, state hubapi.RepoState, reason string) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		b, err := readBuild(ctx, tx, build)
		if err != nil {
			return err
		}
		if b.RepoState != expected {
			return wrongRepoState("Build is in the wrong state", b.RepoState, expected)
		}
		if err := setRepoState(ctx, tx, build, state, reason); err != nil {
			return err
		}
		if err := touchJobs(ctx, tx); err != nil {
			return err
		}
		return c.audit(ctx, tx, "build.state", buildName(build), state.String())
	})
	if err != nil {
		return fmt.Errorf("set state of build %d: %w", build, err)
	}
	c.jobs.send()
	return nil
}

// StartPurge moves a build to Purging, after which its files may be deleted.
// It fails with [ErrInUse] while the build is committed, checked, published or
// purged already by somebody else.
func (c *Catalog) StartPurge(ctx context.Context, build int64) (purging hubapi.Build, err error) {
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		b, err := readBuild(ctx, tx, build)
		if err != nil {
			return err
		}
		switch b.RepoState {
		case hubapi.RepoCommitting, hubapi.RepoValidating, hubapi.RepoPurging:
			return ErrInUse
		case hubapi.RepoUploading, hubapi.RepoReady, hubapi.RepoFailed, hubapi.RepoPurged:
		}
		if b.PublishedState == hubapi.Publishing {
			return ErrInUse
		}
		if err := setRepoState(ctx, tx, build, hubapi.RepoPurging, ""); err != nil {
			return err
		}
		if err := c.audit(ctx, tx, "build.purge", buildName(build), ""); err != nil {
			return err
		}
		purging, err = readBuild(ctx, tx, build)
		return err
	})
	if err != nil {
		return hubapi.Build{}, fmt.Errorf("purge build %d: %w", build, err)
	}
	return purging, nil
}

// FinishPurge moves a build from Purging to Purged, or to Failed when failure
// is not empty.
func (c *Catalog) FinishPurge(ctx context.Context, build int64, failure string) (purged hubapi.Build, err error) {
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		b, err := readBuild(ctx, tx, build)
		if err != nil {
			return err
		}
		if b.RepoState != hubapi.RepoPurging {
			return wrongRepoState("Build is not being purged", b.RepoState, hubapi.RepoPurging)
		}
		state := hubapi.RepoPurged
		if failure != "" {
			state = hubapi.RepoFailed
		}
		if err := setRepoState(ctx, tx, build, state, failure); err != nil {
			return err
		}
		purged, err = readBuild(ctx, tx, build)
		return err
	})
	if err != nil {
		return hubapi.Build{}, fmt.Errorf("end purge of build %d: %w", build, err)
	}
	return purged, nil
}

func setRepoState(ctx context.Context, tx *sqldb.Tx, build int64, state hubapi.RepoState, reason string) error {
	_, err := tx.Exec(ctx, `UPDATE builds SET repo_state = ?, repo_state_reason = ? WHERE id = ?`,
		state, orNull(reason), build)
	return err
}

func setPublishedState(ctx context.Context, tx *sqldb.Tx, build int64, state hubapi.PublishedState, reason string) error {
	_, err := tx.Exec(ctx, `UPDATE builds SET published_state = ?, published_state_reason = ? WHERE id = ?`,
		state, orNull(reason), build)
	return err
}

// orNull returns NULL for an empty text.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return new(clean(s))
}

func buildName(id int64) string { return fmt.Sprintf("build/%d", id) }

func readBuild(ctx context.Context, tx *sqldb.Tx, id int64) (hubapi.Build, error) {
	builds, err := queryBuilds(ctx, tx, `id = ?`, id)
	if err != nil {
		return hubapi.Build{}, fmt.Errorf("read build %d: %w", id, err)
	}
	if len(builds) == 0 {
		return hubapi.Build{}, notFound("build", id)
	}
	return builds[0], nil
}

func queryBuilds(ctx context.Context, tx *sqldb.Tx, where string, args ...any) ([]hubapi.Build, error) {
	rows, err := tx.Query(ctx, `SELECT id, created, repo_state, repo_state_reason, published_state, published_state_reason,
		commit_job_id, publish_job_id, repo, extra_ids, app_id, public_download, build_log_url, token_name, token_type
		FROM builds WHERE `+where+` ORDER BY id`, args...)
	return collect(rows, err, func(rows *sql.Rows) (b hubapi.Build, err error) {
		var created int64
		var extraIDs string
		err = rows.Scan(&b.ID, &created, &b.RepoState, &b.RepoStateReason, &b.PublishedState, &b.PublishedStateReason,
			&b.CommitJobID, &b.PublishJobID, &b.Repo, &extraIDs, &b.AppID, &b.PublicDownload, &b.BuildLogURL, &b.TokenName, &b.TokenType)
		if err != nil {
			return b, err
		}
		b.Created = hubapi.Timestamp{Time: timeOf(created)}
		return b, json.Unmarshal([]byte(extraIDs), &b.ExtraIDs)
	})
}

func queryBuildRefs(ctx context.Context, tx *sqldb.Tx, where string, args ...any) ([]hubapi.BuildRef, error) {
	rows, err := tx.Query(ctx, `SELECT id, build_id, ref_name, checksum, build_log_url
		FROM build_refs WHERE `+where+` ORDER BY ref_name`, args...)
	return collect(rows, err, func(rows *sql.Rows) (r hubapi.BuildRef, err error) {
		return r, rows.Scan(&r.ID, &r.BuildID, &r.RefName, &r.Commit, &r.BuildLogURL)
	})
}

// collect reads all rows of a query; the slice is never nil.
func collect[T any](rows *sql.Rows, err error, scan func(*sql.Rows) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells more
	all := []T{}
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}
