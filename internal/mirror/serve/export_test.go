package serve

// Waiting is how many answers are held back.
func (s *Site) Waiting() int { return len(s.waiting) }

// InMemory is how many bytes of files are kept in memory.
func (s *Site) InMemory() int64 { return s.open.bodies.held.Load() }
