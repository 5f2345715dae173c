package hub

import (
	"net/http"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/auth"
)

// routes is the whole of the public listener. What a route asks of the token
// stands beside it; routes without that decide themselves, or are open.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, h http.Handler) { mux.Handle(pattern, h) }
	api := func(pattern string, h http.Handler) {
		method, path, _ := strings.Cut(pattern, " ")
		route(method+" "+hubapi.Prefix+path, h)
	}
	// What only one of several hubs can do.
	publishing := func(h http.Handler) http.Handler { return s.ledOnly(func() bool { return true }, h) }
	withTrees := func(h http.Handler) http.Handler { return s.ledOnly(s.fleet.treesOpen.Load, h) }
	all := func(scopes ...auth.Scope) grant { return grant{sub: "build", scopes: scopes} }
	one := func(scopes ...auth.Scope) grant { return grant{sub: "build/{id}", scopes: scopes} }
	const (
		build, upload, publish, download, jobs, node, tokens, review, again = auth.ScopeBuild, auth.ScopeUpload, auth.ScopePublish,
			auth.ScopeDownload, auth.ScopeJobs, auth.ScopeNode, auth.ScopeTokenManagement, auth.ScopeReviewCheck, auth.ScopeRepublish
	)

	// The life of a build: flat-manager's API.
	api("POST /build", s.with(all(build), s.createBuild))
	api("GET /build", s.with(all(build, download), s.listBuilds))
	api("GET /build/{id}", s.withUpload(one(build, upload), s.getBuild))
	api("GET /build/{id}/extended", s.withBuild(one(build, upload), s.getExtended))
	api("POST /build/{id}/build_ref", s.withUpload(one(upload), s.createBuildRef))
	api("GET /build/{id}/build_ref/{ref}", s.withBuild(one(build), s.getBuildRef))
	api("GET /build/{id}/missing_objects", s.withUpload(one(upload), s.missingObjects))
	api("POST /build/{id}/add_extra_ids", s.withUpload(one(upload), s.addExtraIDs))
	api("POST /build/{id}/upload", s.withUpload(one(upload), s.uploadObjects))
	api("POST /build/{id}/commit", s.withBuild(one(build), s.commitBuild))
	api("GET /build/{id}/commit", s.withBuild(one(build), s.getCommitJob))
	api("POST /build/{id}/publish", s.withBuild(one(publish), s.publishBuild))
	api("GET /build/{id}/publish", s.withBuild(one(build), s.getPublishJob))
	api("GET /build/{id}/check/{name}/job", s.withBuild(one(build), s.getCheckJob))
	api("POST /build/{id}/check/{name}/job", s.withBuild(one(build), s.retryCheck))
	api("POST /build/{id}/purge", s.withBuild(one(build), s.purgeBuild))
	api("GET /job/{id}", handler(s.getJob))
	api("POST /job/{id}/check/review", s.with(all(review), s.reviewCheck))
	api("POST /prune", handler(s.prune))
	api("POST /token_subset", handler(s.tokenSubset))
	api("POST /token/oidc", handler(s.exchangeToken))
	api("POST /tokens/get_list", s.with(grant{scopes: []auth.Scope{tokens}}, s.listTokens))
	api("POST /tokens/revoke", s.with(grant{scopes: []auth.Scope{tokens}}, s.revokeTokens))

	// The history of a repository, and what may be published now.
	api("GET /repo/{repo}/publishes", s.withRepo(all(jobs), s.listPublishes))
	api("POST /repo/{repo}/rollback", s.withRepo(all(publish), s.rollback))
	api("POST /repo/{repo}/unpublish", s.withRepo(all(publish), s.unpublish))
	api("POST /repo/{repo}/republish", s.withRepo(all(again), s.republish))
	api("GET /repo/{repo}/holds", s.withHoldable(all(jobs), s.listHolds))
	api("POST /repo/{repo}/holds", s.withHoldable(all(publish), s.placeHold))
	api("DELETE /repo/{repo}/holds/{id}", s.withHoldable(all(publish), s.releaseHold))
	api("GET /audit", s.with(grant{scopes: []auth.Scope{tokens}}, s.getAudit))

	// Static deltas, made by others.
	api("POST /delta/lease", publishing(s.with(deltaGrant(), s.leaseDelta)))
	api("POST /delta/lease/{lease}", publishing(s.withLease(s.extendDelta)))
	api("DELETE /delta/lease/{lease}", publishing(s.withLease(s.giveBackDelta)))
	api("POST /delta/lease/{lease}/upload", publishing(s.withLease(s.uploadDelta)))
	api("POST /delta/lease/{lease}/finish", publishing(s.with(deltaGrant(), s.finishDelta)))
	api("GET /delta/worker", publishing(s.with(deltaGrant(), s.openDeltaSocket)))
	api("POST /delta/upload/{repo}", publishing(s.withRepo(deltaGrant(), s.uploadDeltaFiles)))
	api("GET /delta/queue", publishing(s.with(all(jobs), s.listDeltaQueue)))

	// Plain trees.
	api("GET /tree/{name}", withTrees(s.withTree(all(upload, download), s.getTree)))
	api("POST /tree/{name}/push", withTrees(s.withTree(all(upload), s.beginPush)))
	api("GET /tree/{name}/push/{push}", withTrees(s.withTree(all(upload), s.getPush)))
	api("DELETE /tree/{name}/push/{push}", withTrees(s.withTree(all(upload), s.cancelPush)))
	api("POST /tree/{name}/push/{push}/upload", withTrees(s.withTree(all(upload), s.uploadBlobs)))
	api("POST /tree/{name}/push/{push}/publish", withTrees(s.withTree(all(publish), s.publishPush)))
	api("POST /tree/{name}/rollback", withTrees(s.withTree(all(publish), s.rollbackTree)))

	// The event log.
	api("GET /events", handler(s.getEvents))
	api("GET /events/page/{n}", handler(s.getEventPage))
	api("GET /nodes", s.with(all(jobs, node), s.listNodes))

	// Files.
	route("GET /repo/{name}/{path...}", handler(s.serveRepo))
	route("GET /build-repo/{id}/{path...}", handler(s.serveBuildRepo))
	route("GET /tree/{name}/{path...}", withTrees(handler(s.serveTree)))

	route("GET /status", handler(s.status))
	route("GET /status/{id}", handler(s.statusJob))
	route("GET /metrics", s.metrics.compat.handler(s.catalog.JobCounts))
	route("/", handler(func(_ http.ResponseWriter, r *http.Request) error { return notFound("page", r.URL.Path) }))
	return cleanPaths(mux)
}

// cleanPaths takes empty and "." elements out of the path, which some clients
// of repositories put there (apt for "deb URL ./"), and refuses "..": nothing
// is below such a name. The mux would redirect instead, and a client may lose
// its token on the way.
func cleanPaths(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var elements []string
		for element := range strings.SplitSeq(r.URL.Path, "/") {
			switch element {
			case "", ".":
			case "..":
				fail(w, r, notFound("page", r.URL.Path))
				return
			default:
				elements = append(elements, element)
			}
		}
		clean := "/" + strings.Join(elements, "/")
		if clean != "/" && strings.HasSuffix(r.URL.Path, "/") {
			clean += "/"
		}
		if clean != r.URL.Path {
			url := *r.URL
			url.Path, url.RawPath = clean, ""
			again := *r
			again.URL = &url
			r = &again
		}
		next.ServeHTTP(w, r)
	})
}
