package choice_test

import (
	"net/netip"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/director/choice"
	"freshet/internal/geoip"
)

// files says of mirrors by their index why they are not used.
type files []choice.Reason

func (f files) Holds(mirror int) choice.Reason { return f[mirror] }

func broken(way choice.Way, fault string) func(*choice.Mirror) {
	return func(m *choice.Mirror) {
		m.Ways[way].Fault = fault
		m.Ways[way].Since = time.Date(2026, 11, 21, 20, 5, 0, 0, time.UTC)
	}
}

func without(ways ...choice.Way) func(*choice.Mirror) {
	return func(m *choice.Mirror) {
		for _, w := range ways {
			m.Ways[w].URL = ""
		}
	}
}

// Each rule by itself: whom it lets through, whom it does not, and what it says to them.
func TestRules(t *testing.T) {
	german := in("DE", 52.5, 13.4)
	german.ASN, german.Addr = 64500, netip.MustParseAddr("198.51.100.7")
	german6 := german
	german6.Addr = netip.MustParseAddr("2001:db8:1::7")
	nobody := geoip.Location{}
	for name, c := range map[string]struct {
		mirror choice.Mirror
		req    choice.Request
		want   choice.Reason
		why    string
	}{
		"disabled": {
			mirror("m", "DE", func(m *choice.Mirror) { m.Disabled = true }),
			choice.Request{Client: german},
			choice.Disabled, "Taken out of use by those who run the director.",
		},
		"no file":       {mirror("m", "DE"), choice.Request{Client: german, Files: files{choice.NoFile}}, choice.NoFile, "It does not have this file, as far as is known."},
		"other version": {mirror("m", "DE"), choice.Request{Client: german, Files: files{choice.OtherVersion}}, choice.OtherVersion, "It has another file of this name than the origin: an older or a newer one."},
		"not current":   {mirror("m", "DE"), choice.Request{Client: german, Files: files{choice.NotCurrent}}, choice.NotCurrent, "It does not have all of the current version of the repository yet, and this file would say that it has."},
		"doubtful":      {mirror("m", "DE"), choice.Request{Client: german, Files: files{choice.Doubtful}}, choice.Doubtful, "It is not known which files it has: there is no list of them, or only one that is too old."},

		"country only": {
			mirror("m", "AT", rules(directorapi.Rules{CountryOnly: true, Countries: []string{"CH"}})),
			choice.Request{Client: german},
			choice.CountryOnly, "It is only for clients in Austria, Switzerland; this one is in Germany.",
		},
		"country only, nobody knows": {
			mirror("m", "AT", rules(directorapi.Rules{CountryOnly: true})),
			choice.Request{Client: nobody},
			choice.CountryOnly, "It is only for clients in Austria; this one is in an unknown country.",
		},
		"country only, there":       {mirror("m", "DE", rules(directorapi.Rules{CountryOnly: true})), choice.Request{Client: german}, choice.None, ""},
		"country only, as if there": {mirror("m", "AT", rules(directorapi.Rules{CountryOnly: true, Countries: []string{"DE"}})), choice.Request{Client: german}, choice.None, ""},

		"asn only": {
			mirror("m", "DE", asn(64501), rules(directorapi.Rules{ASNOnly: true})),
			choice.Request{Client: german},
			choice.ASNOnly, "It is only for clients in its autonomous system, AS64501; this one is in AS64500.",
		},
		"asn only, nobody knows": {
			mirror("m", "DE", rules(directorapi.Rules{ASNOnly: true})),
			choice.Request{Client: nobody},
			choice.ASNOnly, "It is only for clients in its autonomous system, an unknown one; this one is in an unknown one.",
		},
		"asn only, there": {mirror("m", "DE", asn(64500), rules(directorapi.Rules{ASNOnly: true})), choice.Request{Client: german}, choice.None, ""},

		"netblocks only": {
			mirror("m", "DE", rules(directorapi.Rules{NetblocksOnly: true, Netblocks: prefixes("198.51.100.128/25")})),
			choice.Request{Client: german},
			choice.NetblocksOnly, "It is only for clients in its netblocks; this one is in none of them.",
		},
		"netblocks only, none":      {mirror("m", "DE", rules(directorapi.Rules{NetblocksOnly: true})), choice.Request{Client: german}, choice.NetblocksOnly, ""},
		"netblocks only, there":     {mirror("m", "DE", rules(directorapi.Rules{NetblocksOnly: true, Netblocks: prefixes("198.51.100.0/25")})), choice.Request{Client: german}, choice.None, ""},
		"netblocks only, IPv6":      {mirror("m", "DE", rules(directorapi.Rules{NetblocksOnly: true, Netblocks: prefixes("2001:db8::/32")})), choice.Request{Client: german6, IPv6: true}, choice.None, ""},
		"all rules that are set":    {mirror("m", "DE", rules(directorapi.Rules{CountryOnly: true, ASNOnly: true})), choice.Request{Client: german}, choice.ASNOnly, ""},
		"netblocks only, no client": {mirror("m", "DE", rules(directorapi.Rules{NetblocksOnly: true, Netblocks: prefixes("0.0.0.0/0")})), choice.Request{Client: nobody}, choice.NetblocksOnly, ""},

		"not this country": {
			mirror("m", "AT", rules(directorapi.Rules{NotCountries: []string{"CH", "DE"}})),
			choice.Request{Client: german},
			choice.NotCountry, "It is not for clients in Germany.",
		},
		"not other countries":      {mirror("m", "AT", rules(directorapi.Rules{NotCountries: []string{"CH"}})), choice.Request{Client: german}, choice.None, ""},
		"not countries, unknown":   {mirror("m", "AT", rules(directorapi.Rules{NotCountries: []string{"CH", "??"}})), choice.Request{Client: nobody}, choice.None, ""},
		"not this system":          {mirror("m", "AT", rules(directorapi.Rules{NotASNs: []uint32{1, 64500}})), choice.Request{Client: german}, choice.NotASN, "It is not for clients in AS64500."},
		"not other systems":        {mirror("m", "AT", rules(directorapi.Rules{NotASNs: []uint32{0, 1}})), choice.Request{Client: nobody}, choice.None, ""},
		"not this netblock":        {mirror("m", "AT", rules(directorapi.Rules{NotNetblocks: prefixes("198.51.100.0/24")})), choice.Request{Client: german}, choice.NotNetblock, "It is not for clients in a netblock that this one is in."},
		"not other netblocks":      {mirror("m", "AT", rules(directorapi.Rules{NotNetblocks: prefixes("192.0.2.0/24")})), choice.Request{Client: german}, choice.None, ""},
		"not the path":             {mirror("m", "AT", rules(directorapi.Rules{NotPaths: []string{"/a/*.iso"}})), choice.Request{Client: german, Path: "/a/b/c.iso"}, choice.NotPath, "It is not used for this path."},
		"not other paths":          {mirror("m", "AT", rules(directorapi.Rules{NotPaths: []string{"/a/*.iso"}})), choice.Request{Client: german, Path: "/b/c.iso"}, choice.None, ""},
		"too large":                {mirror("m", "AT", rules(directorapi.Rules{MaxFileSize: 1000})), choice.Request{Client: german, Size: 1001}, choice.TooLarge, "It is not used for files of more than 1,000 bytes; this one has 1,001."},
		"just as large":            {mirror("m", "AT", rules(directorapi.Rules{MaxFileSize: 1000})), choice.Request{Client: german, Size: 1000}, choice.None, ""},
		"of an unknown length":     {mirror("m", "AT", rules(directorapi.Rules{MaxFileSize: 1000})), choice.Request{Client: german, Size: -1}, choice.None, ""},
		"no https":                 {mirror("m", "AT", without(choice.HTTPS4, choice.HTTPS6)), choice.Request{Client: german, Scheme: choice.OnlyHTTPS}, choice.NoScheme, "It has no URL by https."},
		"no http":                  {mirror("m", "AT", without(choice.HTTP4, choice.HTTP6)), choice.Request{Client: german, Scheme: choice.OnlyHTTP}, choice.NoScheme, "It has no URL by http."},
		"nothing but rsync":        {mirror("m", "AT", without(choice.HTTP4, choice.HTTP6, choice.HTTPS4, choice.HTTPS6)), choice.Request{Client: german}, choice.NoScheme, "It has no URL of this project."},
		"not over IPv6":            {mirror("m", "AT", broken(choice.HTTPS6, "it has no address")), choice.Request{Client: german6, IPv6: true, Scheme: choice.OnlyHTTPS}, choice.NoFamily, "It does not work by https over IPv6 since 2026-11-21 20:05:00 UTC: it has no address. Over IPv4 it does."},
		"not over IPv4":            {mirror("m", "AT", broken(choice.HTTPS4, "it has no address")), choice.Request{Client: german, Scheme: choice.OnlyHTTPS}, choice.NoFamily, "It does not work by https over IPv4 since 2026-11-21 20:05:00 UTC: it has no address. Over IPv6 it does."},
		"over none":                {mirror("m", "AT", down("the connection is refused")), choice.Request{Client: german}, choice.Down, "It does not work by http over IPv4: the connection is refused."},
		"https alone is down":      {mirror("m", "AT", broken(choice.HTTPS4, "its certificate has expired"), broken(choice.HTTPS6, "")), choice.Request{Client: german, Scheme: choice.OnlyHTTPS}, choice.NoFamily, ""},
		"http is broken, https is": {mirror("m", "AT", broken(choice.HTTP4, "404")), choice.Request{Client: german}, choice.None, ""},
	} {
		chooser := choice.New([]choice.Mirror{c.mirror})
		picks := chooser.Choose(nil, &c.req)
		if want := c.want == choice.None; len(picks) == 1 != want {
			t.Errorf("%s: %d mirrors are given", name, len(picks))
		}
		c.req.Explain = true
		picks = chooser.Choose(nil, &c.req)
		if len(picks) != 1 || picks[0].Out != c.want {
			t.Errorf("%s: %q, want %q", name, picks[0].Out, c.want)
			continue
		}
		if why := chooser.Why(&picks[0], &c.req); c.why != "" && why != c.why {
			t.Errorf("%s: it says %q, want %q", name, why, c.why)
		}
	}
}

