package rsyncd

import "time"

// Yields sets for how long a client that has named no module keeps its place though another
// one wants it.
func (s *Server) Yields(after time.Duration) {
	s.places.mu.Lock()
	defer s.places.mu.Unlock()
	s.places.yields = after
}
