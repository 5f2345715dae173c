package upkeep

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"freshet/internal/ostree"
	"freshet/internal/sqldb"
)

//go:embed schema
var schema embed.FS

// graphFile is where a repository keeps who needs what.
const graphFile = ".upkeep/graph.db"

// graph knows how many objects name each object. The objects of OSTree are named by
// their content, so that the edges of an object never change: a commit that comes
// costs what it does not share with the commits that are there, and so does one
// that goes.
type graph struct {
	db *sqldb.DB
}

func openGraph(ctx context.Context, dir string) (*graph, error) {
	path := filepath.Join(dir, filepath.FromSlash(graphFile))
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	migrations, err := fs.Sub(schema, "schema")
	if err != nil {
		return nil, err
	}
	db, err := sqldb.Open(ctx, sqldb.Config{DSN: "sqlite:" + path, Schema: migrations})
	if err != nil {
		return nil, err
	}
	return &graph{db}, nil
}

func key(name ostree.ObjectName) []byte {
	return append([]byte{byte(name.Type)}, name.Checksum[:]...)
}

func nameOf(key []byte) (ostree.ObjectName, error) {
	if len(key) != 33 {
		return ostree.ObjectName{}, fmt.Errorf("%w: an object is named by %d bytes", ostree.ErrMalformed, len(key))
	}
	return ostree.ObjectName{Type: ostree.ObjectType(key[0]), Checksum: ostree.Checksum(key[1:])}, nil
}

// known is a commit whose edges are counted.
type known struct {
	sum        ostree.Checksum
	ref        string
	parent     ostree.Checksum
	tree, meta ostree.Checksum
	superseded int64 // seconds since 1970; 0 for heads
}

// commits reads all commits that are counted.
func (g *graph) commits(ctx context.Context) (all map[ostree.Checksum]known, err error) {
	err = g.db.Read(ctx, func(tx *sqldb.Tx) error {
		all = map[ostree.Checksum]known{}
		rows, err := tx.Query(ctx, `SELECT sum, ref, parent, tree, meta, superseded FROM commits`)
		if err != nil {
			return err
		}
		defer rows.Close() //nolint:errcheck // Err tells
		for rows.Next() {
			var k known
			var sums [4][]byte
			if err := rows.Scan(&sums[0], &k.ref, &sums[1], &sums[2], &sums[3], &k.superseded); err != nil {
				return err
			}
			for i, to := range []*ostree.Checksum{&k.sum, &k.parent, &k.tree, &k.meta} {
				if *to, err = ostree.ChecksumFromBytes(sums[i]); err != nil {
					return err
				}
			}
			all[k.sum] = k
		}
		return rows.Err()
	})
	return all, err
}

// doomedCommits reads the commits that are no longer kept and not yet deleted.
func (g *graph) doomedCommits(ctx context.Context) (map[ostree.Checksum]bool, error) {
	all := map[ostree.Checksum]bool{}
	err := g.db.Read(ctx, func(tx *sqldb.Tx) error {
		names, err := queryNames(ctx, tx, `SELECT name FROM doomed WHERE name >= ? AND name < ?`,
			[]byte{byte(ostree.TypeCommit)}, []byte{byte(ostree.TypeCommit) + 1})
		for _, name := range names {
			all[name.Checksum] = true
		}
		return err
	})
	return all, err
}

// edit changes the counts in one transaction: in memory first, since many edges
// lead to the same objects, then by flush.
type edit struct {
	ctx  context.Context //nolint:containedctx // lives as long as the transaction
	tx   *sqldb.Tx
	read func(ostree.Checksum) (*ostree.DirTree, error)
	now  int64

	delta map[ostree.ObjectName]int64
	trees map[ostree.Checksum]int64 // counts of dirtrees with delta
}

func newEdit(ctx context.Context, tx *sqldb.Tx, read func(ostree.Checksum) (*ostree.DirTree, error), now int64) *edit {
	return &edit{ctx: ctx, tx: tx, read: read, now: now, delta: map[ostree.ObjectName]int64{}, trees: map[ostree.Checksum]int64{}}
}

// add counts the edges of a commit.
func (e *edit) add(k known) error {
	_, err := e.tx.Exec(e.ctx, `INSERT INTO commits (sum, ref, parent, tree, meta, superseded) VALUES (?, ?, ?, ?, ?, ?)`,
		k.sum[:], k.ref, k.parent[:], k.tree[:], k.meta[:], k.superseded)
	if err == nil {
		_, err = e.tx.Exec(e.ctx, `DELETE FROM doomed WHERE name = ?`, key(ostree.ObjectName{Checksum: k.sum, Type: ostree.TypeCommit}))
	}
	if err != nil {
		return err
	}
	e.delta[ostree.ObjectName{Checksum: k.meta, Type: ostree.TypeDirMeta}]++
	return e.tree(k.tree, 1)
}

