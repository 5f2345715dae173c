package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
	"freshet/internal/page"
)

// perPage is how many rows a list has.
const perPage = 50

func buildHref(id int64) string { return Base + "/builds/" + strconv.FormatInt(id, 10) }

func jobHref(id int64) string { return Base + "/jobs/" + strconv.FormatInt(id, 10) }

func refHref(repo, ref string) string {
	elements := strings.Split(ref, "/")
	for i, element := range elements {
		elements[i] = url.PathEscape(element)
	}
	return Base + "/refs/" + url.PathEscape(repo) + "/" + strings.Join(elements, "/")
}

func publishHref(repo string, number int64) string {
	return Base + "/publishes/" + url.PathEscape(repo) + "/" + strconv.FormatInt(number, 10)
}

// listHref is a list with a query; empty values are left out.
func listHref(path string, pairs ...string) string {
	query := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Set(pairs[i], pairs[i+1])
		}
	}
	if len(query) == 0 {
		return Base + path
	}
	return Base + path + "?" + query.Encode()
}

// pagerOf leads through a list of which this request shows a part: key is the
// name of the query parameter, and next its value for what follows, "" at the end.
func pagerOf(r *http.Request, key, next string) page.Pager {
	p := page.Pager{NewestText: "Newest", OlderText: "Older"}
	query := r.URL.Query()
	if query.Get(key) != "" {
		query.Del(key)
		p.Newest = r.URL.Path + withQuestion(query.Encode())
	}
	if next != "" {
		query.Set(key, next)
		p.Older = r.URL.Path + withQuestion(query.Encode())
	}
	return p
}

// forward makes a pager one through names rather than through time.
func forward(p page.Pager) page.Pager {
	p.NewestText, p.OlderText = "From the beginning", "More"
	return p
}

func withQuestion(query string) string {
	if query == "" {
		return ""
	}
	return "?" + query
}

// keyOf is an id as a query parameter; "" for none.
func keyOf(id int64) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatInt(id, 10)
}

// before reads where a part of a list begins.
func before(r *http.Request) (int64, error) {
	text := r.URL.Query().Get("before")
	if text == "" {
		return 0, nil
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return 0, refuse(hubapi.ErrGeneric, http.StatusBadRequest, "%.40q is no place in this list", text)
	}
	return id, nil
}

// number reads a number from the path of the request.
func number(r *http.Request, name, what string) (int64, error) {
	text := r.PathValue(name)
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id <= 0 || strconv.FormatInt(id, 10) != text {
		return 0, refuse(hubapi.ErrNotFound, http.StatusNotFound, "there is no %s %.40q", what, text)
	}
	return id, nil
}

func repoOptions(repos []Repo, chosen string, all bool) []page.Option {
	var options []page.Option
	if all {
		options = append(options, page.Option{Text: "All"})
	}
	for _, repo := range repos {
		options = append(options, page.Option{Value: repo.Name, Text: repo.Name, Chosen: repo.Name == chosen})
	}
	return options
}

// choose makes options of values, with words for each.
func choose(chosen string, pairs ...string) []page.Option {
	var options []page.Option
	for i := 0; i+1 < len(pairs); i += 2 {
		options = append(options, page.Option{Value: pairs[i], Text: pairs[i+1], Chosen: pairs[i] == chosen})
	}
	return options
}

func stageBadge(stage catalog.Stage) page.Badge {
	tone := ""
	switch stage {
	case catalog.StageUploading, catalog.StageCommitting, catalog.StageChecking, catalog.StagePublishing:
		tone = "busy"
	case catalog.StageReady:
		tone = "wait"
	case catalog.StagePublished:
		tone = "good"
	case catalog.StageFailed:
		tone = "bad"
	case catalog.StagePurged:
	}
	return page.Badge{Tone: tone, Text: string(stage)}
}

func jobBadge(status hubapi.JobStatus, waits string) page.Badge {
	switch status {
	case hubapi.JobNew:
		if waits != "" {
			return page.Badge{Tone: "busy", Text: "waiting"}
		}
		return page.Badge{Tone: "wait", Text: "queued"}
	case hubapi.JobStarted:
		return page.Badge{Tone: "busy", Text: "running"}
	case hubapi.JobEnded:
		return page.Badge{Tone: "good", Text: "done"}
	case hubapi.JobBroken:
		return page.Badge{Tone: "bad", Text: "failed"}
	}
	return page.Badge{Text: status.String()}
}

func checkBadge(status hubapi.CheckStatus) page.Badge {
	switch status {
	case hubapi.CheckPending:
		return page.Badge{Tone: "busy", Text: "pending"}
	case hubapi.CheckPassed:
		return page.Badge{Tone: "good", Text: "passed"}
	case hubapi.CheckPassedWithWarnings:
		return page.Badge{Tone: "good", Text: "passed with warnings"}
	case hubapi.CheckFailed:
		return page.Badge{Tone: "bad", Text: "failed"}
	case hubapi.CheckReviewRequired:
		return page.Badge{Tone: "busy", Text: "needs a review"}
	}
	return page.Badge{Text: status.String()}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
