package redirect_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"freshet/internal/director/redirect"
)

// Whatever is asked, a client is sent to a path below a root that the project has, to the
// file that was found, and no field has a byte that could end it.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{
		"/fedora/40/a.iso", "/fedora/../epel/x", "/fedora/%2e%2e/%2e%2e/etc", "/fedora/%2f%2fevil.example/", "/fedora/a%0d%0aSet-Cookie:x",
		"/fedora/40/?mirrorlist=pacman&server=%0aServer%20=%20x", "//evil.example/fedora/", "/fedora/\\..\\x", "/fedora/?why&ip=::1%25eth0", "/fedora/a;b,c>d<e\"f.meta4?mirrorlist=apt",
	} {
		f.Add(s, "*/*", true)
	}
	d, _ := world()
	roots := []string{"http://b.example/f/", "https://c.example/pub/", "http://origin.example/fedora/", "https://edge.example/fedora/", "http://origin.example/epel/"}
	f.Fuzz(func(t *testing.T, target, accept string, https bool) {
		var a redirect.Answer
		r := request(target)
		r.Accept, r.HTTPS, r.IfNoneMatch, r.IfModifiedSince = accept, https, accept, accept
		a.Make(d, r)
		if (a.Reason != "") != (a.Status >= 400) || a.Status == 0 || a.Status >= 500 {
			t.Fatalf("status %d, reason %q", a.Status, a.Reason)
		}
		for name, value := range a.Fields.All() {
			if strings.ContainsFunc(string(value), func(c rune) bool { return c < ' ' || c >= 0x7f }) {
				t.Fatalf("%s: %q", name, value)
			}
		}
		if a.Status != http.StatusFound {
			return
		}
		to := a.Fields.Get("Location")
		ok := false
		for _, root := range roots {
			ok = ok || strings.HasPrefix(to, root) && (!https || strings.HasPrefix(to, "https:"))
		}
		u, err := url.Parse(to)
		if !ok || err != nil || u.RawQuery != "" || u.Fragment != "" || strings.Contains(u.Path, "/../") || strings.HasSuffix(u.Path, "/..") || !strings.HasSuffix(u.Path, a.Query.Path) {
			t.Fatalf("%q leads to %q, %v", target, to, err)
		}
	})
}
