// Package upkeep keeps an OSTree repository sound and small, beside whoever
// publishes into it: [Check] verifies it and repairs it from another copy, [Prune]
// removes what nothing needs.
//
// [Scrub] reads it slowly, over and over.
//
// It knows nothing of a hub: it works on the files, and locks as libostree does.
// A check holds no lock; what a prune removes meanwhile is no damage. A prune holds
// the lock, alone, for the deletion of a batch.
//
// # On disk
//
//	.fsck              what the last sound check saw
//	.upkeep/quarantine damaged objects that are not served any more (internal/hub/quarantine)
//	.upkeep/graph.db   who needs what, and what nothing needs any more
//	.upkeep/scrub.json how far the scrub is
//
// docs/formats/upkeep.md describes both.
package upkeep
