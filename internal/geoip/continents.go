package geoip

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
)

// Continents tells which countries share a continent. The zero value knows none.
type Continents struct {
	of      map[string]string   // country → continent
	members map[string][]string // continent → countries, sorted
}

// ParseContinents reads MirrorManager's table of countries
// ("country_continent.csv"): a country's code of two characters, a comma, and
// its continent's code (AF, AN, AS, EU, NA, OC, SA, or "--" for what is
// nowhere). Other lines, such as the heading, are skipped. A country that has
// two lines is where the last one says. A table without countries is an error.
func ParseContinents(r io.Reader) (*Continents, error) {
	of := make(map[string]string)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	read := 0
	for ; lines.Scan(); read++ {
		country, rest, _ := strings.Cut(lines.Text(), ",")
		continent, _, _ := strings.Cut(rest, ",")
		country, continent = strings.TrimSpace(country), strings.TrimSpace(continent)
		if len(country) == 2 && len(continent) == 2 {
			of[strings.ToUpper(country)] = strings.ToUpper(continent)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, lineError("continents", read, err)
	}
	if len(of) == 0 {
		return nil, fmt.Errorf("%w: continents: no line says \"country,continent\" by codes of two letters", ErrMalformed)
	}
	return newContinents(of), nil
}

func newContinents(of map[string]string) *Continents {
	c := &Continents{of: of, members: make(map[string][]string)}
	for _, country := range slices.Sorted(maps.Keys(of)) {
		c.members[of[country]] = append(c.members[of[country]], country)
	}
	return c
}

// Redirect returns the table in which each country of moves is on the continent
// that follows it there, because it has the better connections to it. Countries
// that the table does not have stay unknown.
func (c *Continents) Redirect(moves iter.Seq2[string, string]) *Continents {
	if c == nil {
		return nil
	}
	of := maps.Clone(c.of)
	for country, continent := range moves {
		if _, known := of[country]; known {
			of[country] = continent
		}
	}
	return newContinents(of)
}

// Of is the code of a country's continent, empty if it is not known. The country
// is in upper case.
func (c *Continents) Of(country string) string {
	if c == nil {
		return ""
	}
	return c.of[country]
}

// Countries are the countries of a continent, sorted. The slice belongs to c and
// must not be changed.
func (c *Continents) Countries(continent string) []string {
	if c == nil {
		return nil
	}
	return c.members[continent]
}

// Len is how many countries the table has.
func (c *Continents) Len() int {
	if c == nil {
		return 0
	}
	return len(c.of)
}
