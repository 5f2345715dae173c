package node

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"freshet/internal/config"
	"freshet/internal/director"
	"freshet/internal/doors"
	"freshet/internal/edge"
	"freshet/internal/hub"
	"freshet/internal/memnet"
	"freshet/internal/mirror"
)

// Validate reports what is wrong between the tables: no role at all, two
// listeners of one address, and folders that lie in one another. See
// [config.Validator]. Folders are compared by name: symbolic links are not
// followed.
func (c Config) Validate() []config.Problem {
	if len(c.roles(reloads{})) == 0 {
		return []config.Problem{{Message: "no role: the file needs a table [hub], [edge], [mirror] or [director]"}}
	}
	problems := c.sharedAddresses()
	return append(problems, c.sharedFolders()...)
}

// sharedFolders reports folders of roles that are or lie in those of others.
func (c Config) sharedFolders() []config.Problem {
	type folder struct{ key, dir, of string }
	var list []folder
	if c.Hub != nil {
		list = append(list, folder{"hub.dir", c.Hub.Dir, "hub"})
	}
	if c.Edge != nil {
		list = append(list, folder{"edge.store", c.Edge.Store, "edge"})
	}
	if c.Mirror != nil {
		list = append(list, folder{"mirror.directory", c.Mirror.Directory, "mirror"})
	}
	list = slices.DeleteFunc(list, func(f folder) bool { return f.dir == "" })
	var problems []config.Problem
	for i, f := range list {
		for _, earlier := range list[:i] {
			switch a, b := absolute(f.dir), absolute(earlier.dir); {
			case a == b:
				problems = append(problems, config.Problem{Key: f.key, Message: fmt.Sprintf("is the folder of the %s (%s), want one of its own", earlier.of, earlier.key)})
			case within(a, b):
				problems = append(problems, config.Problem{Key: f.key, Message: "lies inside " + earlier.key + ", want a folder outside of it"})
			case within(b, a):
				problems = append(problems, config.Problem{Key: earlier.key, Message: "lies inside " + f.key + ", want a folder outside of it"})
			}
		}
	}
	return problems
}

// sharedAddresses reports listeners on an address that an earlier one has.
func (c Config) sharedAddresses() []config.Problem {
	type listener struct{ key, addr string }
	var list []listener
	add := func(role string, l doors.Listeners) {
		for _, addr := range doors.Addresses(l.Listen) {
			list = append(list, listener{role + ".listen", addr})
		}
		for _, addr := range doors.Addresses(l.ListenTLS) {
			list = append(list, listener{role + ".listen-tls", addr})
		}
	}
	if c.Hub != nil {
		list = append(list, listener{"hub.listen", hub.Config{Listen: c.Hub.Listen}.WithDefaults().Listen})
	}
	if c.Edge != nil {
		with := edge.Config{Listeners: c.Edge.Listeners, ListenH3: c.Edge.ListenH3}.WithDefaults()
		add("edge", with.Listeners)
	}
	if c.Mirror != nil {
		add("mirror", mirror.Config{Listeners: c.Mirror.Listeners}.WithDefaults().Listeners)
		if c.Mirror.Rsyncd.Listen != "" {
			list = append(list, listener{"mirror.rsyncd.listen", c.Mirror.Rsyncd.Listen})
		}
	}
	if c.Director != nil {
		add("director", director.Config{Listeners: c.Director.Listeners}.WithDefaults().Listeners)
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
