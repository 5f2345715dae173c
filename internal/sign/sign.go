// Package sign makes and checks the detached OpenPGP signatures (RFC 4880,
// RFC 9580) under commits, summaries and indexes.
//
// A [Signer] may keep its keys anywhere. [Open] reads key files, whose secret
// parts may be in the file, kept by gpg-agent (package agent) or in a PKCS #11
// token (package token); [Generate] makes a key file, [Certify] that of a key in
// a token. Signatures are binary, version 4, over SHA-512, so that the oldest
// clients in use (GnuPG 2.2) accept them.
//
// # On disk
//
// A key file is what "gpg --export-secret-keys" writes, armored or binary, with
// one or several keys of version 4; where the secret parts are elsewhere, what
// "gpg --export" writes. It should have mode 0600. Its passphrase,
// if it has one, is the first line of another file.
package sign

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// Signer signs with one or several keys. Its methods may be called
// concurrently.
type Signer interface {
	// Sign returns a detached, binary OpenPGP signature of data for each key,
	// in the order of Keys. It returns all of them or an error; the error
	// wraps a [*KeyError] when a key can not be used now.
	Sign(ctx context.Context, data []byte) ([][]byte, error)

	// Keys describes the keys, in a fixed order.
	Keys() []Key

	// PublicKeys returns the public keys with their user ids and subkeys, in
	// the binary form that gpg --import takes. [Armor] turns it into text.
	PublicKeys() ([]byte, error)
}

// Key describes the key that signs, for logs and configuration.
type Key struct {
	// ID is the key id: 16 upper-case hexadecimal digits. For a signing subkey
	// it is the subkey's.
	ID string
	// Fingerprint is that of the primary key, 40 upper-case hexadecimal digits.
	Fingerprint string
	// UserID is the primary user id, "Name <address>".
	UserID string
	// Algorithm is "ed25519", "rsa3072" and so on, as gpg calls it.
	Algorithm string
}

func (k Key) String() string {
	return fmt.Sprintf("%s %s (%s)", k.Algorithm, k.ID, k.UserID)
}

// KeyError says that a key can not be used now: it has expired, its token is
// unplugged, its agent does not answer. Other messages would fail as well.
type KeyError struct {
	// Key is the id, fingerprint or file of the key.
	Key string
	// Reason is a phrase, such as "has expired".
	Reason string
	// Err is the cause, if there is one.
	Err error
	// Away says that the key may be back later without a change of the
	// configuration: when its agent runs again, its token is plugged in,
	// somebody has entered the PIN, or the clock of this machine is right.
	Away bool
}

// Away returns the error of a key that may be back later; see [KeyError].
func Away(err error) (*KeyError, bool) {
	e, ok := errors.AsType[*KeyError](err)
	return e, ok && e.Away
}

func (e *KeyError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("signing key %s %s: %v", e.Key, e.Reason, e.Err)
	}
	return fmt.Sprintf("signing key %s %s", e.Key, e.Reason)
}

func (e *KeyError) Unwrap() error { return e.Err }

// probeText is signed to find out whether a key signs. It means nothing.
const probeText = "Freshet tries whether this key signs.\n"

// Probe has all keys of a signer sign something, and verifies that as a client
// would.
func Probe(ctx context.Context, signer Signer) error {
	signatures, err := signer.Sign(ctx, []byte(probeText))
	if err != nil {
		return err
	}
	public, err := signer.PublicKeys()
	if err != nil {
		return err
	}
	verifier, err := NewVerifier(public)
	if err != nil {
		return err
	}
	for i, key := range signer.Keys() {
		if _, err := verifier.Verify([]byte(probeText), signatures[i]); err != nil {
			return &KeyError{Key: key.ID, Reason: "makes bad signatures", Err: err}
		}
	}
	return nil
}

// All signs many messages at once and returns the signatures of each, in the
// order of the messages. It keeps several messages in work, so that each
// processor has one and a token always has the next; after the first error it
// gives up.
func All(ctx context.Context, signer Signer, messages [][]byte) ([][][]byte, error) {
	signatures := make([][][]byte, len(messages))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(runtime.GOMAXPROCS(0), 4))
	for i, message := range messages {
		group.Go(func() (err error) {
			signatures[i], err = signer.Sign(ctx, message)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return signatures, nil
}
