package tree

// TreeOf returns the tree that a push is for.
func (t *Trees) TreeOf(pushID string) (string, error) {
	p, err := t.push(pushID)
	if err != nil {
		return "", err
	}
	return p.Tree, nil
}
