package httpcache

import "testing"

func TestCacheStatus(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]CacheStatus{ // RFC 9211 §2
		"a":                            {Cache: "a"},
		"a; hit; ttl=5":                {Cache: "a", Hit: true, HasTTL: true, TTL: 5},
		"a; hit; ttl=-5; detail=reset": {Cache: "a", Hit: true, Fwd: "stale", FwdStatus: 304, HasTTL: true, TTL: -5, Detail: "reset"},
		"a; fwd=uri-miss; fwd-status=200; stored":  {Cache: "a", Fwd: "uri-miss", FwdStatus: 200, Stored: true},
		"a; fwd=stale; collapsed":                  {Cache: "a", Fwd: "stale", Collapsed: true},
		"a; fwd=method":                            {Cache: "a", Fwd: "method"},
		"before, a; fwd=miss; stored; detail=word": {Cache: "before, a", Fwd: "miss", Stored: true, Detail: "word"},
	} {
		if got := string(s.Append(nil)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestProxyStatus(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]ProxyStatus{ // RFC 9209 §2
		"a":                                   {Proxy: "a"},
		"a; error=dns_error":                  {Proxy: "a", Error: "dns_error"},
		`a; received-status=503; details="x"`: {Proxy: "a", ReceivedStatus: 503, Details: "x"},
		`a; details="\"quoted\" \\ and ?? bytes?"`:   {Proxy: "a", Details: "\"quoted\" \\ and \xc3\xa4 bytes\n"},
		`a; error=tls_protocol_error; details="tls"`: {Proxy: "a", Error: "tls_protocol_error", Details: "tls"},
	} {
		if got := string(s.Append(nil)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
