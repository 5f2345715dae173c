package orders

import (
	"freshet/api/directorapi"
	"freshet/internal/config"
	"freshet/internal/control"
)

// Config is the table [director.control].
type Config struct {
	// AuditFile is a file to which a line of JSON is added for each order that
	// was given on the admin listener, also for those refused. It is made when it
	// is not there. Of those refused to somebody unknown 60 a minute are noted, and how many
	// more there were. Empty: orders are in the log only.
	AuditFile string `toml:"audit-file"`

	// Clients are those who may see and change the catalogue of mirrors, and tell
	// what they have seen, by name. Without any, every order is refused but those
	// with the token of a mirror.
	Clients map[string]ClientConfig `toml:"clients"`
}

// ClientConfig is a table [director.control.clients.NAME]. The name stands in the
// history of the catalogue and in the audit.
type ClientConfig struct {
	// Token is the SHA-256 of the client's token, as "freshet director token"
	// prints it: "sha256:" and 64 hexadecimal digits.
	Token string `toml:"token"`

	// Certificate is the common name of the client's certificate, where the
	// admin listener asks for one (client-ca in [admin]). A client may have a
	// token, a certificate, or either.
	Certificate string `toml:"certificate"`

	// Allow lists what the client may do. "read": see the catalogue with its
	// contacts, its history and what is found out about mirrors; "write": change
	// the catalogue, and have mirrors scanned; "push": tell what mirrors have;
	// "report": tell which mirrors fail. Default: all of it.
	Allow []string `toml:"allow"`

	// Mirrors are the names of the mirrors it may push for, report on, scan and
	// change. A client with this list changes nothing else. Default: all.
	Mirrors []string `toml:"mirrors"`
}

// Validate reports what is wrong with the clients; see [config.Validator].
func (c Config) Validate() []config.Problem {
	return control.Check(c.entries(), directorapi.RightRead, directorapi.RightWrite, directorapi.RightPush, directorapi.RightReport)
}

func (c Config) entries() map[string]control.Entry {
	entries := make(map[string]control.Entry, len(c.Clients))
	for name, client := range c.Clients {
		entries[name] = control.Entry{
			Token: client.Token, Certificate: client.Certificate, Allow: client.Allow, Only: client.Mirrors,
		}
	}
	return entries
}
