// Package control knows who may order something of an edge, and notes who did.
//
// A client is known by a token, of which the configuration holds the SHA-256
// only, or by a certificate that the listener verified. What it may do is a
// list of rights, where it may do it a list of sites. Every order is noted,
// the refused ones too: in the log, and in a file of its own if there is one.
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

// Config is the table [edge.control].
type Config struct {
	// AuditFile is a file to which a line of JSON is added for each order that
	// was given on the admin listener or by PURGE, also for those refused. It is
	// made when it is not there. Empty: orders are in the log only.
	AuditFile string `toml:"audit-file"`

	// Clients are those who may give orders, by name. Without any, every order
	// is refused.
	Clients map[string]ClientConfig `toml:"clients"`
}

// ClientConfig is a table [edge.control.clients.NAME]. The name stands in the
// audit.
type ClientConfig struct {
	// Token is the SHA-256 of the client's token, as "freshet edge token" prints
	// it: "sha256:" and 64 hexadecimal digits.
	Token string `toml:"token"`

	// Certificate is the common name of the client's certificate, where the
	// admin listener asks for one (client-ca in [admin]). A client may have a
	// token, a certificate, or either.
	Certificate string `toml:"certificate"`

	// Allow lists what the client may do: "purge", "warm", "read". Default: all
	// of it.
	Allow []string `toml:"allow"`

	// Sites are the names of the sites it may do it to, "default" for the one
	// without a name. Default: all.
	Sites []string `toml:"sites"`
}

// Right is something that a client may do.
type Right string

// The rights.
const (
	// Purge is to purge, and to see what a purge would meet.
	Purge Right = "purge"
	// Warm is to have the edge fetch.
	Warm Right = "warm"
	// Read is to see what the edge does and has.
	Read Right = "read"
)

// Rights returns all rights.
func Rights() []Right { return []Right{Purge, Warm, Read} }

// tokenHash begins the SHA-256 of a token in the configuration.
const tokenHash = "sha256:"

// Validate reports what is wrong with the clients; see [config.Validator].
func (c Config) Validate() []config.Problem {
	var problems []config.Problem
	problem := func(key, format string, args ...any) {
		problems = append(problems, config.Problem{Key: key, Message: fmt.Sprintf(format, args...)})
	}
	names := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)
	tokens, certificates := make(map[string]string), make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(c.Clients)) {
		client, key := c.Clients[name], "clients."+name
		if !names.MatchString(name) {
			problem(key, `%q is no name: want up to 64 letters, digits, ".", "_", "@" and "-"`, name)
		}
		if client.Token == "" && client.Certificate == "" {
			problem(key, "needs a token or a certificate")
		}
		if client.Token != "" {
			switch _, err := parseHash(client.Token); {
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
			if !slices.Contains(Rights(), Right(right)) {
				problem(fmt.Sprintf("%s.allow[%d]", key, i), `want "purge", "warm" or "read", got %q`, right)
			}
		}
	}
	return problems
}

func parseHash(s string) (sum [32]byte, err error) {
	digits, ok := strings.CutPrefix(s, tokenHash)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != len(sum) {
		return sum, fmt.Errorf(`want %q and 64 hexadecimal digits, as "freshet edge token" prints it`, tokenHash)
	}
	return [32]byte(b), nil
}
