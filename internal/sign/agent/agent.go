// Package agent has gpg-agent sign: with a key in its own store, or on an
// OpenPGP card (a YubiKey, for instance), for which it asks scdaemon and of
// which it keeps the PIN. It speaks the Assuan protocol over the agent's
// socket, so that neither gpg nor gpgme is started.
//
// The protocol is that of "gpg-connect-agent" and its commands SIGKEY, SETHASH
// and PKSIGN ("help PKSIGN"); lines are those of
// https://gnupg.org/documentation/manuals/assuan/.
package agent

import (
	"bufio"
	"context"
	"crypto"
	"errors"
	"fmt"
	"net"
	"time"
)

// hashSHA512 is libgcrypt's number of SHA-512, which SETHASH takes (RFC 4880
// §9.4 has the same).
const hashSHA512 = 10

// Key is a secret key that an agent keeps. Its methods may be called
// concurrently; signatures are made one after the other over one connection,
// which is made at the first need, and again when the agent was away.
type Key struct {
	socket string
	public crypto.PublicKey
	grip   string

	// turn is held by whoever uses the connection.
	turn chan struct{}
	conn *connection // nil while there is none
}

// New returns the key of an agent that belongs to a public key: an
// *rsa.PublicKey, an *ecdsa.PublicKey or an ed25519.PublicKey. It does not
// connect. socket is what "gpgconf --list-dirs agent-socket" prints, or
// agent-extra-socket, which allows less.
func New(socket string, public crypto.PublicKey) (*Key, error) {
	grip, err := Keygrip(public)
	if err != nil {
		return nil, err
	}
	return &Key{socket: socket, public: public, grip: fmt.Sprintf("%X", grip), turn: make(chan struct{}, 1)}, nil
}

// Error is what the agent answers when it does not sign.
type Error struct {
	// Code is the number of libgpg-error, without its source.
	Code int
	// Text is what the agent says beside it.
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("gpg-agent says: %s (error %d)", e.Text, e.Code) }

// SignDigest returns the signature of a SHA-512 digest in the form of
// [crypto.Signer]: PKCS #1 version 1.5, ASN.1 for ECDSA, 64 bytes for Ed25519
// (over the digest, as OpenPGP has it). The agent may ask somebody for a PIN
// meanwhile; ctx bounds the wait. An *[Error] is the agent's refusal.
func (k *Key) SignDigest(ctx context.Context, digest []byte) ([]byte, error) {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	used := k.conn != nil
	values, err := k.sign(ctx, digest)
	if _, refused := errors.AsType[*Error](err); err != nil && used && !refused && ctx.Err() == nil {
		// The agent was started anew since the last signature.
		values, err = k.sign(ctx, digest)
	}
	if err != nil {
		return nil, err
	}
	return values.signature(k.public)
}

// sign asks for one signature. After an error that is not the agent's refusal
// there is no connection. The caller has the turn.
func (k *Key) sign(ctx context.Context, digest []byte) (values *sigVal, err error) {
	if k.conn == nil {
		if k.conn, err = dial(ctx, k.socket); err != nil {
			return nil, err
		}
	}
	data, err := k.conn.sign(ctx, k.grip, digest)
	if _, refused := errors.AsType[*Error](err); err != nil && !refused {
		_ = k.conn.Close() // it is of no use any more
		k.conn = nil
	}
	if err != nil {
		return nil, err
	}
	return parseSigVal(data)
}

// Close ends the connection. A signature under way is waited for.
func (k *Key) Close() error {
	k.turn <- struct{}{}
	defer func() { <-k.turn }()
	if k.conn == nil {
		return nil
	}
	err := k.conn.Close()
	k.conn = nil
	return err
}

// connection is one to an agent.
type connection struct {
	net.Conn
	lines *bufio.Reader
}

func dial(ctx context.Context, socket string) (*connection, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("gpg-agent is away: %w", err)
	}
	c := &connection{Conn: conn, lines: bufio.NewReaderSize(conn, maxLine)}
	err = c.during(ctx, func() error { _, err := c.answer(); return err }) // its greeting
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("gpg-agent at %s: %w", socket, err)
	}
	return c, nil
}

// during runs what reads and writes, until ctx ends.
func (c *connection) during(ctx context.Context, do func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	err := do()
	if !stop() && err != nil {
		return fmt.Errorf("gpg-agent does not answer: %w", context.Cause(ctx))
	}
	return err
}

// sign sends the three commands at once and reads their answers.
func (c *connection) sign(ctx context.Context, grip string, digest []byte) (data []byte, err error) {
	err = c.during(ctx, func() error {
		if _, err := fmt.Fprintf(c, "SIGKEY %s\nSETHASH %d %X\nPKSIGN\n", grip, hashSHA512, digest); err != nil {
			return fmt.Errorf("gpg-agent went away: %w", err)
		}
		var refusal error
		for range 3 {
			answer, err := c.answer()
			if _, refused := errors.AsType[*Error](err); err != nil && !refused {
				return err
			}
			if refusal == nil {
				refusal, data = err, answer
			}
		}
		return refusal
	})
	return data, err
}
