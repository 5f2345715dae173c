package store

// OpenFaulty is Open with a function that is called before each change of the disk.
func OpenFaulty(dir string, fault func(step, name string) error) (*Store, error) {
	return open(dir, fault)
}
