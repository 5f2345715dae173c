//go:build race

package engine_test

// raced says that the tests run with the race detector, which takes memory of its own.
const raced = true
