package sqldb

import "testing"

func TestNumbered(t *testing.T) {
	for query, want := range map[string]string{
		``:                                     ``,
		`SELECT 1`:                             `SELECT 1`,
		`a = ? AND b = ?`:                      `a = $1 AND b = $2`,
		`a = '?' AND b = ?`:                    `a = '?' AND b = $1`,
		`a = 'it''s ?' AND b = ?`:              `a = 'it''s ?' AND b = $1`,
		`"odd?" = ? -- why?` + "\n" + `?`:      `"odd?" = $1 -- why?` + "\n" + `$2`,
		`/* ? */ ?, ?, ?, ?, ?, ?, ?, ?, ?, ?`: `/* ? */ $1, $2, $3, $4, $5, $6, $7, $8, $9, $10`,
		`'open ?`:                              `'open ?`,
		`/* open ?`:                            `/* open ?`,
		`-- open ?`:                            `-- open ?`,
	} {
		if got := numbered(query); got != want {
			t.Errorf("numbered(%q) = %q, want %q", query, got, want)
		}
	}
}
