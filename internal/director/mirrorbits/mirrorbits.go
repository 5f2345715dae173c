// Package mirrorbits reads what mirrorbits tells of its mirrors, for a catalogue of ours:
//
//	mirrorbits show NAME              for each mirror, one after the other in a file
//	https://…/some/file?mirrorlist    in JSON: those that have the file, and those excluded
//
// The first has contacts, states and comments; the second can be had by everybody.
//
// A mirror of theirs is a mirror and a site of ours. Each of its countries but the first
// becomes one that the mirror is for as well. What has no counterpart is told in notes:
// limits to a continent, scores, FTP.
package mirrorbits

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"freshet/api/directorapi"
	"freshet/internal/geoip"
)

// Mirror is a mirror as mirrorbits has it: the keys of its YAML are those of its JSON.
type Mirror struct {
	ID                   name    `yaml:"-"`
	Name                 string  `yaml:"Name"`
	HTTPURL              string  `yaml:"HttpURL"              json:"HttpURL"`
	RsyncURL             string  `yaml:"RsyncURL"`
	FTPURL               string  `yaml:"FtpURL"               json:"FtpURL"`
	SponsorName          string  `yaml:"SponsorName"`
	SponsorURL           string  `yaml:"SponsorURL"`
	AdminName            string  `yaml:"AdminName"`
	AdminEmail           string  `yaml:"AdminEmail"`
	ContinentOnly        bool    `yaml:"ContinentOnly"`
	CountryOnly          bool    `yaml:"CountryOnly"`
	ASOnly               bool    `yaml:"ASOnly"`
	Score                int     `yaml:"Score"`
	Latitude             float32 `yaml:"Latitude"`
	Longitude            float32 `yaml:"Longitude"`
	CountryCodes         string  `yaml:"CountryCodes"`
	ExcludedCountryCodes string  `yaml:"ExcludedCountryCodes"`
	ASNum                uint32  `yaml:"ASNum"                json:"Asnum"`
	Comment              string  `yaml:"-"`
	Enabled              bool    `yaml:"Enabled"`
}

// name is an identifier: text in old versions, a number in new ones, which have a name
// besides.
type name string

// UnmarshalJSON implements json.Unmarshaler.
func (n *name) UnmarshalJSON(text []byte) error {
	*n = name(strings.Trim(string(text), `"`))
	return nil
}

// Parse reads either form.
func Parse(text []byte) ([]Mirror, error) {
	var mirrors []Mirror
	var err error
	if text = bytes.TrimSpace(text); bytes.HasPrefix(text, []byte("{")) {
		mirrors, err = parseList(text)
	} else {
		mirrors, err = parseShown(string(text))
	}
	if err == nil && len(mirrors) == 0 {
		err = errors.New(`there is no mirror: want what "mirrorbits show" prints, or a mirror list in JSON`)
	}
	return mirrors, err
}

// parseList reads the JSON of a mirror list.
func parseList(text []byte) ([]Mirror, error) {
	var list struct{ MirrorList, ExcludedList []Mirror }
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("not the JSON of a mirror list: %w", err)
	}
	return append(list.MirrorList, list.ExcludedList...), nil
}

// parseShown reads what "mirrorbits show" prints, several times over.
func parseShown(text string) (mirrors []Mirror, err error) {
	const begin, comment = "Mirror: ", "\nComment:\n"
	text, found := strings.CutPrefix("\n"+text, "\n"+begin)
	if !found {
		return nil, errors.New(`does not begin with "Mirror: NAME", as what "mirrorbits show" prints`)
	}
	for part := range strings.SplitSeq(text, "\n"+begin) {
		id, rest, _ := strings.Cut(part, "\n")
		settings, note, _ := strings.Cut(rest, comment)
		m := Mirror{ID: name(strings.TrimSpace(id)), Comment: strings.Join(strings.Fields(note), " ")}
		if err := yaml.Unmarshal([]byte(settings), &m); err != nil {
			return nil, fmt.Errorf("mirror %q: %w", m.ID, err)
		}
		mirrors = append(mirrors, m)
	}
	return mirrors, nil
}

