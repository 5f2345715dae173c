package probe

// blindIn tells over which families the director itself seems to have no network: over
// which nobody is reached, neither mirrors nor origins, though there are several who
// have an address of the family, and though somebody is reached over the other.
func blindIn(ways map[Way]Health) (blind [2]bool) {
	var (
		works  [2]bool
		failed [2]map[string]bool // mirrors that may be out of our reach only
	)
	for w, h := range ways {
		f := w.Family
		switch {
		case h.Why == NoAddress || h.Looked.IsZero():
		case h.Works || !h.Why.couldBeUs():
			works[f] = true
		default:
			if failed[f] == nil {
				failed[f] = make(map[string]bool)
			}
			failed[f][w.server()] = true
		}
	}
	for _, f := range []Family{IPv4, IPv6} {
		blind[f] = !works[f] && len(failed[f]) >= 2 && works[IPv4+IPv6-f]
	}
	return blind
}
