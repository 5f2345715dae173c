package autoindex

import (
	"math"
	"strconv"
	"strings"
)

// tell takes from the text beside a name what it tells of the size: "1234", "1.2M",
// "1.2 MiB". It stands after the time, and before what describes the file; or before the
// time; or alone.
func (e *Entry) tell(text string) {
	words := strings.Fields(text)
	e.Stamp = strings.Join(words, " ")
	e.Size, e.Least, e.Most = -1, 0, -1
	if e.Folder {
		return
	}
	first, last := len(words), -1
	for i, word := range words {
		if isTime(word) {
			first, last = min(first, i), i
		}
	}
	for i := last + 1; i < len(words) && (last >= 0 || len(words) <= 2); i++ {
		if e.sizedAt(words, i) {
			return
		}
	}
	for i := range min(first, len(words)) {
		if last >= 0 && e.sizedAt(words, i) {
			return
		}
	}
}

// sizedAt takes the size that a word is, with the next one if that is its unit.
func (e *Entry) sizedAt(words []string, i int) bool {
	word := words[i]
	if i+1 < len(words) && unitOf(words[i+1]) >= 0 && isNumber(word) {
		word += words[i+1]
	}
	return e.sized(word)
}

// isTime reports whether a word is a date or a time: "03:04", "02-Jan-2024", "2024/01/02".
func isTime(word string) bool {
	return strings.ContainsAny(word, "0123456789") && (strings.Contains(word, ":") || strings.Count(word, "-") == 2 || strings.Count(word, "/") == 2)
}

// sized takes a size, and reports whether it is one.
func (e *Entry) sized(word string) bool {
	at := len(word) - len(strings.TrimLeft(word, "0123456789.,"))
	number, suffix := word[:at], word[at:]
	exponent := unitOf(suffix)
	if !isNumber(number) || suffix != "" && exponent < 0 {
		return false
	}
	if exponent <= 0 && !strings.Contains(number, ".") {
		n, err := strconv.ParseInt(strings.ReplaceAll(number, ",", ""), 10, 64)
		if err != nil || n >= 1<<53 {
			return false
		}
		e.Size, e.Least, e.Most = n, n, n
		return true
	}
	value, err := strconv.ParseFloat(strings.ReplaceAll(number, ",", ""), 64)
	if err != nil || exponent < 1 {
		return false
	}
	// Rounded up or down, by 1000 or by 1024: wide enough for all of them.
	unit := 1.0
	if _, decimals, ok := strings.Cut(number, "."); ok {
		unit = math.Pow(10, -float64(len(decimals)))
	}
	least, most := (value-unit)*math.Pow(1000, float64(exponent)), (value+unit)*math.Pow(1024, float64(exponent))
	if most >= 1<<53 {
		return false
	}
	e.Least, e.Most = max(0, int64(least)), int64(most)
	return true
}

// isNumber reports whether text is one: digits, with points and commas among them.
func isNumber(text string) bool {
	return text != "" && text[0] >= '0' && text[0] <= '9' && strings.Trim(text, "0123456789.,") == "" && strings.Count(text, ".") <= 1
}

// unitOf is the exponent of a unit, 1 for thousands of bytes; 0 is bytes, and -1 is no unit.
func unitOf(text string) int {
	switch strings.ToLower(text) {
	case "b", "byte", "bytes":
		return 0
	}
	if text == "" || len(text) > 3 {
		return -1
	}
	exponent := strings.IndexByte("kmgtp", text[0]|0x20) + 1
	switch strings.ToLower(text[1:]) {
	case "", "b", "ib", "i":
		if exponent > 0 {
			return exponent
		}
	}
	return -1
}
