package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/config"
	"freshet/internal/mirror/status"
	"freshet/internal/page"
)

// told is how the mirror is; nil if that is not told.
func (s *Site) told() *status.Status {
	if s.opts.Status == nil {
		return nil
	}
	return s.opts.Status()
}

// untold answers when it is not told how the mirror is.
func (s *Site) untold(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, http.StatusNotFound, NotFound, "This mirror does not tell how it is.")
}

// statusJSON tells how the mirror is, for programs.
func (s *Site) statusJSON(w http.ResponseWriter, r *http.Request) {
	st := s.told()
	if st == nil {
		s.untold(w, r)
		return
	}
	body, err := json.Marshal(st)
	if err != nil {
		s.failOpen(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache")
	h.Set("Access-Control-Allow-Origin", "*") // it is for everybody
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(append(body, '\n')))
}

// statusPage tells how the mirror is, for people.
func (s *Site) statusPage(w http.ResponseWriter, r *http.Request) {
	st := s.told()
	if st == nil {
		s.untold(w, r)
		return
	}
	data := statusView{Node: st.Node, Disk: st.Disk, Total: len(st.Projects), Trend: trend(st)}
	var events []page.Event
	for i := range st.Projects {
		p := projectView{&st.Projects[i]}
		data.Projects = append(data.Projects, p)
		data.Bytes += p.Bytes
		if p.Badge().Tone == "good" {
			data.Fresh++
		}
		events = append(events, p.week(st.Made))
	}
	data.Week = page.NewTimeline(events, st.Made)
	w.Header().Set("Cache-Control", "no-cache")
	s.render(w, r, "status", "Status", data)
}

// statusView is what the page of the status shows.
type statusView struct {
	Node         string
	Disk         status.Disk
	Total, Fresh int
	Bytes        int64
	Projects     []projectView
	Week         page.Timeline
	Trend        page.Trend
}

type projectView struct{ *status.Project }

// Href leads from the page to the project.
func (p projectView) Href() string { return "../" + url.PathEscape(p.Name) + "/" }

// Badge is how the project is, in a few words.
func (p projectView) Badge() page.Badge {
	switch {
	case !p.Held.IsZero():
		return page.Badge{Tone: "wait", Text: "held"}
	case p.Stale:
		return page.Badge{Tone: "bad", Text: "out of date"}
	case p.Failing != nil:
		return page.Badge{Tone: "bad", Text: "failing"}
	case p.Generation == "" && p.State == mirrorapi.Idle:
		return page.Badge{Tone: "wait", Text: "not here yet"}
	case p.Generation == "":
		return page.Badge{Tone: "busy", Text: "first sync"}
	}
	return page.Badge{Tone: "good", Text: "up to date"}
}

// week is the project's row in the plot of the last seven days.
func (p projectView) week(now time.Time) page.Event {
	e := page.Event{Label: page.Link{Href: p.Href(), Text: p.Name}}
	from := now.Add(-status.Week)
	var fresh, known time.Duration
	for _, span := range p.Week {
		if from.Before(span.From) {
			e.Phases = append(e.Phases, page.Phase{Tone: page.ToneWait, From: from, To: span.From})
		}
		tone := page.ToneBad
		if span.Fresh {
			tone = page.ToneDone
			fresh += span.To.Sub(span.From)
		}
		known += span.To.Sub(span.From)
		e.Phases = append(e.Phases, page.Phase{Tone: tone, From: span.From, To: span.To})
		from = span.To
	}
	if from.Before(now) {
		e.Phases = append(e.Phases, page.Phase{Tone: page.ToneWait, From: from, To: now})
	}
	e.Text = "not known yet"
	if known > 0 {
		permille := int64(fresh) * 1000 / int64(known) // down: only all of it is all of it
		e.Text = fmt.Sprintf("%d.%d %% up to date", permille/10, permille%10)
		if known < status.Week {
			e.Text += ", in " + config.FormatDuration(shown(known))
		}
	}
	return e
}

// shown is a duration without what is too exact for it.
func shown(d time.Duration) time.Duration {
	switch {
	case d >= 48*time.Hour:
		return d.Truncate(time.Hour)
	case d >= time.Hour:
		return d.Truncate(time.Minute)
	}
	return max(d.Truncate(time.Second), time.Second)
}

// trend is the plot of how full the disk was and will be.
func trend(st *status.Status) page.Trend {
	limit := float64(st.Disk.Size - st.Disk.Reserve)
	points := make([]page.TrendPoint, 0, len(st.History)+1)
	for _, s := range st.History {
		points = append(points, page.TrendPoint{At: s.At, Value: float64(s.Used)})
	}
	points = append(points, page.TrendPoint{At: st.Made, Value: float64(st.Disk.Used())})
	ahead := page.TrendPoint{At: st.Disk.Full, Value: limit}
	words := fmt.Sprintf("%d %% of it is in use, and %s are to stay free. ",
		st.Disk.Used()*100/max(st.Disk.Size, 1), page.Bytes(uint64(max(st.Disk.Reserve, 0))))
	known := status.Known(st.History, st.Made)
	switch {
	case st.Disk.Full.IsZero() && !status.Foreseen(known):
		words += "When it is going to be full can be told after a day."
	case st.Disk.Full.IsZero():
		words += "By the last " + spanWords(known) + " it is not going to be full within a year."
	case !st.Disk.Full.After(st.Made):
		words += "That is no more so: old versions go before their time."
	default:
		words += "If it goes on as in the last " + spanWords(known) + ", that is so until " + st.Disk.Full.UTC().Format("2006-01-02") + "."
	}
	return page.NewTrend("In use, and where the reserve begins", words, points, ahead, limit, float64(st.Disk.Size), st.Made)
}

// spanWords is a time of a day or more, in words.
func spanWords(d time.Duration) string {
	const day = 24 * time.Hour
	switch days := int(d.Round(day) / day); {
	case days >= 14:
		return "two weeks"
	case days > 1:
		return page.Plural(days, "day", "days")
	}
	return "day"
}
