package metalink

import (
	"cmp"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// url takes a place of the file.
func (p *parser) url(f *File) error {
	text, err := p.value("url")
	if err != nil {
		return err
	}
	if !isAbsolute(text) {
		return nil
	}
	if len(f.URLs) == MaxURLs {
		return fmt.Errorf("it has more than %d URLs", MaxURLs)
	}
	f.URLs = append(f.URLs, URL{
		Base:     text,
		Location: strings.ToUpper(p.attr("location")),
		Priority: p.priority(),
		Private:  p.private(),
	})
	return nil
}

func isAbsolute(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme != "" && u.Host != ""
}

// priority is what the attributes say; 0 if they do not, or no number in the
// range of the version, which librepo passes over, too.
func (p *parser) priority() int {
	if p.space == namespaceV4 {
		if n, err := strconv.Atoi(p.attr("priority")); err == nil && n >= 1 && n <= maxPriority {
			return n
		}
		return 0
	}
	if n, err := strconv.Atoi(p.attr("preference")); err == nil && n >= 0 && n <= 100 {
		return 101 - n
	}
	return 0
}

func (p *parser) private() bool {
	for _, a := range p.attrs {
		if a.Name.Space == namespaceMM && a.Name.Local == "private" {
			return strings.EqualFold(a.Value, "true")
		}
	}
	return false
}

// sortURLs sorts them, the best first, those without a priority last.
func sortURLs(urls []URL) {
	rank := func(u URL) int {
		if u.Priority == 0 {
			return math.MaxInt
		}
		return u.Priority
	}
	slices.SortStableFunc(urls, func(a, b URL) int { return cmp.Compare(rank(a), rank(b)) })
}
