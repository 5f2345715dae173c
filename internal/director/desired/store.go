package desired

import (
	"context"
	"crypto/ed25519"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/sqldb"
)

// Store keeps desired states and claims in the database of a catalogue. Safe for concurrent
// use.
type Store struct {
	db  *sqldb.DB
	key ed25519.PrivateKey
	now func() time.Time

	mu      sync.Mutex
	changed chan struct{} // closed at the next version of any mirror
}

// Open returns the store in a database that has the schema of the catalogue. Key signs; a nil now is
// time.Now.
func Open(db *sqldb.DB, key ed25519.PrivateKey, now func() time.Time) *Store {
	if now == nil {
		now = time.Now
	}
	return &Store{db: db, key: key, now: now, changed: make(chan struct{})}
}

// Key is the public key that signs, as settings have it.
func (s *Store) Key() string {
	public, _ := s.key.Public().(ed25519.PublicKey) // what that of Ed25519 is
	return directorapi.FormatKey(public)
}

// Errors of a store.
var (
	// ErrNone says that there is no such version.
	ErrNone = errors.New("nothing is desired of the mirror in this version")
	// ErrVersion says that a version is not higher than those before.
	ErrVersion = errors.New("the version must be higher than all before")
	// ErrClaim says that there is no such claim.
	ErrClaim = errors.New("the claim is not known, or its time is over: ask for a new one")
	// ErrRedeemed says that another box has shown the claim.
	ErrRedeemed = errors.New("another box has shown this claim: ask for a new one, and find out who that was")
)

// maxVersion is the highest version that may be asked for: those that come after it must have numbers,
// in the JSON of anybody too (RFC 8259 §6).
const maxVersion = 1 << 52

// Set makes the next version of what is desired of a mirror. When it returns without an error, the
// version is on stable storage. The same settings as before are no new version, unless at asks for one.
func (s *Store) Set(ctx context.Context, mirror, settings, by, note string, at int64) (d directorapi.Desired, err error) {
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		last, _, err := newest(ctx, tx, mirror)
		if err != nil {
			return err
		}
		if last.Version > 0 && last.Settings == settings && at == 0 {
			d = last
			return nil
		}
		if at != 0 && at <= last.Version || at > maxVersion {
			return fmt.Errorf("%w, and up to %d: %d is there", ErrVersion, int64(maxVersion), last.Version)
		}
		made := time.UnixMicro(s.now().UnixMicro()).UTC()
		d = directorapi.Desired{Mirror: mirror, Version: max(last.Version+1, at), Made: made, By: by, Settings: settings}
		signed, err := d.Sign(s.key)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO desired (mirror, version, made, actor, note, text, signature) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			mirror, d.Version, made.UnixMicro(), by, note, signed.Text, base64.StdEncoding.EncodeToString(signed.Signature))
		return err
	})
	if err != nil {
		return directorapi.Desired{}, fmt.Errorf("desired state of mirror %s: %w", mirror, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
	return d, nil
}

// Changed is closed when there is another version of any mirror, made by this process.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// newest reads the newest version, the zero value if there is none.
func newest(ctx context.Context, tx *sqldb.Tx, mirror string) (directorapi.Desired, directorapi.SignedDesired, error) {
	return decode(tx.QueryRow(ctx, `SELECT text, signature FROM desired WHERE mirror = ? ORDER BY version DESC LIMIT 1`, mirror))
}

func decode(row *sql.Row) (d directorapi.Desired, signed directorapi.SignedDesired, err error) {
	var signature string
	err = row.Scan(&signed.Text, &signature)
	if errors.Is(err, sql.ErrNoRows) {
		return d, signed, nil
	}
	if err == nil {
		signed.Signature, err = base64.StdEncoding.DecodeString(signature)
	}
	if err == nil {
		err = json.Unmarshal([]byte(signed.Text), &d)
	}
	return d, signed, err
}

// Get returns a version, 0 being the newest, as it was signed. It is [ErrNone] if there is none.
func (s *Store) Get(ctx context.Context, mirror string, version int64) (d directorapi.Desired, signed directorapi.SignedDesired, err error) {
	err = s.db.Read(ctx, func(tx *sqldb.Tx) error {
		if version == 0 {
			d, signed, err = newest(ctx, tx, mirror)
		} else {
			d, signed, err = decode(tx.QueryRow(ctx, `SELECT text, signature FROM desired WHERE mirror = ? AND version = ?`, mirror, version))
		}
		return err
	})
	if err == nil && d.Version == 0 {
		err = ErrNone
	}
	return d, signed, err
}

// maxHistory is how many versions are told of.
const maxHistory = 200

// History returns the versions of a mirror, newest first, 200 at most.
func (s *Store) History(ctx context.Context, mirror string) (list []directorapi.DesiredVersion, err error) {
	err = s.db.Read(ctx, func(tx *sqldb.Tx) error {
		list = []directorapi.DesiredVersion{}
		rows, err := tx.Query(ctx, `SELECT version, made, actor, note FROM desired WHERE mirror = ? ORDER BY version DESC LIMIT ?`, mirror, maxHistory)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }() // read to its end, or failed anyway
		for rows.Next() {
			var v directorapi.DesiredVersion
			var made int64
			if err := rows.Scan(&v.Version, &made, &v.By, &v.Note); err != nil {
				return err
			}
			v.Made = time.UnixMicro(made).UTC()
			list = append(list, v)
		}
		return rows.Err()
	})
	return list, err
}

