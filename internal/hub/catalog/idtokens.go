package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"freshet/internal/sqldb"
)

// ErrReplayed says that an ID token was exchanged before.
var ErrReplayed = errors.New("the ID token was exchanged before")

// Exchange is an ID token for which a token of the hub is given.
type Exchange struct {
	// Issuer and ID name the ID token, by its own id or what else tells it from others. It
	// is good until Expires, and remembered so long; with an empty ID it is not.
	Issuer, ID string
	Expires    time.Time

	// Publisher is the rule by which it is trusted, and Detail what the audit log says
	// besides.
	Publisher, Detail string
}

// ExchangeIDToken records that an ID token is exchanged, in the audit log too. One that
// was recorded before is [ErrReplayed], whichever hub of the database has recorded it.
func (c *Catalog) ExchangeIDToken(ctx context.Context, e Exchange) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM id_tokens WHERE expires < ?`, c.now().UnixMicro()); err != nil {
			return err
		}
		if e.ID != "" {
			sum := sha256.Sum256([]byte(e.Issuer + "\x00" + e.ID))
			added, err := tx.Exec(ctx, `INSERT INTO id_tokens (id, expires) VALUES (?, ?) ON CONFLICT (id) DO NOTHING`,
				hex.EncodeToString(sum[:]), micros(e.Expires))
			if err != nil {
				return err
			}
			if added == 0 {
				return ErrReplayed
			}
		}
		return c.audit(ctx, tx, "token.exchange", "publisher/"+e.Publisher, e.Detail)
	})
	if err != nil {
		return fmt.Errorf("exchange ID token: %w", err)
	}
	return nil
}
