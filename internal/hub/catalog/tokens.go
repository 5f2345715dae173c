package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"freshet/internal/sqldb"
)

// lastUsedStep is how exactly the last use of a token is known: a token used
// by every request costs one write in this time.
const lastUsedStep = time.Minute

// Token is what is known of a token with an id.
type Token struct {
	ID      string // jti
	Expires time.Time
	// LastUsed is right to a minute; zero when the token was never used.
	LastUsed time.Time
	// Revoked is zero when the token was not revoked.
	Revoked time.Time
}

// UseToken notes that a token is in use now, by the name in it, and tells whether
// it was revoked. It is what package auth asks. Of several names, which tokens have
// that were made from another one, the shortest is kept: theirs begin with its
// name.
func (c *Catalog) UseToken(ctx context.Context, jti, name string, expires time.Time) (revoked bool, err error) {
	now := c.now()
	var known []Token
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		known, err = queryTokens(ctx, tx, []string{jti})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("read token %q: %w", jti, err)
	}
	if len(known) == 1 {
		if !known[0].Revoked.IsZero() {
			return true, nil
		}
		if since := now.Sub(known[0].LastUsed); since >= 0 && since < lastUsedStep {
			return false, nil
		}
	}
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO tokens (id, expires, last_used, name) VALUES (?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET last_used = excluded.last_used,
				expires = CASE WHEN excluded.expires > tokens.expires THEN excluded.expires ELSE tokens.expires END,
				name = CASE WHEN excluded.name <> '' AND (tokens.name = '' OR length(excluded.name) < length(tokens.name))
					THEN excluded.name ELSE tokens.name END`,
			clean(jti), micros(expires), now.UnixMicro(), clean(name))
		if err != nil {
			return err
		}
		known, err = queryTokens(ctx, tx, []string{jti})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("note use of token %q: %w", jti, err)
	}
	return len(known) == 1 && !known[0].Revoked.IsZero(), nil
}

// Tokens returns what is known of the tokens with the ids, by id; ids never
// seen are left out.
func (c *Catalog) Tokens(ctx context.Context, ids []string) (tokens []Token, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		tokens, err = queryTokens(ctx, tx, ids)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	return tokens, nil
}

// RevokeTokens revokes the tokens with the ids for good, whether they were seen
// or not. Revoking again changes nothing.
func (c *Catalog) RevokeTokens(ctx context.Context, ids []string) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		for _, id := range ids {
			_, err := tx.Exec(ctx, `INSERT INTO tokens (id, expires, revoked) VALUES (?, 0, ?)
				ON CONFLICT (id) DO UPDATE SET revoked = CASE WHEN tokens.revoked = 0 THEN excluded.revoked ELSE tokens.revoked END`,
				clean(id), c.now().UnixMicro())
			if err != nil {
				return err
			}
			if err := c.audit(ctx, tx, "token.revoke", "token/"+id, ""); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("revoke tokens: %w", err)
	}
	return nil
}

// tokensAtOnce keeps the placeholders of a query below the limits of both
// engines.
const tokensAtOnce = 500

func queryTokens(ctx context.Context, tx *sqldb.Tx, ids []string) ([]Token, error) {
	tokens := []Token{}
	for some := range slices.Chunk(ids, tokensAtOnce) {
		args := make([]any, len(some))
		for i, id := range some {
			args[i] = clean(id)
		}
		rows, err := tx.Query(ctx, `SELECT id, expires, last_used, revoked FROM tokens
			WHERE id IN (`+placeholders(len(args))+`) ORDER BY id`, args...)
		found, err := collect(rows, err, func(rows *sql.Rows) (t Token, err error) {
			var expires, lastUsed, revoked int64
			err = rows.Scan(&t.ID, &expires, &lastUsed, &revoked)
			t.Expires, t.LastUsed, t.Revoked = timeOf(expires), timeOf(lastUsed), timeOf(revoked)
			return t, err
		})
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, found...)
	}
	return tokens, nil
}

// placeholders returns "?, ?, ?".
func placeholders(n int) string {
	return strings.TrimSuffix(strings.Repeat("?, ", n), ", ")
}
