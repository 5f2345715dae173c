package geoip

import (
	"math"

	"github.com/oschwald/maxminddb-golang/v2/mmdbdata"
)

// record is what is used of a record of a database of places.
type record struct {
	country, continent string
	point              Point
	accuracy           uint64 // km, 0: not said
	located            bool   // point is set, both halves
	local              bool   // there is a city or a region
}

// place is the place of a record.
func (r *record) place() Place {
	at := PlaceIn(CountryOf(r.country))
	if at.Country == 0 && isCode(r.continent) {
		at.Continent = r.continent
	}
	if !r.located || !onEarth(r.point) {
		return at
	}
	radius := max(float64(r.accuracy), 1)
	if r.accuracy == 0 {
		radius = cityRadius
	}
	if at.Country != 0 && (!r.local || radius >= coarse) {
		return at
	}
	at.Point, at.Radius = r.point, radius
	return at
}

// onEarth tells whether a point is one. That of a damaged record may be not a number.
func onEarth(p Point) bool {
	return math.Abs(p.Latitude) <= 90 && math.Abs(p.Longitude) <= 180
}

// UnmarshalMaxMindDBCursor implements mmdbdata.CursorUnmarshaler. It looks no deeper than two
// maps, and at each of their entries once.
func (r *record) UnmarshalMaxMindDBCursor(c mmdbdata.Cursor) (mmdbdata.Cursor, error) {
	return readMap(c, func(key []byte, v mmdbdata.Cursor) (mmdbdata.Cursor, error) {
		switch string(key) {
		case "country":
			return readText(v, "iso_code", &r.country)
		case "continent":
			return readText(v, "code", &r.continent)
		case "location":
			return r.readLocation(v)
		case "city", "subdivisions":
			r.local = true
		}
		return v.Skip()
	})
}

func (r *record) readLocation(c mmdbdata.Cursor) (mmdbdata.Cursor, error) {
	var lat, lon bool
	next, err := readMap(c, func(key []byte, v mmdbdata.Cursor) (next mmdbdata.Cursor, err error) {
		switch string(key) {
		case "latitude":
			lat = true
			r.point.Latitude, next, err = v.ReadFloat()
		case "longitude":
			lon = true
			r.point.Longitude, next, err = v.ReadFloat()
		case "accuracy_radius":
			r.accuracy, next, err = v.ReadUint()
		default:
			next, err = v.Skip()
		}
		return next, err
	})
	r.located = lat && lon
	return next, err
}

// readMap reads a map, the values of which are read by value, and returns what follows it.
func readMap(c mmdbdata.Cursor, value func(key []byte, v mmdbdata.Cursor) (mmdbdata.Cursor, error)) (mmdbdata.Cursor, error) {
	m, err := c.Map()
	if err != nil {
		return mmdbdata.Cursor{}, err
	}
	var done mmdbdata.Cursor
	for {
		key, v, more := m.Next(done)
		if !more {
			break
		}
		if done, err = value(key, v); err != nil {
			return mmdbdata.Cursor{}, err
		}
	}
	return m.End()
}

// readText reads a map, and puts the text that it has under a key into text.
func readText(c mmdbdata.Cursor, want string, text *string) (mmdbdata.Cursor, error) {
	return readMap(c, func(key []byte, v mmdbdata.Cursor) (next mmdbdata.Cursor, err error) {
		if string(key) != want {
			return v.Skip()
		}
		*text, next, err = v.ReadString()
		return next, err
	})
}
