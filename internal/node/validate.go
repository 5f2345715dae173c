package node

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"freshet/internal/config"
	"freshet/internal/director"
	"freshet/internal/edge"
	"freshet/internal/hub"
	"freshet/internal/memnet"
)

// Validate reports what is wrong between the tables: no role at all, two
// listeners of one address, and folders that lie in one another. See
// [config.Validator]. Folders are compared by name: symbolic links are not
// followed.
func (c Config) Validate() []config.Problem {
	if len(c.roles(reloads{})) == 0 {
		return []config.Problem{{Message: "no role: the file needs a table [hub], [edge] or [director]"}}
	}
	problems := c.sharedAddresses()
	if c.Hub != nil && c.Edge != nil && c.Hub.Dir != "" && c.Edge.Store != "" {
		switch store, dir := absolute(c.Edge.Store), absolute(c.Hub.Dir); {
		case store == dir:
			problems = append(problems, config.Problem{Key: "edge.store", Message: "is the folder of the hub (hub.dir), want one of its own"})
		case within(store, dir):
			problems = append(problems, config.Problem{Key: "edge.store", Message: "lies inside hub.dir, want a folder outside of it"})
		case within(dir, store):
			problems = append(problems, config.Problem{Key: "hub.dir", Message: "lies inside edge.store, want a folder outside of it"})
		}
	}
	return problems
}

// sharedAddresses reports listeners on an address that an earlier one has.
func (c Config) sharedAddresses() []config.Problem {
	type listener struct{ key, addr string }
	var list []listener
	if c.Hub != nil {
		list = append(list, listener{"hub.listen", hub.Config{Listen: c.Hub.Listen}.WithDefaults().Listen})
	}
	if c.Edge != nil {
		with := edge.Config{Listen: c.Edge.Listen, ListenTLS: c.Edge.ListenTLS, ListenH3: c.Edge.ListenH3}.WithDefaults()
		for addr := range strings.SplitSeq(with.Listen, ",") {
			list = append(list, listener{"edge.listen", strings.TrimSpace(addr)})
		}
		for addr := range strings.SplitSeq(with.ListenTLS, ",") {
			list = append(list, listener{"edge.listen-tls", strings.TrimSpace(addr)})
		}
	}
	if c.Director != nil {
		list = append(list, listener{"director.listen", director.Config{Listen: c.Director.Listen}.WithDefaults().Listen})
	}
	if c.Admin.Listen != "" {
		list = append(list, listener{"admin.listen", c.Admin.Listen})
	}
	var problems []config.Problem
	for i, l := range list {
		for _, earlier := range list[:i] {
			if sameAddress(l.addr, earlier.addr) {
				problems = append(problems, config.Problem{
					Key:     l.key,
					Message: fmt.Sprintf("%s is taken by %s (%s)", l.addr, earlier.key, earlier.addr),
				})
				break
			}
		}
	}
	return problems
}

// sameAddress reports whether two listeners cannot have the addresses a and b
// at the same time. Port 0 is a new one each time. Addresses that are not well
// formed are no concern here.
func sameAddress(a, b string) bool {
	if strings.HasPrefix(a, memnet.Scheme) || strings.HasPrefix(b, memnet.Scheme) {
		return a == b
	}
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	ipA, ipB := listenIP(hostA), listenIP(hostB)
	switch {
	case !ipA.IsValid() || !ipB.IsValid():
		return strings.EqualFold(hostA, hostB)
	case ipA.IsUnspecified() && (ipA.Is6() || ipB.Is4()), ipB.IsUnspecified() && (ipB.Is6() || ipA.Is4()):
		return true // one listens on every address, "::" on those of IPv4 as well
	}
	return ipA == ipB
}

// listenIP is the address that a listener on host has, invalid when that takes
// the DNS to know.
func listenIP(host string) netip.Addr {
	switch {
	case host == "":
		return netip.IPv6Unspecified()
	case strings.EqualFold(host, "localhost"):
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return ip.Unmap()
}

// absolute is the whole name of a folder, or its name as it was given when the
// folder we are in is gone.
func absolute(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return filepath.Clean(dir)
	}
	return abs
}

// within reports whether the folder a lies below the folder b.
func within(a, b string) bool {
	rel, err := filepath.Rel(b, a)
	return err == nil && rel != "." && filepath.IsLocal(rel)
}
