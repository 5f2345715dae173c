// Package checkup looks at the machine that a mirror runs on, and says in plain words what
// is wrong with it: disks that fail, a clock that is off, too few files that may be open,
// a file system that does not keep what it was told to, certificates that end.
//
// Each look is bounded in time, changes nothing, and is told apart from its judgement,
// which is a function of what was seen.
package checkup
