// Package budget shares a rate of bytes among all that use it: what comes in over the
// network, or what a disk is given to do.
//
// A [Budget] is one rate. Each user has a [Share] of it, and as long as several want more
// than there is, each gets bytes in the ratio of its weight, however many connections it
// has; what one does not use is the others'. Bytes are counted exactly: over any time the
// sum is the rate times that time, and at most a quarter of a second's worth more, which
// is what a busy machine may catch up with.
package budget
