// Package edge is the caching front: it serves what an origin (a hub or any
// web server) has, from disk where it can.
package edge
