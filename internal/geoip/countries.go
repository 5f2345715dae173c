// Package geoip answers where an address is: its country and place, from MaxMind DB
// files; the autonomous system that announces it, from another one or from a table of
// netblocks; which countries share a continent or are neighbours; and how far away is
// what.
//
// It opens no file. What it reads it reads from foreign bytes: it never panics
// on them, and memory is bounded by their size. What it returns never changes,
// so that any number of goroutines may ask at once, and a reload is the exchange
// of one pointer.
package geoip

import (
	"errors"
	"net/netip"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// ErrMalformed is what every error of this package is, except those of a reader
// that it was given.
var ErrMalformed = errors.New("malformed location data")

// Countries tells the country of an address. The zero value knows none.
type Countries struct {
	db *maxminddb.Reader
}

// ParseCountries takes a file in version 2.0 of the MaxMind DB format
// (https://maxmind.github.io/MaxMind-DB/) whose records have country.iso_code,
// such as GeoLite2-Country, GeoLite2-City and those of other vendors with the
// same layout. It keeps data, which must not be changed any more.
//
// Only the head of the format is checked here. A record that turns out to be
// damaged is one without a country.
func ParseCountries(data []byte) (*Countries, error) {
	db, err := open(data)
	if err != nil {
		return nil, err
	}
	return &Countries{db: db}, nil
}

// Country is the ISO 3166-1 code of the country where addr is, two upper-case
// letters, or empty if that is not known. Addresses that carry an IPv4 address
// (::ffff:0:0/96, 2002::/16) have its country in the databases of MaxMind,
// which hold them as aliases.
func (c *Countries) Country(addr netip.Addr) string {
	if c == nil || c.db == nil {
		return ""
	}
	var code string
	if err := c.db.Lookup(addr).DecodePath(&code, "country", "iso_code"); err != nil || !isCode(code) {
		return ""
	}
	return code
}

// Type is what the database says that it is, such as "GeoLite2-Country".
func (c *Countries) Type() string {
	if c == nil || c.db == nil {
		return ""
	}
	return c.db.Metadata.DatabaseType
}

// Built is when the database was made, in UTC; zero if there is none.
func (c *Countries) Built() time.Time {
	if c == nil || c.db == nil {
		return time.Time{}
	}
	return c.db.Metadata.BuildTime().UTC()
}

// isCode tells whether s is two upper-case ASCII letters.
func isCode(s string) bool {
	return len(s) == 2 && 'A' <= s[0] && s[0] <= 'Z' && 'A' <= s[1] && s[1] <= 'Z'
}
