// Package certs has the certificates of an edge: from files that are read anew
// when they change, and from an authority by ACME (RFC 8555).
package certs
