package versions

import "freshet/internal/inventory"

// A mirror may have a new version before the origin was asked for it here. Who found it
// there must not be sent to a mirror with the former afterwards. As long as a client
// stays with a mirror it is not; so when one that is offered turns out to be ahead, stops
// to work or works again, none is offered until the origin has been asked once more.

// hold withdraws all mirrors until the next look has asked the origin. The caller holds
// mu.
func (r *repository) hold() {
	r.holds++
	r.show(func(s *shown) { s.offered = inventory.Set{} })
	r.hasten()
}

// held is what a look notes before it asks the origin.
func (r *repository) held() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holds
}

// release ends the holds that were there when held was called. The caller holds mu.
func (r *repository) release(held int) {
	if r.holds == held {
		r.holds = 0
	}
}

// Moving says that a mirror is not used for a project any more, or is used again, for
// whatever reason: clients are about to be sent from it to others, or the other way.
func (v *Versions) Moving(mirror, project string) {
	h, ok := v.opt.Inventory.Lookup(mirror)
	if !ok {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for k, r := range v.repos {
		if k.project != project {
			continue
		}
		r.mu.Lock()
		if r.shown.Load().offered.Has(h) {
			r.hold()
		}
		r.mu.Unlock()
	}
}
