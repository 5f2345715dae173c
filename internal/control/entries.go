// Package control knows who may order something of a role, and notes who did.
//
// A client is known by a token, of which the configuration holds the SHA-256
// only, or by a certificate that the listener verified. What it may do is a
// list of rights, and to what a list of names. Every order is noted, the refused
// ones too: in the log, and in a file of its own if there is one.
package control

import (
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"freshet/internal/config"
)

// Entry is what the configuration of a role says of a client.
type Entry struct {
	// Token is [Hash] of the client's token; Certificate the common name of its
	// certificate. One may be empty.
	Token, Certificate string
	// Allow are its rights; none: all.
	Allow []string
	// Only are the names of what it may touch; none: everything.
	Only []string
}

// Right is something that a client may do.
type Right string

// tokenHash begins the SHA-256 of a token in the configuration.
const tokenHash = "sha256:"

// Check reports what is wrong with entries, by "clients." and their names; the rights are
// those that there are.
func Check(entries map[string]Entry, rights ...Right) []config.Problem {
	var problems []config.Problem
	problem := func(key, format string, args ...any) {
		problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	names := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)
	tokens, certificates := make(map[string]string), make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		client, key := entries[name], "clients."+name
		if !names.MatchString(name) {
			problem(key, `%q is no name: want up to 64 letters, digits, ".", "_", "@" and "-"`, name)
		}
		if client.Token == "" && client.Certificate == "" {
			problem(key, "needs a token or a certificate")
		}
		if client.Token != "" {
			switch _, err := ParseHash(client.Token); {
			case err != nil:
				problem(key+".token", "%v", err)
			case tokens[strings.ToLower(client.Token)] != "":
				problem(key+".token", "is that of client %q", tokens[strings.ToLower(client.Token)])
			default:
				tokens[strings.ToLower(client.Token)] = name
			}
		}
		if client.Certificate != "" {
			if other := certificates[client.Certificate]; other != "" {
				problem(key+".certificate", "is that of client %q", other)
			}
			certificates[client.Certificate] = name
		}
		for i, right := range client.Allow {
			if !slices.Contains(rights, Right(right)) {
				problem(fmt.Sprintf("%s.allow[%d]", key, i), "want %s, got %q", oneOf(rights), right)
			}
		}
	}
	return problems
}

// oneOf lists rights in words.
func oneOf(rights []Right) string {
	var b strings.Builder
	for i, right := range rights {
		switch {
		case i > 0 && i == len(rights)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", right)
	}
	return b.String()
}

// ParseHash reads what [Hash] returns.
func ParseHash(s string) (sum [32]byte, err error) {
	digits, ok := strings.CutPrefix(s, tokenHash)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != len(sum) {
		return sum, fmt.Errorf(`want %q and 64 hexadecimal digits`, tokenHash)
	}
	return [32]byte(b), nil
}
