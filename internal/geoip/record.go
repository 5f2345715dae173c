package geoip

import (
	"math"

	"github.com/oschwald/maxminddb-golang/v2/mmdbdata"
)

// record is what is used of a record of a database of places.
type record struct {
	country, continent string
	point              Point
	accuracy           uint16 // km, 0: not said
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

// UnmarshalMaxMindDB implements mmdbdata.Unmarshaler.
func (r *record) UnmarshalMaxMindDB(d *mmdbdata.Decoder) error {
	return readMap(d, func(key string) (err error) {
		switch key {
		case "country":
			r.country, err = readText(d, "iso_code")
		case "continent":
			r.continent, err = readText(d, "code")
		case "location":
			err = r.readLocation(d)
		case "city", "subdivisions":
			r.local = true
			err = d.SkipValue()
		default:
			err = d.SkipValue()
		}
		return err
	})
}

func (r *record) readLocation(d *mmdbdata.Decoder) error {
	var lat, lon bool
	err := readMap(d, func(key string) (err error) {
		switch key {
		case "latitude":
			r.point.Latitude, err = readNumber(d)
			lat = true
		case "longitude":
			r.point.Longitude, err = readNumber(d)
			lon = true
		case "accuracy_radius":
			r.accuracy, err = d.ReadUint16()
		default:
			err = d.SkipValue()
		}
		return err
	})
	r.located = lat && lon
	return err
}

// readMap reads a map, the values of which are read by value.
func readMap(d *mmdbdata.Decoder, value func(key string) error) error {
	entries, _, err := d.ReadMap()
	if err != nil {
		return err
	}
	for key, err := range entries {
		if err != nil {
			return err
		}
		if err := value(string(key)); err != nil {
			return err
		}
	}
	return nil
}

// readText reads a map, and is the text that it has under a key.
func readText(d *mmdbdata.Decoder, want string) (text string, err error) {
	return text, readMap(d, func(key string) (err error) {
		if key != want {
			return d.SkipValue()
		}
		text, err = d.ReadString()
		return err
	})
}

// readNumber reads a number of either size.
func readNumber(d *mmdbdata.Decoder) (float64, error) {
	kind, err := d.PeekKind()
	if err == nil && kind == mmdbdata.KindFloat32 {
		v, err := d.ReadFloat32()
		return float64(v), err
	}
	return d.ReadFloat64()
}
