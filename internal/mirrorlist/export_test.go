package mirrorlist

// SetLimit changes how many bytes a snapshot may hold.
func (b *Builder) SetLimit(bytes int) { b.limit = bytes }
