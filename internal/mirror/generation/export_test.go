package generation

// Written has what was fetched noted on the disk.
func (st *Staging) Written() error { return st.journal.flush() }

// MostAtRisk is how many bytes may be fetched once more behind a kill.
const MostAtRisk = mostAtRisk
