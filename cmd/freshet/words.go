package main

import "freshet/internal/page"

// filesText is a number of files.
func filesText[N ~int | ~int64](n N) string { return page.Plural(n, "file", "files") }
