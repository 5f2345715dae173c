package hub

import "freshet/internal/config"

// consoleOff as an address says that there is no console.
const consoleOff = "off"

// ConsoleConfig is the table [hub.console]: the pages on which people see what the
// hub does. Who signs in with a token sees what the token grants.
type ConsoleConfig struct {
	// Listen is an address for the console alone ("127.0.0.1:9601"), where its first
	// page is /console/. "off": there is no console. Default: it is on the admin
	// listener ([admin] listen), if there is one.
	Listen string `toml:"listen"`

	// URL is under which people reach the console, without a path
	// ("https://console.example.org"), where a proxy before it has the certificate.
	// With "https" the cookie of a session is sent by TLS only. Default: none; a
	// listener with TLS of its own ([admin] cert) needs none.
	URL string `toml:"url"`
}

// Validate reports an address that cannot be listened on, and a URL that is none.
func (c ConsoleConfig) Validate() []config.Problem {
	var v validation
	if c.Listen != "" && c.Listen != consoleOff {
		if err := config.CheckAddress(c.Listen); err != nil {
			v.problem("listen", "%v", err)
		}
	}
	v.url("url", c.URL)
	return v.problems
}