// drop takes the edges of a commit back.
func (e *edit) drop(k known) error {
	if _, err := e.tx.Exec(e.ctx, `DELETE FROM commits WHERE sum = ?`, k.sum[:]); err != nil {
		return err
	}
	if err := e.doom(ostree.ObjectName{Checksum: k.sum, Type: ostree.TypeCommit}); err != nil {
		return err
	}
	e.delta[ostree.ObjectName{Checksum: k.meta, Type: ostree.TypeDirMeta}]--
	return e.tree(k.tree, -1)
}

// tree counts one more or less edge to a dirtree. The first one brings the edges
// of the dirtree itself, and the last one takes them away.
func (e *edit) tree(sum ostree.Checksum, by int64) error {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	name := ostree.ObjectName{Checksum: sum, Type: ostree.TypeDirTree}
	before, err := e.refs(name)
	if err != nil {
		return err
	}
	e.delta[name] += by
	e.trees[sum] = before + by
	if before != 0 && before+by != 0 {
		return nil
	}
	if by < 0 {
		if n, err := e.tx.Exec(e.ctx, `DELETE FROM holes WHERE name = ?`, key(name)); err != nil || n > 0 {
			return err
		}
	}
	return e.edges(sum, by)
}

// edges counts what a dirtree needs.
func (e *edit) edges(sum ostree.Checksum, by int64) error {
	tree, err := e.read(sum)
	if err != nil && by < 0 {
		return nil // what it needed stays, as if something needed it
	}
	if err != nil {
		_, err = e.tx.Exec(e.ctx, `INSERT INTO holes (name) VALUES (?) ON CONFLICT (name) DO NOTHING`,
			key(ostree.ObjectName{Checksum: sum, Type: ostree.TypeDirTree}))
		return err
	}
	for _, file := range tree.Files {
		e.delta[ostree.ObjectName{Checksum: file.File, Type: ostree.TypeFile}] += by
	}
	for _, dir := range tree.Dirs {
		e.delta[ostree.ObjectName{Checksum: dir.Meta, Type: ostree.TypeDirMeta}] += by
		if err := e.tree(dir.Tree, by); err != nil {
			return err
		}
	}
	return nil
}

// refs is the count of a dirtree.
func (e *edit) refs(name ostree.ObjectName) (n int64, err error) {
	if n, ok := e.trees[name.Checksum]; ok {
		return n, nil
	}
	err = e.tx.QueryRow(e.ctx, `SELECT refs FROM nodes WHERE name = ?`, key(name)).Scan(&n)
	if sqldb.NoRows(err) {
		return 0, nil
	}
	return n, err
}

// fillHoles counts what dirtrees need that could not be read before.
func (e *edit) fillHoles() error {
	holes, err := queryNames(e.ctx, e.tx, `SELECT name FROM holes`)
	if err != nil {
		return err
	}
	for _, name := range holes {
		if _, err := e.read(name.Checksum); err != nil {
			continue
		}
		if _, err := e.tx.Exec(e.ctx, `DELETE FROM holes WHERE name = ?`, key(name)); err != nil {
			return err
		}
		if err := e.edges(name.Checksum, 1); err != nil {
			return err
		}
	}
	return nil
}

// queryNames reads the one column of a query, names of objects.
func queryNames(ctx context.Context, tx *sqldb.Tx, query string, args ...any) (all []ostree.ObjectName, err error) {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		var key []byte
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		name, err := nameOf(key)
		if err != nil {
			return nil, err
		}
		all = append(all, name)
	}
	return all, rows.Err()
}

func (e *edit) doom(name ostree.ObjectName) error {
	_, err := e.tx.Exec(e.ctx, `INSERT INTO doomed (name, since) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`, key(name), e.now)
	return err
}

// rowsAtOnce is how many rows a statement writes.
const rowsAtOnce = 200

// flush writes the counts, and dooms what nothing needs any more.
func (e *edit) flush() error {
	names := sortedKeys(e.delta, func(a, b ostree.ObjectName) int { return strings.Compare(string(key(a)), string(key(b))) })
	for len(names) > 0 {
		batch := names[:min(rowsAtOnce, len(names))]
		names = names[len(batch):]
		var rows, keys []any
		for _, name := range batch {
			k := key(name)
			rows, keys = append(rows, k, e.delta[name]), append(keys, k)
		}
		_, err := e.tx.Exec(e.ctx, `INSERT INTO nodes (name, refs) VALUES `+repeat("(?, ?)", len(batch))+
			` ON CONFLICT (name) DO UPDATE SET refs = nodes.refs + excluded.refs`, rows...)
		if err == nil {
			// What a commit needed is not doomed for longer than the commit: it goes first.
			_, err = e.tx.Exec(e.ctx, `DELETE FROM doomed WHERE name IN (`+repeat("?", len(keys))+`)`, keys...)
		}
		if err != nil {
			return err
		}
	}
	_, err := e.tx.Exec(e.ctx, `INSERT INTO doomed (name, since) SELECT name, ? FROM nodes WHERE refs <= 0 ON CONFLICT (name) DO NOTHING`, e.now)
	if err == nil {
		_, err = e.tx.Exec(e.ctx, `DELETE FROM nodes WHERE refs <= 0`)
	}
	return err
}

func repeat(what string, n int) string { return strings.TrimSuffix(strings.Repeat(what+",", n), ",") }
