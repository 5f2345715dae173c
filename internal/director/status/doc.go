// Package status is what everybody may see of a mirror network: where mirrors are, what
// they have and how fresh it is, by country, by project and by mirror, and since when
// and why one is not used.
//
//	/-/                   map, countries, projects
//	/-/projects/NAME      a project, and its mirrors by country
//	/-/mirrors/NAME       a mirror
//	/-/status.json        all of it
//
// Pages are rendered on the server, work without scripts, and are made of a [Network]
// in memory: no request asks anybody, or reads a file.
package status
