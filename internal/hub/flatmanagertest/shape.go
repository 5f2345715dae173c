package flatmanagertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Failure is an answer that is not a success, with flat-manager's error body.
type Failure struct {
	Status        int    `json:"status"`
	Type          string `json:"error-type"`
	Message       string `json:"message"`
	CurrentState  string `json:"current-state"`
	ExpectedState string `json:"expected-state"`
}

func (f *Failure) Error() string { return fmt.Sprintf("%d %s: %s", f.Status, f.Type, f.Message) }

// statusOf are the error types of flat-manager with their status.
var statusOf = map[string]int{
	"generic-error": 400, "wrong-repo-state": 400, "wrong-published-state": 400, "invalid-token": 401,
	"token-insufficient": 403, "not-found": 404, "internal-error": 500,
	// These are the hub's own; to a stock client they are as good as any.
	"too-large": 413, "no-space": 507, "temporarily-unavailable": 503, "conflict": 409,
}

// problem checks an error answer and returns it as a *Failure.
func (a reply) problem() error {
	var f Failure
	if err := a.decode(&f); err != nil {
		return fmt.Errorf("status %d: %w", a.status, err)
	}
	if f.Status != a.status || f.Message == "" || statusOf[f.Type] != f.Status {
		return fmt.Errorf("status %d with the error body %s", a.status, a.body)
	}
	if strings.HasPrefix(f.Type, "wrong-") != (f.CurrentState != "" && f.ExpectedState != "") {
		return fmt.Errorf("error of type %s with the states %q and %q", f.Type, f.CurrentState, f.ExpectedState)
	}
	return &f
}

// decode reads the body as JSON into v.
func (a reply) decode(v any) error {
	if mediaType, _, err := mime.ParseMediaType(a.header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return fmt.Errorf("answer has the content type %q", a.header.Get("Content-Type"))
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		return fmt.Errorf("answer %.200q: %w", a.body, err)
	}
	return nil
}

// success reads an answer that must be 200 and a JSON value.
func (a reply) success(v any) error {
	if a.status != 200 { // flat-manager has no 201 and no 202
		return a.problem()
	}
	return a.decode(v)
}

// kind is what a JSON value may be.
type kind string

const (
	integer   kind = "integer"
	text      kind = "string"
	boolean   kind = "boolean"
	array     kind = "array"
	object    kind = "object"
	document  kind = "string of JSON"
	timestamp kind = "timestamp"
	orNull    kind = " or null"
	orAbsent  kind = " or absent"
)

