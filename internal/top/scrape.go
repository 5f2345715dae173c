package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

const (
	// maxScrape bounds what is read of one answer.
	maxScrape = 16 << 20
	// scrapeTimeout bounds the wait for it.
	scrapeTimeout = 5 * time.Second
	// accept asks for the format that has native histograms.
	accept = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited, text/plain; version=0.0.4; q=0.5"
)

// sample is what a process counted up to a moment.
type sample struct {
	at       time.Time
	families map[string]*dto.MetricFamily
}

// scrape reads /metrics below the URL of an admin listener.
func scrape(ctx context.Context, client *http.Client, admin string) (*sample, error) {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	url := strings.TrimSuffix(admin, "/") + "/metrics"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("admin URL: %w", err)
	}
	req.Header.Set("Accept", accept)
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode == http.StatusBadRequest && strings.HasPrefix(url, "http:") {
		return nil, fmt.Errorf("read metrics: %s answered %s: does the listener speak TLS (https://)?", url, resp.Status)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read metrics: %s answered %s", url, resp.Status)
	}
	s := &sample{at: time.Now(), families: make(map[string]*dto.MetricFamily)}
	dec := expfmt.NewDecoder(io.LimitReader(resp.Body, maxScrape), expfmt.ResponseFormat(resp.Header))
	for {
		family := new(dto.MetricFamily)
		if err := dec.Decode(family); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read metrics: %s: %w", url, err)
		}
		s.families[family.GetName()] = family
	}
	if s.families["freshet_edge_requests_total"] == nil {
		return nil, fmt.Errorf("%s is not of an edge: it has no freshet_edge_requests_total", url)
	}
	return s, nil
}

// metrics returns the metrics of a name, none if there is no such name or no
// sample.
func (s *sample) metrics(name string) []*dto.Metric {
	if s == nil {
		return nil
	}
	return s.families[name].GetMetric()
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

func value(m *dto.Metric) float64 {
	return m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
}

// sum adds the values of a name by a label, of those metrics whose label role
// is edge or missing: other roles may live in the same process.
func (s *sample) sum(name, by string) map[string]float64 {
	out := make(map[string]float64)
	for _, m := range s.metrics(name) {
		if role := label(m, "role"); role == "" || role == "edge" {
			out[label(m, by)] += value(m)
		}
	}
	return out
}

// total is the sum of all.
func (s *sample) total(name string) float64 { return s.sum(name, "")[""] }

// histogram returns the histogram of a name whose label has the value.
func (s *sample) histogram(name, by, of string) *dto.Histogram {
	for _, m := range s.metrics(name) {
		if label(m, by) == of {
			return m.GetHistogram()
		}
	}
	return nil
}
