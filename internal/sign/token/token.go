// Package token has a PKCS #11 token sign: a hardware security module, a smart
// card, or SoftHSM. The token's library is loaded by a program of its own,
// freshet-pkcs11, with which the package speaks through pipes: the library's
// faults do not reach the process that signs, which needs no cgo either.
//
// Between the two go lines of JSON ([Request], [Response]), described in
// docs/formats/pkcs11-helper.md.
package token

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// DefaultHelper is the program that loads the token's library.
const DefaultHelper = "freshet-pkcs11"

// Config names a key in a token.
type Config struct {
	// Helper is the program; a name without a slash is looked for beside this
	// program, then in PATH. Default [DefaultHelper].
	Helper string
	// URI is that of the key, see [ParseURI].
	URI string
	// PIN reads the user's PIN anew; nil when there is none.
	PIN func() ([]byte, error)
	// Public is the key that has to be there; nil takes any.
	Public crypto.PublicKey
}

// WrongKeyError says that the token has another key under the URI than the one
// whose signatures are wanted.
type WrongKeyError struct{ URI string }

func (e *WrongKeyError) Error() string {
	return fmt.Sprintf("%s is a key, but not that of the certificate", e.URI)
}

// Key is a secret key in a token. Its methods may be called concurrently; they
// share one helper, which is started at the first need, and again when it or
// the token was away.
type Key struct {
	config Config

	// turn is held by whoever starts or ends the helper.
	turn   chan struct{}
	helper *helper // nil while there is none
	// refused is the SHA-256 of the PIN that the token has refused.
	refused [sha256.Size]byte
}

// Open names a key. It does not start the helper yet.
func Open(config Config) (*Key, error) {
	if _, err := ParseURI(config.URI); err != nil {
		return nil, err
	}
	return &Key{config: config, turn: make(chan struct{}, 1)}, nil
}

// SignDigest returns the signature of a SHA-512 digest in the form of
// [crypto.Signer]: PKCS #1 version 1.5, ASN.1 for ECDSA, 64 bytes for Ed25519
// (over the digest, as OpenPGP has it). A [*WrongKeyError] will be back; after
// any other error the token may be there the next time.
func (k *Key) SignDigest(ctx context.Context, digest []byte) ([]byte, error) {
	signature, err := k.sign(ctx, digest)
	if errors.Is(err, errEnded) && ctx.Err() == nil {
		// It may have been ended since the last signature.
		signature, err = k.sign(ctx, digest)
	}
	return signature, err
}

func (k *Key) sign(ctx context.Context, digest []byte) ([]byte, error) {
	h, err := k.use(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := h.call(ctx, Request{Sign: &SignRequest{Digest: digest}})
	if err != nil {
		if !errors.Is(ctx.Err(), context.Canceled) { // the caller's own affair
			k.drop(h)
		}
		return nil, err
	}
	return answer.Signature, nil
}

// Public asks the token for the public key.
func (k *Key) Public(ctx context.Context) (crypto.PublicKey, error) {
	h, err := k.use(ctx)
	if err != nil {
		return nil, err
	}
	if h.public == nil {
		return nil, fmt.Errorf("%s: the token does not tell the public key", k.config.URI)
	}
	return h.public, nil
}

// Close ends the helper.
func (k *Key) Close() error {
	k.turn <- struct{}{}
	defer func() { <-k.turn }()
	if k.helper == nil {
		return nil
	}
	err := k.helper.close()
	k.helper = nil
	return err
}

// use returns the helper, started and logged in.
func (k *Key) use(ctx context.Context) (*helper, error) {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if k.helper != nil && k.helper.running() {
		return k.helper, nil
	}
	k.helper = nil
	open := OpenRequest{Protocol: Protocol, URI: k.config.URI}
	if k.config.PIN != nil {
		var err error
		if open.PIN, err = k.config.PIN(); err != nil {
			return nil, err
		}
		if sha256.Sum256(open.PIN) == k.refused {
			return nil, errors.New("the token has refused the PIN: it is tried again when the file has another one, or after a restart")
		}
	}
	path, err := findHelper(cmp.Or(k.config.Helper, DefaultHelper))
	if err != nil {
		return nil, err
	}
	h, err := start(path)
	if err != nil {
		return nil, err
	}
	answer, err := h.call(ctx, Request{Open: &open})
	if err == nil {
		err = k.check(h, answer)
	}
	if err != nil {
		if failure, ok := errors.AsType[*Failure](err); ok && failure.Kind == FailedPIN {
			k.refused = sha256.Sum256(open.PIN)
		}
		h.kill()
		return nil, err
	}
	k.helper = h
	return h, nil
}

// check compares the key that was found with the one that is wanted.
func (k *Key) check(h *helper, answer *Response) (err error) {
	if answer.Opened == nil {
		return errProtocol
	}
	if len(answer.Opened.PublicKey) == 0 {
		return nil // its signatures will tell
	}
	if h.public, err = x509.ParsePKIXPublicKey(answer.Opened.PublicKey); err != nil {
		return fmt.Errorf("%s: public key: %w", k.config.URI, err)
	}
	want, comparable := k.config.Public.(interface{ Equal(crypto.PublicKey) bool })
	if comparable && !want.Equal(h.public) {
		return &WrongKeyError{k.config.URI}
	}
	return nil
}

// drop ends a helper that is of no use any more. Others may use a newer one by
// now.
func (k *Key) drop(h *helper) {
	k.turn <- struct{}{}
	defer func() { <-k.turn }()
	if k.helper == h {
		k.helper = nil
	}
	h.kill()
}

// findHelper returns the path of a program that is installed beside this one
// or in PATH.
func findHelper(name string) (string, error) {
	if filepath.Base(name) == name {
		if self, err := os.Executable(); err == nil {
			if beside := filepath.Join(filepath.Dir(self), name); isFile(beside) {
				return beside, nil
			}
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("the program that speaks with PKCS #11 tokens is not installed: %w", err)
	}
	return path, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