var timestampPattern = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?$`)

// The shapes of flat-manager's objects. A key marked orAbsent is left out when
// it has no value, one marked orNull is there and null.
var (
	buildShape = map[string]kind{
		"id": integer, "created": timestamp, "repo_state": integer, "repo_state_reason": text + orAbsent,
		"published_state": integer, "published_state_reason": text + orAbsent, "commit_job_id": integer + orAbsent,
		"publish_job_id": integer + orAbsent, "repo": text, "extra_ids": array, "app_id": text + orNull,
		"public_download": boolean, "build_log_url": text + orNull, "token_name": text + orNull, "token_type": integer + orNull,
	}
	refShape = map[string]kind{
		"id": integer, "build_id": integer, "ref_name": text, "commit": text, "build_log_url": text + orNull,
	}
	checkShape = map[string]kind{
		"check_name": text, "build_id": integer, "job_id": integer, "status": integer, "status_reason": text + orNull, "results": text + orNull,
	}
	extendedShape = map[string]kind{"build": object, "build_refs": array, "checks": array}
	jobShape      = map[string]kind{
		"id": integer, "kind": integer, "status": integer, "contents": document, "results": document + orAbsent,
		"log": text, "start_after": object + orNull, "repo": text + orNull,
	}
	missingShape = map[string]kind{"missing": array}
	tokenShape   = map[string]kind{"token": text}
)

// fits checks a JSON object against a shape.
func fits(data []byte, shape map[string]kind) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return fmt.Errorf("%.200q: %w", data, err)
	}
	for key := range fields {
		if _, ok := shape[key]; !ok {
			return fmt.Errorf("additional key %q in %s", key, data)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(shape)) {
		value, ok := fields[key]
		if err := shape[key].check(value, ok); err != nil {
			return fmt.Errorf("key %q: %w in %s", key, err, data)
		}
	}
	return nil
}

func (k kind) check(value json.RawMessage, present bool) error {
	base, optional := strings.CutSuffix(string(k), string(orAbsent))
	base, nullable := strings.CutSuffix(base, string(orNull))
	if !present {
		if optional {
			return nil
		}
		return fmt.Errorf("is absent, want %s", k)
	}
	if bytes.Equal(value, []byte("null")) {
		if nullable {
			return nil
		}
		return fmt.Errorf("is null, want %s", k)
	}
	var err error
	var s string
	switch kind(base) {
	case integer:
		err = json.Unmarshal(value, new(int64))
	case boolean:
		err = json.Unmarshal(value, new(bool))
	case array:
		err = json.Unmarshal(value, new([]json.RawMessage))
	case object:
		err = json.Unmarshal(value, new(map[string]json.RawMessage))
	case text:
		err = json.Unmarshal(value, &s)
	case document:
		if err = json.Unmarshal(value, &s); err == nil && !json.Valid([]byte(s)) {
			err = fmt.Errorf("%q is no JSON", s)
		}
	case timestamp:
		if err = json.Unmarshal(value, &s); err == nil && !timestampPattern.MatchString(s) {
			err = fmt.Errorf("%q is no timestamp", s)
		}
	default:
		err = fmt.Errorf("unknown kind %q", base)
	}
	if err != nil {
		return fmt.Errorf("want %s: %w", k, err)
	}
	return nil
}

// location is the Location header, which must be an absolute URL of the hub
// with the path.
func (s *session) location(a reply, path string) (string, error) {
	value := a.header.Get("Location")
	u, err := url.Parse(value)
	if err != nil || u.Scheme != s.base.Scheme || u.Host != s.base.Host {
		return "", fmt.Errorf("location %q is not below %s", value, s.base)
	}
	if u.Path != path {
		return "", fmt.Errorf("location %q does not have the path %s", value, path)
	}
	return u.Path, nil
}

// build is what the clients read of a build.
type build struct {
	ID             int64    `json:"id"`
	RepoState      int      `json:"repo_state"`
	RepoReason     string   `json:"repo_state_reason"`
	PublishedState int      `json:"published_state"`
	CommitJob      int64    `json:"commit_job_id"`
	PublishJob     int64    `json:"publish_job_id"`
	Repo           string   `json:"repo"`
	AppID          *string  `json:"app_id"`
	ExtraIDs       []string `json:"extra_ids"`
}

func (a reply) build() (build, error) {
	var b build
	if a.status != 200 {
		return b, a.problem()
	}
	if err := fits(a.body, buildShape); err != nil {
		return b, fmt.Errorf("build: %w", err)
	}
	return b, a.decode(&b)
}

// job is what the clients read of a job.
type job struct {
	ID      int64  `json:"id"`
	Kind    int    `json:"kind"`
	Status  int    `json:"status"`
	Log     string `json:"log"`
	Results string `json:"results"`
}

func (a reply) job() (job, error) {
	var j job
	if a.status != 200 {
		return j, a.problem()
	}
	if err := fits(a.body, jobShape); err != nil {
		return j, fmt.Errorf("job: %w", err)
	}
	if err := a.decode(&j); err != nil {
		return j, err
	}
	if j.Status < 0 || j.Status > 3 {
		return j, fmt.Errorf("job %d: status %d", j.ID, j.Status)
	}
	return j, nil
}
