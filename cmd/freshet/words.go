package main

import "fmt"

// counted is a number with the noun for one, or for several.
func counted[N ~int | ~int64 | ~uint64](n N, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}

// filesText is a number of files.
func filesText[N ~int | ~int64](n N) string { return counted(n, "file", "files") }