// Clients in an exclusive netblock are given that mirror alone, while it can answer.
func TestExclusive(t *testing.T) {
	inside, outside := from("DE"), from("DE")
	inside.Addr, outside.Addr = netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("203.0.113.7")
	campus := rules(directorapi.Rules{Exclusive: true, Netblocks: prefixes("198.51.100.0/24")})
	wider := rules(directorapi.Rules{Exclusive: true, Netblocks: prefixes("198.51.0.0/16")})
	lab := rules(directorapi.Rules{Netblocks: prefixes("198.51.100.0/28")})
	all := []choice.Mirror{mirror("campus", "DE", campus), mirror("carrier", "DE", wider), mirror("lab", "DE", lab), mirror("other", "DE", capacity(100000))}
	c := choice.New(all)
	for name, test := range map[string]struct {
		req  choice.Request
		want []string
	}{
		"inside":            {choice.Request{Client: inside}, []string{"campus", "carrier"}},
		"inside, explained": {choice.Request{Client: inside, Explain: true}, []string{"campus", "carrier", "lab:exclusive", "other:exclusive"}},
		"one lacks it":      {choice.Request{Client: inside, Files: files{choice.NoFile, 0, 0, 0}}, []string{"carrier"}},
		"both lack it":      {choice.Request{Client: inside, Files: files{choice.NoFile, choice.Doubtful, 0, 0}}, []string{"lab", "other"}},
	} {
		got := names(c, c.Choose(nil, &test.req))
		if !equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	if got := c.Choose(nil, &choice.Request{Client: outside}); len(got) != 4 || got[0].Tier != choice.TierCountry {
		t.Errorf("outside: %q", names(c, got))
	}
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// What a client is sent to is what it can take: all schemes, families and states.
func TestWays(t *testing.T) {
	for works := range 1 << choice.NumWays {
		m := mirror("m", "DE")
		for w := range m.Ways {
			if works>>w&1 == 0 {
				m.Ways[w].Fault = "no"
			}
		}
		can := func(w choice.Way) bool { return works>>w&1 == 1 }
		for _, ipv6 := range []bool{false, true} {
			for _, scheme := range []choice.Scheme{choice.PreferHTTP, choice.OnlyHTTPS, choice.OnlyHTTP} {
				plain, secure := can(choice.WayOf(false, ipv6)), can(choice.WayOf(true, ipv6))
				want, ok := choice.WayOf(scheme == choice.OnlyHTTPS, ipv6), map[choice.Scheme]bool{choice.PreferHTTP: plain || secure, choice.OnlyHTTPS: secure, choice.OnlyHTTP: plain}[scheme]
				if scheme == choice.PreferHTTP && !plain {
					want = choice.WayOf(true, ipv6)
				}
				picks := choice.New([]choice.Mirror{m}).Choose(nil, &choice.Request{Client: from("DE"), IPv6: ipv6, Scheme: scheme})
				if len(picks) == 1 != ok || ok && picks[0].Way != want {
					t.Errorf("ways %04b, scheme %d, IPv6 %t: %+v, want %t by way %d", works, scheme, ipv6, picks, ok, want)
				}
			}
		}
	}
}

// What a mirror that is given says of itself.
func TestWhyChosen(t *testing.T) {
	client := in("DE", 52.5, 13.4)
	client.ASN, client.Addr = 64500, netip.MustParseAddr("198.51.100.7")
	for want, c := range map[string]struct {
		mirror choice.Mirror
		client geoip.Location
	}{
		"In the client's country, Germany, 505 km away. First for 100 % of such requests, by its capacity of 20,000 Mbit/s, of which 30 % are held back because it is loaded.":         {mirror("m", "DE", at(48.1, 11.6), capacity(20000), shed(0.3)), client},
		"In Austria, a neighbour of the client's country, Germany, 523 km away. First for 100 % of such requests, by its capacity of 1,000 Mbit/s.":                                    {mirror("m", "AT", at(48.2, 16.4)), client},
		"In the client's autonomous system, AS64500, 505 km away. First for 100 % of such requests, by its capacity of 1,000 Mbit/s.":                                                  {mirror("m", "DE", at(48.1, 11.6), asn(64500)), client},
		"The client is in its netblock 198.51.96.0/20. First for 100 % of such requests, by its capacity of 1,000 Mbit/s.":                                                             {mirror("m", "", rules(directorapi.Rules{Netblocks: prefixes("198.51.96.0/20")})), client},
		"In Chile, on another continent than the client, 12,530 km away. First for 100 % of such requests, by its capacity of 1,000 Mbit/s.":                                           {mirror("m", "CL", at(-33.5, -70.7)), client},
		"In Finland, on the client's continent, 1,108 km away. First for 100 % of such requests, by its capacity of 1,000 Mbit/s.":                                                     {mirror("m", "FI", at(60.2, 24.9)), client},
		"In Chile; it is not known where the client is. First for 100 % of such requests, by its capacity of 1,000 Mbit/s.":                                                            {mirror("m", "CL"), geoip.Location{}},
		"In the client's country, United States, 0 km away (known to within 3,538 km). First for 100 % of such requests, by its capacity of 1,000 Mbit/s.":                             {mirror("m", "US"), from("US")},
		"In United States, and for clients in Chile as if it were there, 8,630 km away (known to within 2,259 km). First for 100 % of such requests, by its capacity of 1,000 Mbit/s.": {mirror("m", "US", rules(directorapi.Rules{Countries: []string{"CL"}})), from("CL")},
	} {
		chooser, req := choice.New([]choice.Mirror{c.mirror}), choice.Request{Client: c.client}
		picks := chooser.Choose(nil, &req)
		if got := chooser.Why(&picks[0], &req); got != want {
			t.Errorf("it says\n%s\nwant\n%s", got, want)
		}
	}
}
