package geoip

import (
	"iter"
	"math"
	"slices"
	"strings"
)

// Country is a country or territory that has a code of two letters: those of ISO 3166-1,
// and XK (Kosovo). The zero value is an unknown one, which is nobody's neighbour.
//
// What is known of countries is a table in the program, and is meant for a rough idea
// of what is near what where no database tells more.
type Country uint8

// land is what the table says of a country.
type land struct {
	code, name, continent string
	middle                Point
	area                  float64 // thousand km²
	neighbours            string  // codes, sorted, separated by spaces
}

// CountryOf finds a country by its code in upper case. It is the unknown one for any
// other text.
func CountryOf(code string) Country {
	i, ok := slices.BinarySearchFunc(world[:], code, func(l land, code string) int { return strings.Compare(l.code, code) })
	if !ok {
		return 0
	}
	return Country(i)
}

func (c Country) land() *land { return &world[min(int(c), len(world)-1)] }

// Code is the code of the country, "" of the unknown one.
func (c Country) Code() string { return c.land().code }

// String is the English name of the country.
func (c Country) String() string { return c.land().name }

// CountryName is the English name of a country by its code in upper case; the code itself
// for one that is not known.
func CountryName(code string) string {
	if c := CountryOf(code); c != 0 {
		return c.String()
	}
	return code
}

// Continent is the code of the continent: AF, AN, AS, EU, NA, OC or SA, and "" of the
// unknown country. Countries on two continents are where most of their clients are.
func (c Country) Continent() string { return c.land().continent }

// Middle is a point near the middle of the country, or of the part of it where people
// live if that is much smaller.
func (c Country) Middle() Point { return c.land().middle }

// Radius is that of a circle as large as the country, in km: how far from its middle a
// place in it usually is at most.
func (c Country) Radius() float64 { return math.Sqrt(c.land().area * 1000 / math.Pi) }

// Neighbours yields the countries to which this one is a neighbour, as they are to it: by
// land, or by a short or much used way across the sea. A country is not its own neighbour.
func (c Country) Neighbours() iter.Seq[Country] {
	return func(yield func(Country) bool) {
		for code := range strings.FieldsSeq(c.land().neighbours) {
			if !yield(CountryOf(code)) {
				return
			}
		}
	}
}
