package probe

import (
	"cmp"
	"strconv"
	"strings"
)

// Way is how a client may come to the files of a project.
type Way struct {
	// Mirror is the name of a mirror, or what [Origin] returns.
	Mirror  string
	Project string
	Scheme  Scheme
	Family  Family
}

// String is "MIRROR PROJECT https ipv6".
func (w Way) String() string {
	return w.Mirror + " " + w.Project + " " + w.Scheme.String() + " " + w.Family.String()
}

// compare is an order of ways: by mirror, project, scheme and family.
func (w Way) compare(o Way) int {
	return cmp.Or(strings.Compare(w.Mirror, o.Mirror), strings.Compare(w.Project, o.Project),
		cmp.Compare(w.Scheme, o.Scheme), cmp.Compare(w.Family, o.Family))
}

// Origin is the name in ways of a project's origin, the i-th in the catalogue's list,
// counted from 0. No mirror is called like that.
func Origin(i int) string { return originMark + strconv.Itoa(i) }

// originMark begins the names of origins.
const originMark = "origin/"

// isOrigin reports whether the way is to an origin.
func (w Way) isOrigin() bool { return strings.HasPrefix(w.Mirror, originMark) }

// server is whom the way leads to; all origins count as one.
func (w Way) server() string {
	if w.isOrigin() {
		return originMark
	}
	return w.Mirror
}

// Scheme is that of URLs.
type Scheme uint8

// The schemes.
const (
	HTTP Scheme = iota
	HTTPS
)

// String is the scheme as in a URL.
func (s Scheme) String() string {
	if s == HTTPS {
		return "https"
	}
	return "http"
}

// Family is that of network addresses.
type Family uint8

// The families.
const (
	IPv4 Family = iota
	IPv6
)

// String is "ipv4" or "ipv6".
func (f Family) String() string {
	if f == IPv6 {
		return "ipv6"
	}
	return "ipv4"
}

// Reason is one word that says why a way is not used: the same in State, log, history
// and metrics.
type Reason string

// The reasons.
const (
	// Fine: there is none.
	Fine Reason = ""
	// Unprobed: it was not looked at yet, or there is no such way in the catalogue.
	Unprobed Reason = "unprobed"
	// NoAddress: the server's name has no address of the family.
	NoAddress Reason = "no_address"
	// NothingToCheck: no canary, no file of the inventory and no pointer is known.
	NothingToCheck Reason = "nothing_to_check"
	// Unresolved: the server's name could not be looked up.
	Unresolved Reason = "unresolved"
	// Unreachable: no connection was made within its time.
	Unreachable Reason = "unreachable"
	// Refused: the server does not accept connections.
	Refused Reason = "refused"
	// TLSFailed: the handshake failed, not for the certificate.
	TLSFailed Reason = "tls"
	// CertificateExpired: a certificate of the chain is not valid any more, or not yet.
	CertificateExpired Reason = "certificate_expired"
	// CertificateName: the certificate is for other names.
	CertificateName Reason = "certificate_name"
	// CertificateUntrusted: nobody who is trusted vouches for the certificate.
	CertificateUntrusted Reason = "certificate_untrusted"
	// Frozen: the connection stands, and no byte came for a while.
	Frozen Reason = "frozen"
	// Slow: bytes came, and not all of them within the time of a look.
	Slow Reason = "slow"
	// Cut: the connection ended within an answer.
	Cut Reason = "cut"
	// BadStatus: the answer was an error that says nothing of the file (5xx, 429…).
	BadStatus Reason = "status"
	// Missing: the file is not there (404, 410).
	Missing Reason = "missing"
	// Denied: the file is not for everybody (401, 403).
	Denied Reason = "denied"
	// Redirected: the answer leads to another server, or from http to https.
	Redirected Reason = "redirected"
	// Page: a web page came in the place of the file.
	Page Reason = "page"
	// WrongLength: the file has not the length that it has at the origin.
	WrongLength Reason = "length"
	// WrongContent: the file has other bytes than at the origin.
	WrongContent Reason = "content"
	// Flips: after the newest version of a repository an older one was seen again.
	Flips Reason = "flips"
	// Unsteady: good and bad looks take turns.
	Unsteady Reason = "unsteady"
	// Returning: it works again, and has not yet done so for long enough.
	Returning Reason = "returning"
	// AwaitsInventory: it works again, and what it has is still to be found out.
	AwaitsInventory Reason = "awaits_inventory"
)

// couldBeUs reports whether the failure may be one of the director's own network.
func (r Reason) couldBeUs() bool {
	switch r {
	case Unresolved, Unreachable, Frozen, Slow, NoAddress:
		return true
	default:
		return false
	}
}
