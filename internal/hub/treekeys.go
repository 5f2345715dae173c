package hub

import (
	"fmt"

	"freshet/internal/hub/tree"
)

// readTreeKeys reads the keys of the trees that have some.
func readTreeKeys(trees map[string]TreeConfig) (map[string]*tree.Keys, error) {
	keys := make(map[string]*tree.Keys)
	for name, cfg := range trees {
		if len(cfg.Keys) == 0 {
			continue
		}
		k, err := tree.ReadKeys(cfg.Keys)
		if err != nil {
			return nil, fmt.Errorf("keys of tree %s: %w", name, err)
		}
		keys[name] = k
	}
	return keys, nil
}

// treeKeys reports files that are no public keys.
func (v *validation) treeKeys(key string, files []string) {
	before := len(v.problems)
	v.allReadable(key, files)
	for i, file := range files {
		if file == "" || len(v.problems) > before {
			continue // said already
		}
		if _, err := tree.ReadKeys(files[i : i+1]); err != nil {
			v.problem(fmt.Sprintf("%s[%d]", key, i), "%v", err)
		}
	}
}
