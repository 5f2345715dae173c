package mirrorbits_test

import (
	"strings"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/director/catalogue"
	"freshet/internal/director/mirrorbits"
)

// shown is what "mirrorbits show" prints for two mirrors.
const shown = `Mirror: Example Uni
HttpURL: https://mirror.uni.example/videolan
RsyncURL: rsync://mirror.uni.example/videolan/
FtpURL: ftp://mirror.uni.example/
SponsorName: 'Uni: of Example'
SponsorURL: https://uni.example
SponsorLogoURL: ""
AdminName: Ada
AdminEmail: ada@uni.example
CustomData: ""
ContinentOnly: true
CountryOnly: false
ASOnly: true
Score: 5
Latitude: 48.1
Longitude: 11.6
ContinentCode: EU
CountryCodes: DE AT ZZ
ExcludedCountryCodes: FR
ASNum: 680
Enabled: true
AllowRedirects: null

Comment:
one disk
is slow

Mirror: second
HttpURL: second.example/vlc/
RsyncURL: ""
CountryCodes: fr
ASOnly: true
Enabled: false

Comment:


Mirror: nowhere
HttpURL: http://nowhere.example/
Enabled: true

Comment:

`

// list is a mirror list in JSON.
const list = `{"FileInfo": {"Path": "/a"}, "ClientInfo": {"CountryCode": "DE"}, "MirrorList": [
	{"ID": "third", "HttpURL": "http://third.example/", "RsyncURL": "third.example::vlc", "CountryCodes": "US", "Asnum": 7, "Enabled": true, "Weight": 1.5}],
	"ExcludedList": [{"ID": 4, "Name": "fourth", "HttpURL": "https://fourth.example/", "CountryCodes": "JP", "Enabled": true, "ExcludeReason": "x"}]}`

func TestImport(t *testing.T) {
	all, err := mirrorbits.Parse([]byte(shown))
	if err != nil {
		t.Fatal(err)
	}
	listed, err := mirrorbits.Parse([]byte(list))
	if err != nil {
		t.Fatal(err)
	}
	c, notes := mirrorbits.Import(append(all, listed...), "vlc")
	c.Projects = []directorapi.Project{{Name: "vlc", Path: "/vlc/", Origins: []string{"https://origin.example/"}}}
	if problems := catalogue.Check(&c); len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	if len(c.Mirrors) != 4 {
		t.Fatalf("%d mirrors: %+v", len(c.Mirrors), c.Mirrors)
	}
	uni, site := c.Mirrors[0], c.Sites[0]
	if uni.Name != "example-uni" || uni.Disabled || uni.Comment != "one disk is slow" || !uni.Rules.ASNOnly || uni.Rules.CountryOnly ||
		strings.Join(uni.Rules.Countries, " ") != "AT" || strings.Join(uni.Rules.NotCountries, " ") != "FR" {
		t.Errorf("%+v", uni)
	}
	want := directorapi.Carried{
		Project: "vlc", HTTPS: "https://mirror.uni.example/videolan/", RSYNC: "rsync://mirror.uni.example/videolan/",
		Inventory: directorapi.Source{How: directorapi.HowRsync},
	}
	if uni.Carries[0] != want {
		t.Errorf("%+v", uni.Carries[0])
	}
	if site.Organisation != "Uni: of Example" || site.Contact != "Ada <ada@uni.example>" || site.Country != "DE" || site.ASN != 680 || site.Latitude < 48 {
		t.Errorf("%+v", site)
	}
	second := c.Mirrors[1]
	if got := second.Carries[0]; got.HTTP != "http://second.example/vlc/" || got.HTTPS != "https://second.example/vlc/" || !second.Disabled || second.Rules.ASNOnly {
		t.Errorf("%+v", second)
	}
	if c.Mirrors[3].Name != "fourth" || c.Sites[2].ASN != 7 {
		t.Errorf("%+v, %+v", c.Mirrors[3], c.Sites[2])
	}
	told := strings.Join(notes, "\n")
	for _, want := range []string{
		`Example Uni: country "ZZ" is left out`, "Example Uni: is limited to its continent", "Example Uni: has the score 5", "Example Uni: FtpURL",
		"second: is limited to its autonomous system", "nowhere: left out: it has no country", `third: RsyncURL "third.example::vlc" is left out`,
	} {
		if !strings.Contains(told, want) {
			t.Errorf("not told: %s\n%s", want, told)
		}
	}
	if len(notes) != 7 {
		t.Errorf("%d notes:\n%s", len(notes), told)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", "{}", "{", "[]", "x: y", "Mirror: a\n\tHttpURL: [\n", `{"MirrorList": [{"Score": "x"}]}`} {
		if mirrors, err := mirrorbits.Parse([]byte(text)); err == nil {
			t.Errorf("%q: %+v", text, mirrors)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(shown))
	f.Add([]byte(list))
	f.Fuzz(func(t *testing.T, text []byte) {
		mirrors, err := mirrorbits.Parse(text)
		if err != nil {
			return
		}
		c, _ := mirrorbits.Import(mirrors, "x")
		for _, m := range c.Mirrors {
			if c.Mirrors[0].Name == "" || m.Site == "" {
				t.Errorf("%+v", m)
			}
		}
	})
}
