package serve

// Waiting is how many answers are held back.
func (s *Site) Waiting() int { return len(s.waiting) }
