// Package units has the unit of the mirror and the user that it runs as, as "make install" brings them
// and "freshet mirror setup --service" writes them. It is data.
package units

import _ "embed" // the files travel with the binary

// Mirror is the unit of the mirror; @BINDIR@ stands for the folder of the program.
//
//go:embed freshet-mirror.service.in
var Mirror string

// Users are the users of all roles, for systemd-sysusers.
//
//go:embed sysusers.conf
var Users string
