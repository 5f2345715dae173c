package mirror

import (
	"freshet/api/mirrorapi"
	"freshet/internal/config"
	"freshet/internal/control"
)

// ControlConfig is the table [mirror.control].
type ControlConfig struct {
	// AuditFile is a file to which a line of JSON is added for each order that
	// was given on the admin listener or by a trigger, also for those refused. It is made
	// when it is not there. Of those refused to somebody unknown 60 a minute are noted, and
	// how many more there were. Empty: orders are in the log only.
	AuditFile string `toml:"audit-file"`

	// Clients are those who may give orders, by name. Without any, every order
	// is refused.
	Clients map[string]ClientConfig `toml:"clients"`
}

// ClientConfig is a table [mirror.control.clients.NAME]. The name stands in the reports
// and in the audit.
type ClientConfig struct {
	// Token is the SHA-256 of the client's token, as "freshet mirror token" prints
	// it: "sha256:" and 64 hexadecimal digits.
	Token string `toml:"token"`

	// Certificate is the common name of the client's certificate, where the
	// admin listener asks for one (client-ca in [admin]). A client may have a
	// token, a certificate, or either.
	Certificate string `toml:"certificate"`

	// Allow lists what the client may do. "read": see what the mirror does and has;
	// "sync": have projects synced and checked; "write": roll back and drop, and sync
	// in spite of what speaks against it. Default: all of it.
	Allow []string `toml:"allow"`

	// Projects are the names of those it may do it to. Default: all.
	Projects []string `toml:"projects"`
}

// Validate reports what is wrong with the clients; see [config.Validator].
func (c ControlConfig) Validate() []config.Problem {
	return control.Check(c.entries(), mirrorapi.RightRead, mirrorapi.RightSync, mirrorapi.RightWrite)
}

// clients are those who may give orders.
func (c ControlConfig) clients() (*control.Clients, error) {
	return control.NewClients("those who may give orders stand in [mirror.control.clients], with what freshet mirror token prints", c.entries())
}

func (c ControlConfig) entries() map[string]control.Entry {
	entries := make(map[string]control.Entry, len(c.Clients))
	for name, client := range c.Clients {
		entries[name] = control.Entry{
			Token: client.Token, Certificate: client.Certificate, Allow: client.Allow, Only: client.Projects,
		}
	}
	return entries
}
