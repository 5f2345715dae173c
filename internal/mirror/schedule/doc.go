// Package schedule decides when which project of a mirror is synced: by its times, when
// somebody tells that there is something new, when an operator wants it, and again after
// a failure, later each time. One sync of a project runs and one waits: whatever is told
// meanwhile becomes part of the one that waits. So many syncs run at once, those of the
// highest priority first. A project that is held is not synced until it is released, and
// what is told meanwhile waits.
package schedule
