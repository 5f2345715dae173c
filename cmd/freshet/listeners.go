package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"freshet/internal/certs"
	"freshet/internal/doors"
)

// listenerFlags are the settings of listeners that have flags.
type listenerFlags struct {
	doors.Listeners
	cert, key string
}

func (l *listenerFlags) register(f *pflag.FlagSet, port, hosts string) {
	f.StringVar(&l.Listen, "listen", "", `address to serve on without TLS, or several with commas (default "`+port+`" if there is no other)`)
	f.StringVar(&l.ListenTLS, "listen-tls", "", `address to serve on with TLS, for HTTP/1.1 and HTTP/2`)
	f.StringVar(&l.cert, "tls-cert", "", "PEM file with the certificate; read anew when it changes")
	f.StringVar(&l.key, "tls-key", "", "PEM file with its key")
	f.StringVar(&l.TLS.ACME.Dir, "acme-dir", "", "folder for certificates that are got by ACME")
	f.StringSliceVar(&l.TLS.ACME.Hosts, "acme-host", nil, "name to get a certificate for (repeatable"+hosts+")")
}

// over puts the flags over the settings of a role.
func (l *listenerFlags) over(cmd *cobra.Command, settings *doors.Listeners) error {
	if (l.cert == "") != (l.key == "") {
		return usageError(cmd, "--tls-cert and --tls-key belong together")
	}
	override(&settings.Listen, l.Listen)
	override(&settings.ListenTLS, l.ListenTLS)
	override(&settings.TLS.ACME.Dir, l.TLS.ACME.Dir)
	if len(l.TLS.ACME.Hosts) > 0 {
		settings.TLS.ACME.Hosts = l.TLS.ACME.Hosts
	}
	if l.cert != "" {
		settings.TLS.Certificates = []certs.Pair{{Cert: l.cert, Key: l.key}}
	}
	return nil
}

// given reports whether a flag says where a certificate comes from.
func (l *listenerFlags) given() bool { return l.cert != "" || l.TLS.ACME.Dir != "" }
