// Package page makes the web pages of the roles: it reads the templates of
// package web, renders them into one frame, serves the style sheet under a name
// that holds its hash, and sends each page with a policy that lets a browser load
// nothing from elsewhere and run no script at all.
//
// A page is rendered as a whole before the first byte is sent, so that an error
// in a template becomes an error page and never half a page.
//
// Package session keeps who is signed in, package pagetest checks pages.
package page
