// Package project is the description of one project of a mirror: what stands in a table
// [mirror.projects.NAME], what it inherits from a preset, and what is wrong with it. It
// knows nothing of how a project is synced.
package project
