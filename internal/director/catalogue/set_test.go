package catalogue_test

import (
	"encoding/json"
	"strings"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/director/catalogue"
)

func TestSet(t *testing.T) {
	for name, test := range map[string]struct {
		settings string // one a line
		want     string // of the JSON; an error if it begins with "!"
	}{
		"text":               {"comment=a = b", `"comment":"a = b"`},
		"text to nothing":    {"site=a\nsite=", `"site":""`},
		"number":             {"capacity=20000", `"capacity":20000`},
		"truth":              {"rules.global=true", `"rules":{"global":true}`},
		"part":               {"rules.region_share=0.25", `"region_share":0.25`},
		"list":               {"rules.countries=AT,CH", `"countries":["AT","CH"]`},
		"list again":         {"rules.countries=AT\nrules.countries=CH", `"countries":["CH"]`},
		"list in JSON":       {`rules.countries=["AT"]`, `"countries":["AT"]`},
		"more":               {"rules.not_asns=1\nrules.not_asns+=2,1,3", `"not_asns":[1,2,3]`},
		"less":               {"rules.not_asns=1,2,3\nrules.not_asns-=1,3", `"not_asns":[2]`},
		"prefixes":           {"rules.netblocks=10.0.0.0/8\nrules.netblocks+=2001:db8::/32\nrules.netblocks-=10.0.0.0/8", `"netblocks":["2001:db8::/32"]`},
		"element":            {"carries.fedora.https=https://a/\ncarries.fedora.rsync=rsync://a/", `"carries":[{"project":"fedora","https":"https://a/","rsync":"rsync://a/"`},
		"element with a dot": {"carries.f.40.http=http://a/", `"project":"f.40","http":"http://a/"`},
		"deep in an element": {"carries.f.40.inventory.every=90s", `"project":"f.40","inventory":{"how":"","every":"1m30s"}`},
		"element in JSON":    {`carries+={"project":"x"}`, `"project":"x"`},
		"element less":       {"carries.a.http=b\ncarries.c.http=d\ncarries-=a", `"carries":[{"project":"c"`},
		"unknown":            {"capcity=1", "!capcity: there is no such key; there are name, site, "},
		"unknown in a rule":  {"rules.globl=1", "!no such key"},
		"no value":           {"capacity", "!want KEY=VALUE"},
		"no number":          {"capacity=fast", `!capacity: want a number, got "fast"`},
		"too large":          {"rules.not_asns=4294967296", "!want a number"},
		"no truth":           {"disabled=maybe", `!disabled: want true or false, got "maybe"`},
		"no list":            {"capacity+=5", "!capacity: is no list"},
		"not in it":          {"rules.countries-=AT", `!rules.countries: "AT" is not in it`},
		"no prefix":          {"rules.netblocks=10.0.0.0", "!rules.netblocks: "},
		"no duration":        {"carries.a.inventory.every=soon", "!every: "},
	} {
		t.Run(name, func(t *testing.T) {
			var mirror directorapi.Mirror
			var err error
			for setting := range strings.SplitSeq(test.settings, "\n") {
				if err = catalogue.Set(&mirror, setting); err != nil {
					break
				}
			}
			text, jerr := json.Marshal(mirror)
			if jerr != nil {
				t.Fatal(jerr)
			}
			got := string(text)
			if err != nil {
				got = "!" + err.Error()
			}
			if want := strings.TrimPrefix(test.want, "!"); !strings.Contains(got, want) || (err != nil) != (want != test.want) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// A repository is known by its path, which may be empty.
func TestSetRepository(t *testing.T) {
	var p directorapi.Project
	for _, setting := range []string{"repositories.40/x86_64/os/.kind=rpm", "repositories..kind=ostree", "repositories..pointer=summary"} {
		if err := catalogue.Set(&p, setting); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.Repositories) != 2 || p.Repositories[1] != (directorapi.Repository{Kind: "ostree", Pointer: "summary"}) {
		t.Errorf("%+v", p.Repositories)
	}
	if got := strings.Join(catalogue.Keys(&p), " "); got != "name path origins hub inventory.how inventory.url inventory.every "+
		"repositories.PATH.kind repositories.PATH.pointer canary disabled" {
		t.Errorf("keys: %s", got)
	}
}
