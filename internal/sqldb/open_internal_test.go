package sqldb

import (
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
)

// Many open an empty database at once, use it, and close it: who comes first puts it
// into WAL mode, and who leaves last takes its log away, while others come.
func TestSQLiteOpensBesideOthers(t *testing.T) {
	schema := fstest.MapFS{"0001_items.sql": {Data: []byte(`CREATE TABLE items (id INTEGER PRIMARY KEY)`)}}
	for range 20 {
		dsn := "sqlite:" + filepath.Join(t.TempDir(), "test.db")
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 5 {
					db, err := Open(t.Context(), Config{DSN: dsn, Schema: schema})
					if err != nil {
						t.Error(err)
						return
					}
					var n int
					if err := db.Read(t.Context(), func(tx *Tx) error {
						return tx.QueryRow(t.Context(), `SELECT COUNT(*) FROM items`).Scan(&n)
					}); err != nil {
						t.Error(err)
					}
					if err := db.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
	}
}
