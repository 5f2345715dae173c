package choice

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"freshet/internal/geoip"
)

// Why says of a pick in English what decided, in one or two sentences for users and for
// those who run the mirror. The request is the one that it was chosen for. That the text
// tells netblocks and limits which operators set is meant: they are no secrets.
func (c *Chooser) Why(p *Pick, r *Request) string {
	m := &c.mirrors[p.Mirror]
	if p.Out != None {
		return m.against(p, r)
	}
	var b strings.Builder
	b.WriteString(m.nearby(p, r))
	if p.Distance >= 0 && !m.near(p.Tier) {
		fmt.Fprintf(&b, ", %s km away", humanize.Comma(int64(p.Distance)))
		if off := r.Client.Radius + m.Place.Radius; off >= equalWithin {
			fmt.Fprintf(&b, " (known to within %s km)", humanize.Comma(int64(off)))
		}
	}
	fmt.Fprintf(&b, ". First for %s of such requests, by its capacity of %s Mbit/s", percent(p.Chance), humanize.Comma(int64(c.known[p.Mirror].capacity)))
	if m.Shed > 0 {
		fmt.Fprintf(&b, ", of which %s are held back because it is loaded", percent(m.Shed))
	}
	if p.limited {
		fmt.Fprintf(&b, ", but for no more than %s while others on the continent can answer", percent(m.Rules.RegionShare))
	}
	b.WriteString(".")
	return b.String()
}

// nearby says how near it counts.
func (m *Mirror) nearby(p *Pick, r *Request) string {
	from, in := r.Client.Country, m.Place.Country
	switch p.Tier {
	case TierNetblock:
		return fmt.Sprintf("The client is in its netblock %s", block(r, p.bits))
	case TierNetwork:
		if p.bits >= 0 {
			return fmt.Sprintf("The client is in its netblock %s, and in a longer one of another mirror", block(r, p.bits))
		}
		return fmt.Sprintf("In the client's autonomous system, AS%d", r.Client.ASN)
	case TierCountry:
		if m.Rules.Global {
			return "Near everybody"
		}
		if in != from {
			return fmt.Sprintf("In %s, and for clients in %s as if it were there", in, from)
		}
		return fmt.Sprintf("In the client's country, %s", in)
	case TierNeighbour:
		return fmt.Sprintf("In %s, a neighbour of the client's country, %s", in, from)
	case TierContinent:
		return fmt.Sprintf("In %s, on the client's continent", in)
	default:
	}
	if r.Client.Continent == "" {
		return fmt.Sprintf("In %s; it is not known where the client is", in)
	}
	return fmt.Sprintf("In %s, on another continent than the client", in)
}

// against says why it is left out.
func (m *Mirror) against(p *Pick, r *Request) string {
	rules := &m.Rules
	switch p.Out {
	case Disabled:
		return "Taken out of use by those who run the director."
	case NoFile:
		return "It does not have this file, as far as is known."
	case OtherVersion:
		return "It has another file of this name than the origin: an older or a newer one."
	case NotCurrent:
		return "It does not have all of the current version of the repository yet, and this file would say that it has."
	case Doubtful:
		return "It is not known which files it has: there is no list of them, or only one that is too old."
	case CountryOnly:
		return fmt.Sprintf("It is only for clients in %s; this one is in %s.", m.countries(), r.Client.Country)
	case ASNOnly:
		return fmt.Sprintf("It is only for clients in its autonomous system, %s; this one is in %s.", system(m.ASN), system(r.Client.ASN))
	case NetblocksOnly:
		return "It is only for clients in its netblocks; this one is in none of them."
	case NotCountry:
		return fmt.Sprintf("It is not for clients in %s.", r.Client.Country)
	case NotASN:
		return fmt.Sprintf("It is not for clients in %s.", system(r.Client.ASN))
	case NotNetblock:
		return "It is not for clients in a netblock that this one is in."
	case NotPath:
		return "It is not used for this path."
	case TooLarge:
		return fmt.Sprintf("It is not used for files of more than %s bytes; this one has %s.", humanize.Comma(rules.MaxFileSize), humanize.Comma(r.Size))
	case NoScheme:
		if r.Scheme == PreferHTTP {
			return "It has no URL of this project."
		}
		return fmt.Sprintf("It has no URL by %s.", scheme(p.Way))
	case NoFamily, Down:
		return m.fault(p)
	case Exclusive:
		return "Another mirror is the only one for the network that the client is in."
	default:
		return ""
	}
}

// fault says what does not work.
func (m *Mirror) fault(p *Pick) string {
	s := &m.Ways[p.Way]
	var b strings.Builder
	fmt.Fprintf(&b, "It does not work by %s over %s", scheme(p.Way), family(p.Way))
	if !s.Since.IsZero() {
		fmt.Fprintf(&b, " since %s", s.Since.UTC().Format(time.DateTime+" MST"))
	}
	if s.Fault != "" {
		fmt.Fprintf(&b, ": %s", s.Fault)
	}
	if p.Out == NoFamily {
		fmt.Fprintf(&b, ". Over %s it does", family(p.Way^1))
	}
	b.WriteString(".")
	return b.String()
}

// Since is when the pick's mirror began to fail, zero if it does not, or if that is not known.
func (c *Chooser) Since(p *Pick) time.Time {
	if p.Out != Down && p.Out != NoFamily {
		return time.Time{}
	}
	return c.mirrors[p.Mirror].Ways[p.Way].Since
}

// countries are the names of those that the mirror is in, or for.
func (m *Mirror) countries() string {
	names := []string{m.Place.Country.String()}
	for _, code := range m.Rules.Countries {
		names = append(names, geoip.CountryName(code))
	}
	return strings.Join(names, ", ")
}

// block is the netblock of a length that the client is in.
func block(r *Request, bits int) netip.Prefix {
	return netip.PrefixFrom(r.Client.Addr, bits).Masked()
}

func system(number uint32) string {
	if number == 0 {
		return "an unknown one"
	}
	return fmt.Sprintf("AS%d", number)
}

func scheme(w Way) string {
	if w.HTTPS() {
		return "https"
	}
	return "http"
}

func family(w Way) string {
	if w.IPv6() {
		return "IPv6"
	}
	return "IPv4"
}

// percent is a part as text, with as many digits as tell something.
func percent(part float64) string {
	switch v := part * 100; {
	case v >= 10, v == 0:
		return fmt.Sprintf("%.0f %%", v)
	case v >= 0.1:
		return fmt.Sprintf("%.1f %%", v)
	default:
		return "less than 0.1 %"
	}
}
