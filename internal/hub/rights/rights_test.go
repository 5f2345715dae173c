package rights_test

import (
	"errors"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/rights"
)

// Jobs of no build are seen by those who may do with their refs what they do, and what
// concerns all of a repository by those who may see all of it.
func TestJob(t *testing.T) {
	const moves = `{"refs":{"app/org.a.One/x86_64/stable":{"from":"1","to":""}},"reason":"x"}`
	const two = `{"refs":{"app/org.a.One/x86_64/stable":{},"runtime/org.b.Two/x86_64/stable":{}}}`
	some := func(prefixes ...string) auth.Claims {
		return auth.Claims{Prefixes: prefixes, Repos: []string{"stable"}}
	}
	beta := some("")
	beta.PushBranches = []string{"beta"}
	for name, test := range map[string]struct {
		claims   auth.Claims
		kind     hubapi.JobKind
		repo     string
		contents string
		refused  bool
	}{
		"prune":                    {some(""), hubapi.JobPrune, "stable", `{}`, false},
		"prune, one id":            {some("org.a"), hubapi.JobPrune, "stable", `{"app":"org.a.One"}`, true},
		"prune, no id":             {auth.Claims{Apps: []string{"-"}, Repos: []string{"stable"}}, hubapi.JobPrune, "stable", `{}`, true},
		"prune, one branch":        {beta, hubapi.JobPrune, "stable", `{}`, true},
		"another repository":       {some(""), hubapi.JobPrune, "beta", `{}`, true},
		"deltas, one id":           {some("org.a"), hubapi.JobDeltas, "stable", `{}`, true},
		"summary, one id":          {some("org.a"), hubapi.JobUpdateRepo, "stable", `{}`, true},
		"no repository":            {some(""), hubapi.JobUpdateRepo, "", `{}`, true},
		"no repository, all":       {auth.Claims{Prefixes: []string{""}, Repos: []string{""}}, hubapi.JobUpdateRepo, "", `{}`, false},
		"rollback":                 {some("org.a"), hubapi.JobRollback, "stable", moves, false},
		"unpublish":                {some("org.a"), hubapi.JobUnpublish, "stable", moves, false},
		"rollback of another":      {some("org.b"), hubapi.JobRollback, "stable", moves, true},
		"rollback, another branch": {beta, hubapi.JobRollback, "stable", moves, true},
		"rollback of two":          {some("org.a"), hubapi.JobRollback, "stable", two, true},
		"rollback of both":         {some("org.a", "org.b"), hubapi.JobRollback, "stable", two, false},
		"rollback of nothing":      {some("org.a"), hubapi.JobRollback, "stable", `{"refs":{}}`, true},
		"rollback of no ref":       {some("org.a"), hubapi.JobRollback, "stable", `{"refs":{"appstream/x86_64":{}}}`, true},
		"unreadable":               {some("org.a"), hubapi.JobRollback, "stable", `nonsense`, true},
		"republish":                {some("org.a"), hubapi.JobRepublish, "stable", `{"app":"org.a.One"}`, false},
		"republish of another":     {some("org.b"), hubapi.JobRepublish, "stable", `{"app":"org.a.One"}`, true},
	} {
		err := rights.Job(&test.claims, &catalog.Job{Kind: test.kind, Repo: test.repo, Contents: test.contents})
		if (err != nil) != test.refused || err != nil && !rights.Refused(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if rights.Refused(nil) || rights.Refused(errors.New("away")) || !rights.Refused(&hubapi.Error{Kind: hubapi.ErrInsufficient}) {
		t.Error("what is refused is not told from what fails")
	}
}
