package httpcache

import "strconv"

// CacheStatus is a member of the Cache-Status field (RFC 9211).
type CacheStatus struct {
	// Cache names the cache; it is a token.
	Cache string
	// Hit: answered without going forward.
	Hit bool
	// Fwd is why the request went forward ("uri-miss", "stale", "method",
	// "bypass", "request", "vary-miss", "miss", "partial"). It is not written
	// with Hit.
	Fwd string
	// FwdStatus is the status the next hop answered with, 0 if none.
	FwdStatus int
	// Stored: the answer was stored. Collapsed: the request shared another
	// one's fetch.
	Stored, Collapsed bool
	// HasTTL says that TTL, the seconds of freshness left (negative: stale),
	// is known.
	HasTTL bool
	TTL    int64
	// Detail is one word, a token; "" for none.
	Detail string
}

// Append appends the member to b.
func (s CacheStatus) Append(b []byte) []byte {
	b = append(b, s.Cache...)
	if s.Hit {
		b = append(b, "; hit"...)
	} else if s.Fwd != "" {
		b = append(b, "; fwd="...)
		b = append(b, s.Fwd...)
		if s.FwdStatus != 0 {
			b = append(b, "; fwd-status="...)
			b = strconv.AppendInt(b, int64(s.FwdStatus), 10)
		}
	}
	if s.HasTTL {
		b = append(b, "; ttl="...)
		b = strconv.AppendInt(b, s.TTL, 10)
	}
	if s.Stored {
		b = append(b, "; stored"...)
	}
	if s.Collapsed {
		b = append(b, "; collapsed"...)
	}
	if s.Detail != "" {
		b = append(b, "; detail="...)
		b = append(b, s.Detail...)
	}
	return b
}

// ProxyStatus is a member of the Proxy-Status field (RFC 9209).
type ProxyStatus struct {
	// Proxy names the intermediary; it is a token.
	Proxy string
	// Error is a registered error type (RFC 9209 §2.3), "" for none.
	Error string
	// ReceivedStatus is the status the next hop sent, 0 if none.
	ReceivedStatus int
	// Details is free text; characters that a structured string cannot hold
	// are replaced.
	Details string
}

// Append appends the member to b.
func (s ProxyStatus) Append(b []byte) []byte {
	b = append(b, s.Proxy...)
	if s.Error != "" {
		b = append(b, "; error="...)
		b = append(b, s.Error...)
	}
	if s.ReceivedStatus != 0 {
		b = append(b, "; received-status="...)
		b = strconv.AppendInt(b, int64(s.ReceivedStatus), 10)
	}
	if s.Details != "" {
		b = append(b, `; details="`...)
		for i := range len(s.Details) {
			switch c := s.Details[i]; {
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			case c < 0x20 || c > 0x7e:
				b = append(b, '?')
			default:
				b = append(b, c)
			}
		}
		b = append(b, '"')
	}
	return b
}
