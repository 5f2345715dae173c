package geoip

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Places tells where on the Earth an address is. The zero value knows nothing.
type Places struct {
	db      *maxminddb.Reader
	records sync.Pool // of *record: one that is decoded into would be garbage
}

// ParsePlaces takes a file in version 2.0 of the MaxMind DB format whose records have
// location.latitude and location.longitude, such as GeoLite2-City, DBIP-City-Lite and others
// of the same layout. A database of countries works, too: then all is known only so
// well. It keeps data, which must not be changed any more.
func ParsePlaces(data []byte) (*Places, error) {
	db, err := open(data)
	if err != nil {
		return nil, err
	}
	return &Places{db: db}, nil
}

// open opens a MaxMind DB.
func open(data []byte) (*maxminddb.Reader, error) {
	db, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("%w: no MaxMind DB: %w", ErrMalformed, err)
	}
	if v := db.Metadata.BinaryFormatMajorVersion; v != 2 {
		return nil, fmt.Errorf("%w: version %d of the MaxMind DB format, not 2", ErrMalformed, v)
	}
	return db, nil
}

// cityRadius is how far, in km, a point may be off of which a database does not say it.
const cityRadius = 50

// coarse is the radius in km from which a point is taken for that of a whole country.
// Such points are usual for IPv6.
const coarse = 500

// Place tells where an address is. A record that names no city or region is one of its
// country, wherever its point is: the place is [PlaceIn] that country then. The same goes
// for points that are off by 500 km or more.
func (p *Places) Place(addr netip.Addr) Place {
	if p == nil || p.db == nil {
		return Place{}
	}
	rec, ok := p.records.Get().(*record)
	if !ok {
		rec = new(record)
	}
	defer p.records.Put(rec)
	*rec = record{}
	if err := p.db.Lookup(addr).Decode(rec); err != nil {
		return Place{} // the record is damaged
	}
	return rec.place()
}

// Built is when the database was made, in UTC; zero if there is none.
func (p *Places) Built() time.Time {
	if p == nil || p.db == nil {
		return time.Time{}
	}
	return p.db.Metadata.BuildTime().UTC()
}
