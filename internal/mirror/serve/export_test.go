package serve

// Waiting is how many answers are held back.
func (s *Site) Waiting() int { return len(s.waiting) }

// InMemory is how many bytes of files are kept in memory.
func (s *Site) InMemory() int64 { return s.open.bodies.held.Load() }

// EndNotes writes what is to be noted of readers, and notes nothing any more.
func (s *Site) EndNotes() {
	s.settled.noted.close()
	s.settled.noted = nil
}
