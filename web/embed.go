// Package web holds what the roles' pages are made of: templates, the style
// sheet, the icon. It has no logic: package page reads it.
//
//	layout.html   the frame of every page: head, navigation, footer
//	parts.html    what many pages have: states, times, pagers, empty lists
//	plots.html    what people would rather look at than read
//	assets/       files that are served as they are
//	director/     the public pages of a mirror network
//	hub/          the pages of the hub's console, one file each
//	mirror/       listings of folders, the list of projects
//
// A page's file defines "main". Pages work without scripts, and have none; all
// style is in the one style sheet, because the policy that is sent with them
// allows nothing else.
package web

import (
	"embed"
	"io/fs"
)

//go:embed *.html assets director hub mirror
var files embed.FS

// Files returns them.
func Files() fs.FS { return files }
