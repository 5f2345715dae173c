package mirrormanager

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// ownedBlock is what the owner of a host wrote for a netblock whose clients it prefers.
type ownedBlock struct {
	host int64
	text string
}

// resolvers is how many names are resolved at a time.
const resolvers = 32

// addNetblocks adds the netblocks of hosts. What means none is told as a problem.
func (r *reader) addNetblocks(ctx context.Context) error {
	resolved, err := r.resolveNames(ctx)
	if err != nil {
		return err
	}
	hosts := make(map[netip.Prefix][]int64)
	for _, b := range r.blocks {
		prefixes, ok := literal(b.text)
		if !ok {
			prefixes = resolved[b.text]
		}
		if len(prefixes) == 0 {
			r.b.AddProblem("HostNetblockCache", b.text, "is neither a prefix nor an address, nor a name that resolves")
		}
		for _, p := range prefixes {
			if !slices.Contains(hosts[p], b.host) {
				hosts[p] = append(hosts[p], b.host)
			}
		}
	}
	for prefix, ids := range hosts {
		r.b.AddNetblock(prefix.String(), ids)
	}
	return nil
}

// resolveNames finds the addresses of all netblocks that are names. Those that have none
// are left out. The error is that of the context.
func (r *reader) resolveNames(ctx context.Context) (map[string][]netip.Prefix, error) {
	var names []string
	for _, b := range r.blocks {
		if _, ok := literal(b.text); !ok {
			names = append(names, b.text)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	found := make([][]netip.Prefix, len(names))
	var group errgroup.Group
	group.SetLimit(resolvers)
	for i, name := range names {
		group.Go(func() error {
			addrs, err := r.opt.Resolve(ctx, name)
			if err != nil {
				return ctx.Err() // a name that is wrong or away holds up nothing
			}
			for _, addr := range addrs {
				found[i] = append(found[i], single(addr.Unmap()))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	resolved := make(map[string][]netip.Prefix)
	for i, name := range names {
		resolved[name] = found[i]
	}
	return resolved, nil
}

// literal reads a netblock that is no name: a prefix, an address, or one with a mask. A
// text with a slash is no name, and may mean nothing.
func literal(text string) (prefixes []netip.Prefix, ok bool) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return []netip.Prefix{prefix}, true
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		return []netip.Prefix{single(addr)}, true
	}
	addr, mask, ok := strings.Cut(text, "/")
	if prefix, valid := withMask(addr, mask); valid {
		prefixes = append(prefixes, prefix)
	}
	return prefixes, ok || text == ""
}

// single is the prefix of one address.
func single(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

// withMask reads 192.0.2.8 with 255.255.255.248, of either family. The ones of the mask
// must all be in front.
func withMask(addrText, maskText string) (netip.Prefix, bool) {
	addr, err := netip.ParseAddr(addrText)
	if err != nil {
		return netip.Prefix{}, false
	}
	mask, err := netip.ParseAddr(maskText)
	if err != nil || addr.BitLen() != mask.BitLen() {
		return netip.Prefix{}, false
	}
	ones, end := 0, false
	for _, b := range mask.AsSlice() {
		for bit := 7; bit >= 0; bit-- {
			switch {
			case b&(1<<bit) == 0:
				end = true
			case end:
				return netip.Prefix{}, false
			default:
				ones++
			}
		}
	}
	return netip.PrefixFrom(addr, ones), true
}
