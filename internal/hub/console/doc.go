// Package console is what people see of a hub in a browser: builds, refs,
// publishes on their way to the edges, static deltas, the queue, holds, tokens
// and the audit log, as pages rendered on the server.
//
// Who looks signs in with a token of the hub, or by a provider of identities that
// is configured; a session then has the claims of that token, and sees what they
// grant: each page asks for the scopes that its counterpart in the API asks for,
// and lists leave out what the token's ids and repositories do not cover. Tokens
// that manage tokens have another subject than those for builds, so a session can
// hold one of each.
//
// Lists go by key, so that any page of any list costs the same; see package
// catalog. Whatever changes something is a POST, from a page of the same session.
//
// All routes stand in console.go; the templates are in the folder web.
package console
