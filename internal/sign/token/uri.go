package token

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// URI names a secret key in a token: those attributes of RFC 7512 that say
// where it is. Empty ones match anything.
type URI struct {
	// Module is the absolute path of the token's PKCS #11 library (module-path).
	Module string
	// Token is the label of the token, the others are what else it says of itself.
	Token, Serial, Manufacturer, Model string
	// Slot is the number of the slot, nil for any (slot-id).
	Slot *uint
	// Object is the label of the key, ID its CKA_ID; at least one is given.
	Object string
	ID     []byte
}

const scheme = "pkcs11:"

// ParseURI reads a URI like
// "pkcs11:token=Releases;object=stable?module-path=/usr/lib/softhsm/libsofthsm2.so".
// PINs do not belong there, and attributes that it does not know could mean
// another key: both are errors.
func ParseURI(text string) (*URI, error) {
	rest, found := strings.CutPrefix(text, scheme)
	if !found {
		return nil, fmt.Errorf(`PKCS #11 URI %q: want "pkcs11:token=NAME;object=NAME?module-path=/FILE.so"`, text)
	}
	u := &URI{}
	path, query, _ := strings.Cut(rest, "?")
	if err := u.attributes(path, ";", u.inPath); err != nil {
		return nil, err
	}
	if err := u.attributes(query, "&", u.inQuery); err != nil {
		return nil, err
	}
	switch {
	case u.Module == "":
		return nil, errors.New("PKCS #11 URI: module-path is missing: the token's library")
	case !filepath.IsAbs(u.Module):
		return nil, fmt.Errorf("PKCS #11 URI: module-path %q is not absolute", u.Module)
	case u.Object == "" && len(u.ID) == 0:
		return nil, errors.New("PKCS #11 URI: object and id are missing: at least one of them names the key")
	}
	return u, nil
}

// attributes reads NAME=VALUE pairs, each at most once (RFC 7512 §2.3).
func (u *URI) attributes(list, separator string, set func(name, value string) error) error {
	if list == "" {
		return nil
	}
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(list, separator) {
		name, escaped, found := strings.Cut(pair, "=")
		value, err := url.PathUnescape(escaped)
		switch {
		case !found || err != nil:
			return fmt.Errorf("PKCS #11 URI: %q is no attribute: want NAME=VALUE, with other characters as %%XX", pair)
		case seen[name]:
			return fmt.Errorf("PKCS #11 URI: there are two attributes %s", name)
		}
		seen[name] = true
		if err := set(name, value); err != nil {
			return fmt.Errorf("PKCS #11 URI: %w", err)
		}
	}
	return nil
}

func (u *URI) inPath(name, value string) error {
	switch name {
	case "token":
		u.Token = value
	case "serial":
		u.Serial = value
	case "manufacturer":
		u.Manufacturer = value
	case "model":
		u.Model = value
	case "object":
		u.Object = value
	case "id":
		u.ID = []byte(value)
	case "slot-id":
		number, err := strconv.ParseUint(value, 10, strconv.IntSize)
		if err != nil {
			return fmt.Errorf("slot-id %q is no number", value)
		}
		u.Slot = new(uint(number))
	case "type":
		if value != "private" {
			return fmt.Errorf("type %q: a private key is needed", value)
		}
	default:
		return fmt.Errorf("the attribute %q is not known here", name)
	}
	return nil
}

func (u *URI) inQuery(name, value string) error {
	switch name {
	case "module-path":
		u.Module = value
		return nil
	case "pin-value", "pin-source":
		return fmt.Errorf("%s: the PIN is the first line of passphrase-file", name)
	}
	return fmt.Errorf("the attribute %q is not known here", name)
}

// String writes the URI; [ParseURI] reads it as it was.
func (u *URI) String() string {
	var path []string
	add := func(name, value string) {
		if value != "" {
			path = append(path, name+"="+escape(value))
		}
	}
	add("token", u.Token)
	add("manufacturer", u.Manufacturer)
	add("model", u.Model)
	add("serial", u.Serial)
	if u.Slot != nil {
		add("slot-id", strconv.FormatUint(uint64(*u.Slot), 10))
	}
	add("object", u.Object)
	add("id", string(u.ID))
	return scheme + strings.Join(path, ";") + "?module-path=" + escape(u.Module)
}

// escape leaves the characters alone that need no escape in any part of a URI,
// and slashes.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