// Apply keeps what a mirror says that it makes of its versions.
func (s *Store) Apply(ctx context.Context, mirror string, a directorapi.Applied) error {
	return s.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO desired_applied (mirror, version, refused, why, heard) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (mirror) DO UPDATE SET version = excluded.version, refused = excluded.refused, why = excluded.why, heard = excluded.heard`,
			mirror, a.Version, a.Refused, a.Why, s.now().UnixMicro())
		return err
	})
}

// Status says how far mirrors are of which anything is desired or claimed, by name.
func (s *Store) Status(ctx context.Context) (all map[string]directorapi.DesiredStatus, err error) {
	err = s.db.Read(ctx, func(tx *sqldb.Tx) error {
		all = make(map[string]directorapi.DesiredStatus)
		return errors.Join(
			each(ctx, tx, `SELECT mirror, MAX(version) FROM desired GROUP BY mirror`, func(rows *sql.Rows) error {
				var st directorapi.DesiredStatus
				err := rows.Scan(&st.Mirror, &st.Version)
				all[st.Mirror] = st
				return err
			}),
			each(ctx, tx, `SELECT mirror, version, refused, why, heard FROM desired_applied`, func(rows *sql.Rows) error {
				var (
					mirror string
					a      directorapi.Applied
					heard  int64
				)
				err := rows.Scan(&mirror, &a.Version, &a.Refused, &a.Why, &heard)
				st := all[mirror]
				st.Mirror, st.Applied, st.Heard = mirror, a, time.UnixMicro(heard).UTC()
				all[mirror] = st
				return err
			}),
			each(ctx, tx, `SELECT mirror, expires, redeemed FROM claims`, func(rows *sql.Rows) error {
				var (
					mirror, redeemed string
					expires          int64
				)
				err := rows.Scan(&mirror, &expires, &redeemed)
				st := all[mirror]
				st.Mirror = mirror
				switch {
				case redeemed != "":
					st.Claim = "redeemed"
				case s.now().UnixMicro() > expires:
					st.Claim = "expired"
				default:
					st.Claim = "open"
				}
				all[mirror] = st
				return err
			}),
		)
	})
	return all, err
}

func each(ctx context.Context, tx *sqldb.Tx, query string, row func(*sql.Rows) error) error {
	rows, err := tx.Query(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // read to its end, or failed anyway
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// secretPrefix begins the secrets of claims.
const secretPrefix = "fk_"

// Claim makes a claim for a mirror, good for so long. The one before is good no longer.
func (s *Store) Claim(ctx context.Context, mirror, by string, good time.Duration) (directorapi.ClaimAnswer, error) {
	secret, hash := control.NewToken(secretPrefix)
	now := s.now()
	a := directorapi.ClaimAnswer{Mirror: mirror, Secret: secret, Key: s.Key(), Expires: now.Add(good).UTC().Truncate(time.Second)}
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO claims (mirror, secret, made, expires, actor, redeemed) VALUES (?, ?, ?, ?, ?, '')
			ON CONFLICT (mirror) DO UPDATE SET secret = excluded.secret, made = excluded.made, expires = excluded.expires,
				actor = excluded.actor, redeemed = excluded.redeemed`,
			mirror, hash, now.UnixMicro(), a.Expires.UnixMicro(), by)
		return err
	})
	return a, err
}

// Redeem takes a claim in a transaction: the box with the token of this hash is the mirror. Again
// says that the same box has shown it before, which it may also when the time of the claim is over.
// The error is [ErrClaim] or [ErrRedeemed] otherwise.
func (s *Store) Redeem(ctx context.Context, tx *sqldb.Tx, r directorapi.Redemption) (again bool, err error) {
	again, err = s.check(ctx, tx, r)
	if err == nil && !again {
		_, err = tx.Exec(ctx, `UPDATE claims SET redeemed = ? WHERE mirror = ?`, r.Token, r.Mirror)
	}
	return again, err
}

// Check is the error that [Store.Redeem] would be, and changes nothing: anybody may show what is no
// claim as often as he likes, and keeps nobody from writing.
func (s *Store) Check(ctx context.Context, r directorapi.Redemption) error {
	return s.db.Read(ctx, func(tx *sqldb.Tx) error {
		_, err := s.check(ctx, tx, r)
		return err
	})
}

func (s *Store) check(ctx context.Context, tx *sqldb.Tx, r directorapi.Redemption) (again bool, err error) {
	var hash, redeemed string
	var expires int64
	err = tx.QueryRow(ctx, `SELECT secret, expires, redeemed FROM claims WHERE mirror = ?`, r.Mirror).Scan(&hash, &expires, &redeemed)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, ErrClaim
	case err != nil:
		return false, err
	case subtle.ConstantTimeCompare([]byte(control.Hash(r.Secret)), []byte(hash)) != 1:
		return false, ErrClaim
	case redeemed == r.Token:
		return true, nil
	case redeemed != "":
		return false, ErrRedeemed
	case s.now().UnixMicro() > expires:
		return false, ErrClaim
	}
	return false, nil
}
