package lists

import (
	"strings"
	"testing"
)

func TestQuery(t *testing.T) {
	show := func(p param) string {
		if !p.given {
			return "-"
		}
		return p.value
	}
	for _, c := range []struct {
		raw string
		// path, repo, arch, ip, country, netblock, protocol
		want           string
		redirect, time bool
	}{
		{raw: "", want: "- - - - - - -"},
		{raw: "repo=epel-9&arch=x86_64&infra=$infra&content=$contentdir&countme=2", want: "- epel-9 x86_64 - - - -"},
		{raw: "path=a=b=c", want: "a - - - - - -"},                    // what is behind a second "=" is lost
		{raw: "repo=a&repo=b&arch=x", want: "- b x - - - -"},          // the last one counts
		{raw: "repo=a&repo", want: "-  - - - - -"},                    // also when it has no value
		{raw: "Repo=a&ARCH=b", want: "- - - - - - -"},                 // names have a case
		{raw: "path=x%2Fy&protocol=a+b", want: "x%2Fy - - - - - a+b"}, // nothing is decoded
		{raw: "&&=&=x&redirect&time=", want: "- - - - - - -", redirect: true, time: true},
		{raw: "redirect=0&netblock=0&country=&ip=::1", want: "- - - ::1  0 -", redirect: true},
	} {
		q := parseQuery(c.raw)
		got := strings.Join([]string{show(q.path), show(q.repo), show(q.arch), show(q.ip), show(q.country), show(q.netblock), show(q.protocol)}, " ")
		if got != c.want || q.redirect != c.redirect || q.time != c.time {
			t.Errorf("%s: %q, redirect %v, time %v", c.raw, got, q.redirect, q.time)
		}
	}
}

func TestDecoded(t *testing.T) {
	for in, want := range map[string]string{
		"plain":         "plain",
		"libstdc%2B%2b": "libstdc++",
		"a+b%20c":       "a+b c",
		"2001%3Adb8::1": "2001:db8::1",
		"100%":          "100%",
		"%zz%41":        "%zzA",
		"%4":            "%4",
		"x%0Ay%41":      "x%0Ay%41", // would begin a line of its own
		"x%7f":          "x%7f",
		"%c3%a9":        "é",
	} {
		if got := decoded(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

// Whatever is asked for, what is read of it are parts of what was sent.
func FuzzQuery(f *testing.F) {
	f.Add("repo=epel-9&arch=x86_64&country=de,at&protocol=https&ip=192.0.2.1&time&redirect=1")
	f.Add("path=%2F&netblock=0&=&&a==b")
	f.Fuzz(func(t *testing.T, raw string) {
		q := parseQuery(raw)
		for _, p := range []param{q.path, q.repo, q.arch, q.ip, q.country, q.netblock, q.protocol} {
			if !p.given && p.value != "" || !strings.Contains(raw, p.value) || strings.ContainsAny(p.value, "&=") {
				t.Errorf("%q of %q", p.value, raw)
			}
			got := decoded(p.value)
			if got != p.value && (len(got) >= len(p.value) || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f })) {
				t.Errorf("%q is decoded to %q", p.value, got)
			}
		}
	})
}