// Import makes the sites and mirrors of a catalogue, which carry the project, and says
// what could not be taken over.
func Import(mirrors []Mirror, project string) (c directorapi.Catalogue, notes []string) {
	for i := range mirrors {
		m := &mirrors[i]
		called := cmp.Or(m.Name, string(m.ID))
		note := func(format string, args ...any) {
			notes = append(notes, called+": "+fmt.Sprintf(format, args...))
		}
		site, ok := m.site(called, note)
		if !ok {
			continue
		}
		carried, ok := m.carries(project, note)
		if !ok {
			continue
		}
		mirror := directorapi.Mirror{
			Name: site.Name, Site: site.Name, Disabled: !m.Enabled, Comment: m.Comment,
			Carries: []directorapi.Carried{carried},
			Rules:   directorapi.Rules{CountryOnly: m.CountryOnly, ASNOnly: m.ASOnly && m.ASNum != 0},
		}
		if known := countries(m.CountryCodes, note); len(known) > 1 {
			mirror.Rules.Countries = known[1:]
		}
		mirror.Rules.NotCountries = countries(m.ExcludedCountryCodes, note)
		m.tellRest(note)
		c.Sites, c.Mirrors = append(c.Sites, site), append(c.Mirrors, mirror)
	}
	return c, notes
}

// site is the place of a mirror.
func (m *Mirror) site(called string, note func(string, ...any)) (directorapi.Site, bool) {
	known := countries(m.CountryCodes, func(string, ...any) {})
	slug := directorapi.Slug(called)
	if slug == "" {
		note("left out: its name has no letter and no digit")
		return directorapi.Site{}, false
	}
	if len(known) == 0 {
		note("left out: it has no country")
		return directorapi.Site{}, false
	}
	contact := m.AdminName
	if m.AdminEmail != "" {
		contact = strings.TrimSpace(contact + " <" + m.AdminEmail + ">")
	}
	return directorapi.Site{
		Name: slug, Organisation: m.SponsorName, URL: web(m.SponsorURL), Contact: contact, Country: known[0],
		Latitude: float64(m.Latitude), Longitude: float64(m.Longitude), ASN: m.ASNum,
	}, true
}

// web is a URL that can be linked to.
func web(url string) string {
	if strings.HasPrefix(url, "http://") || strings.HasPrefix(url, "https://") {
		return url
	}
	return ""
}

// carries is where the mirror has the project. A URL without a scheme is good for both.
func (m *Mirror) carries(project string, note func(string, ...any)) (directorapi.Carried, bool) {
	c := directorapi.Carried{Project: project, Inventory: directorapi.Source{How: directorapi.HowHTTP}}
	scheme, rest, ok := strings.Cut(m.HTTPURL, "://")
	switch {
	case m.HTTPURL == "":
		note("left out: it has no HttpURL")
		return c, false
	case !ok:
		c.HTTP, c.HTTPS = "http://"+folder(m.HTTPURL), "https://"+folder(m.HTTPURL)
	case scheme == "https":
		c.HTTPS = "https://" + folder(rest)
	default:
		c.HTTP = "http://" + folder(rest)
	}
	if rest, ok := strings.CutPrefix(m.RsyncURL, "rsync://"); ok {
		c.RSYNC, c.Inventory.How = "rsync://"+folder(rest), directorapi.HowRsync
	} else if m.RsyncURL != "" {
		note("RsyncURL %q is left out: want rsync://", m.RsyncURL)
	}
	return c, true
}

func folder(url string) string { return strings.TrimRight(url, "/") + "/" }

// countries reads a list of codes.
func countries(text string, note func(string, ...any)) (known []string) {
	for code := range strings.FieldsFuncSeq(strings.ToUpper(text), func(r rune) bool { return r == ' ' || r == ',' }) {
		if geoip.CountryName(code) == code {
			note("country %q is left out: nobody knows it", code)
			continue
		}
		known = append(known, code)
	}
	return known
}

// tellRest says what has no counterpart.
func (m *Mirror) tellRest(note func(string, ...any)) {
	if m.ContinentOnly {
		note("is limited to its continent, which has no counterpart: set rules.country_only and rules.countries")
	}
	if m.ASOnly && m.ASNum == 0 {
		note("is limited to its autonomous system, and none is known: it is not limited now")
	}
	if m.Score != 0 {
		note("has the score %d, which has no counterpart: set capacity, in Mbit/s", m.Score)
	}
	if m.FTPURL != "" {
		note("FtpURL is left out")
	}
}
