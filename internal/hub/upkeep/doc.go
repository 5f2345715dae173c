// Package upkeep keeps an OSTree repository sound and small, beside whoever
// publishes into it: [Check] verifies it and repairs it from another copy.
//
// It knows nothing of a hub: it works on the files, and locks as libostree does.
// A check holds no lock; what a prune removes meanwhile is no damage.
//
// # On disk
//
//	.fsck    what the last sound check saw (docs/formats/upkeep.md)
package upkeep
