package mirrormanager_test

import (
	"encoding/json"
	"strings"
	"testing"

	"freshet/internal/director/catalogue"
	"freshet/internal/director/mirrormanager"
)

// more has the columns that only a catalogue needs, and a row for each rule of it.
const more = `
	ALTER TABLE site ADD COLUMN org_url TEXT;
	ALTER TABLE host ADD COLUMN comment TEXT, ADD COLUMN disable_reason TEXT, ADD COLUMN latitude DOUBLE PRECISION, ADD COLUMN longitude DOUBLE PRECISION;
	ALTER TABLE category ADD COLUMN canonicalhost TEXT;
	INSERT INTO site (id, name, org_url, private) VALUES (1, 'Example  University', 'https://uni.example', false), (2, 'house', 'uni', true);
	INSERT INTO host (id, name, site_id, country, bandwidth_int, asn, asn_clients, admin_active, comment, disable_reason, latitude, longitude) VALUES
		(1, 'Mirror.uni.example', 1, 'de', 10000, 680, true, true, E'two\nlines', NULL, 50.1, 8.7),
		(2, 'inside.example', 2, 'DE', 100, 680, true, true, NULL, NULL, NULL, NULL),   -- private by its site: netblocks
		(3, 'network.example', 2, 'DE', 100, 680, true, true, NULL, NULL, NULL, NULL),  -- private: autonomous system
		(4, 'nobody.example', 2, 'DE', 100, NULL, true, true, NULL, NULL, NULL, NULL),  -- private: for nobody
		(5, 'off.example', 1, 'DE', 100, NULL, true, false, NULL, 'too slow', NULL, NULL),
		(6, 'lost.example', 1, '', 100, NULL, true, true, NULL, NULL, NULL, NULL);
	INSERT INTO host_netblock (host_id, netblock) VALUES (2, '192.0.2.9/255.255.255.248'), (2, '2001:db8::/32'), (2, 'clients.example');
	INSERT INTO host_country_allowed (host_id, country) VALUES (1, 'at');
	INSERT INTO directory (id, name) VALUES (1, 'pub/fedora/linux'), (2, 'pub/epel');
	INSERT INTO category (id, name, topdir_id, canonicalhost) VALUES (1, 'Fedora Linux', 1, 'http://dl.example.org/'), (2, 'Unused', 2, '');
	INSERT INTO host_category (id, host_id, category_id) VALUES (11, 1, 1), (12, 2, 1), (13, 3, 1), (14, 5, 2);
	INSERT INTO host_category_url (host_category_id, url, private) VALUES (11, 'https://mirror.uni.example/fedora', false),
		(11, 'rsync://mirror.uni.example/fedora/', false), (11, 'rsync://private.uni.example/', true), (11, 'ftp://mirror.uni.example/', false),
		(12, 'http://inside.example/f/', false), (13, 'http://network.example/f/', false), (14, 'rsync://off.example/', false);`

func TestReadCatalogue(t *testing.T) {
	c, notes, err := mirrormanager.ReadCatalogue(t.Context(), database(t, schema, more))
	if err != nil {
		t.Fatal(err)
	}
	if problems := catalogue.Check(c); len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"projects":[{"name":"fedora-linux","path":"/pub/fedora/linux/","origins":["http://dl.example.org/pub/fedora/linux/"],"inventory":{"how":"http"}}]`,
		`{"name":"mirror.uni.example","organisation":"Example University","url":"https://uni.example","country":"DE","latitude":50.1,"longitude":8.7,"asn":680}`,
		`{"name":"mirror.uni.example","site":"mirror.uni.example","comment":"two lines","capacity":10000,"carries":[{"project":"fedora-linux",` +
			`"https":"https://mirror.uni.example/fedora/","rsync":"rsync://mirror.uni.example/fedora/","inventory":{"how":"rsync"}}],` +
			`"rules":{"country_only":true,"countries":["AT"]}}`,
		`"rules":{"netblocks_only":true,"netblocks":["192.0.2.8/29","2001:db8::/32"]}`,
		`{"name":"network.example","site":"network.example","capacity":100,"carries":[{"project":"fedora-linux","http":"http://network.example/f/",` +
			`"inventory":{"how":"http"}}],"rules":{"asn_only":true}}`,
		`{"name":"nobody.example","site":"nobody.example","disabled":true,`,
		`{"name":"off.example","site":"off.example","disabled":true,"comment":"too slow","capacity":100,"carries":null}`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it lacks %s\n%s", want, text)
		}
	}
	told := strings.Join(notes, "\n")
	for _, want := range []string{
		`lost.example: left out: its country is ""`, `inside.example: netblock "clients.example" is left out`, "ftp://mirror.uni.example/ is left out",
		"nobody.example: is private and has neither", "off.example: unused is left out",
	} {
		if !strings.Contains(told, want) {
			t.Errorf("not told: %s\n%s", want, told)
		}
	}
	if strings.Contains(string(text), "private.uni.example") {
		t.Error("a private URL is told")
	}
}
