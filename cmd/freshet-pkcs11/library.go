//go:build cgo

package main

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"freshet/internal/sign/token"
)

// library is a token's library, loaded and initialised.
type library struct{ *pkcs11.Ctx }

func load(path string) (library, error) {
	ctx := pkcs11.New(path)
	if ctx == nil {
		return library{}, absent("%s cannot be loaded: it is not there, or no PKCS #11 library", path)
	}
	if err := ctx.Initialize(); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
		ctx.Destroy()
		return library{}, fmt.Errorf("initialise %s: %w", path, err)
	}
	return library{ctx}, nil
}

func (l library) close() {
	_ = l.Finalize() // the process ends anyway
	l.Destroy()
}

// slot returns the one whose token the URI means.
func (l library) slot(uri *token.URI) (uint, *pkcs11.TokenInfo, error) {
	slots, err := l.GetSlotList(true)
	if err != nil {
		return 0, nil, fmt.Errorf("list slots: %w", err)
	}
	var found []uint
	var info pkcs11.TokenInfo
	for _, slot := range slots {
		of, err := l.GetTokenInfo(slot)
		if err != nil || of.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue // it has no keys, or is on its way out
		}
		if matches(uri.Token, of.Label) && matches(uri.Serial, of.SerialNumber) && matches(uri.Manufacturer, of.ManufacturerID) &&
			matches(uri.Model, of.Model) && (uri.Slot == nil || *uri.Slot == slot) {
			found = append(found, slot)
			info = of
		}
	}
	switch len(found) {
	case 0:
		return 0, nil, absent("no token %s is plugged in (%d others are)", uri, len(slots))
	case 1:
		return found[0], &info, nil
	}
	return 0, nil, absent("%d tokens are %s: name one by its serial", len(found), uri)
}

func matches(want, got string) bool { return want == "" || want == got }

// login opens a session and shows the PIN to the token. A PIN that could be
// the last one is left to a person.
func (l library) login(slot uint, info *pkcs11.TokenInfo, pin []byte) (pkcs11.SessionHandle, error) {
	session, err := l.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return 0, fmt.Errorf("open session: %w", err)
	}
	if info.Flags&pkcs11.CKF_LOGIN_REQUIRED == 0 {
		return session, nil
	}
	pad := info.Flags&pkcs11.CKF_PROTECTED_AUTHENTICATION_PATH != 0
	switch {
	case info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return 0, &token.Failure{Kind: token.FailedPIN, Text: "the token is locked after too many wrong PINs: its owner can unlock it"}
	case info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return 0, &token.Failure{Kind: token.FailedPIN, Text: "one more wrong PIN locks the token: log in once by hand, with pkcs11-tool --login"}
	case pin == nil && !pad:
		return 0, &token.Failure{Kind: token.FailedPIN, Text: "the token wants a PIN: name the file that has it as passphrase-file"}
	}
	err = l.Login(session, pkcs11.CKU_USER, string(pin))
	if err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		return 0, fmt.Errorf("log in: %w", err)
	}
	return session, nil
}

// maxFound bounds how many objects of a kind are looked at.
const maxFound = 100

func (l library) find(session pkcs11.SessionHandle, template ...*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := l.FindObjectsInit(session, template); err != nil {
		return nil, fmt.Errorf("find objects: %w", err)
	}
	found, _, err := l.FindObjects(session, maxFound)
	if err = errors.Join(err, l.FindObjectsFinal(session)); err != nil {
		return nil, fmt.Errorf("find objects: %w", err)
	}
	return found, nil
}

// attribute returns one; nil when the object does not have or tell it.
func (l library) attribute(session pkcs11.SessionHandle, object pkcs11.ObjectHandle, kind uint) []byte {
	got, err := l.GetAttributeValue(session, object, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	if err != nil || len(got) != 1 {
		return nil
	}
	return got[0].Value
}

// keys returns the URIs of the keys of a token: of secret ones that can sign, or,
// without a login, of the public ones.
func (l library) keys(slot uint, path, pin string) ([]*token.URI, error) {
	info, err := l.GetTokenInfo(slot)
	if err != nil || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
		return nil, err
	}
	var session pkcs11.SessionHandle
	class := uint(pkcs11.CKO_PUBLIC_KEY)
	if pin == "" {
		session, err = l.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	} else {
		class = pkcs11.CKO_PRIVATE_KEY
		session, err = l.login(slot, &info, []byte(pin))
	}
	if err != nil {
		return nil, err
	}
	objects, err := l.find(session, pkcs11.NewAttribute(pkcs11.CKA_CLASS, class))
	if err != nil {
		return nil, err
	}
	var uris []*token.URI
	for _, object := range objects {
		if sign := l.attribute(session, object, pkcs11.CKA_SIGN); class == pkcs11.CKO_PRIVATE_KEY && bytes.Equal(sign, []byte{0}) {
			continue
		}
		uris = append(uris, &token.URI{
			Module: path, Token: info.Label, Serial: info.SerialNumber,
			Object: string(l.attribute(session, object, pkcs11.CKA_LABEL)), ID: l.attribute(session, object, pkcs11.CKA_ID),
		})
	}
	return uris, nil
}
