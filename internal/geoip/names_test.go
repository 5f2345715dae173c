package geoip_test

import (
	"testing"

	"freshet/internal/geoip"
)

func TestCountryName(t *testing.T) {
	for code, want := range map[string]string{
		"AD": "Andorra", "DE": "Germany", "CI": "Côte d'Ivoire", "ZW": "Zimbabwe", "XK": "Kosovo",
		"ZZ": "ZZ", "de": "de", "": "", "EUR": "EUR", "A|": "A|",
	} {
		if got := geoip.CountryName(code); got != want {
			t.Errorf("CountryName(%q) is %q, want %q", code, got, want)
		}
	}
}
