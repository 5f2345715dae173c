package geoip

import (
	"net/netip"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Systems tells which autonomous system announces an address, as [Netblocks] does, from a
// database. The zero value knows none.
type Systems struct{ db *maxminddb.Reader }

// ParseSystems takes a file in version 2.0 of the MaxMind DB format whose records have
// autonomous_system_number, such as GeoLite2-ASN and DBIP-ASN-Lite. It keeps data, which must
// not be changed any more.
func ParseSystems(data []byte) (*Systems, error) {
	db, err := open(data)
	if err != nil {
		return nil, err
	}
	return &Systems{db: db}, nil
}

// ASN is the number of the autonomous system of an address, 0 if it is not known.
func (s *Systems) ASN(addr netip.Addr) uint32 {
	if s == nil || s.db == nil {
		return 0
	}
	var number uint32
	if err := s.db.Lookup(addr).DecodePath(&number, "autonomous_system_number"); err != nil {
		return 0
	}
	return number
}

// Built is when the database was made, in UTC; zero if there is none.
func (s *Systems) Built() time.Time {
	if s == nil || s.db == nil {
		return time.Time{}
	}
	return s.db.Metadata.BuildTime().UTC()
}
