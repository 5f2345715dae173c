package catalog

// Look bounds the rows that a page looks through without an index.
func (f BuildFilter) Look(rows int) BuildFilter {
	f.look = rows
	return f
}
