package hub

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"freshet/internal/auth"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/deltas"
	"freshet/internal/hub/repository"
	"freshet/internal/hub/tree"
	"freshet/internal/store/bucket"
)

// server is a running hub. Its fields do not change while it serves.
type server struct {
	cfg       Config
	hidden    []string // files of the process that programs must not read
	base      string   // public URL, without a slash at its end
	log       *slog.Logger
	metrics   *metrics
	catalog   *catalog.Catalog
	storage   bucket.Objects // nil: the repositories are on the disk alone
	authority *auth.Authority
	downloads *auth.Authority // of tokens that users download with
	exchange  *exchange       // of ID tokens; nil when nobody is trusted
	repos     map[string]*repository.Repository
	queues    map[string]*queue      // by repository
	commits   *queue                 // of all commits
	tellers   map[string]*teller     // by repository; none without a command
	gates     map[string]*tokenGate  // by repository; none where nothing needs a token
	makers    map[string]*deltaMaker // by repository; none without rules for deltas
	deltas    deltas.Queue           // of all makers
	verifiers *semaphore.Weighted    // bounds the deltas that are verified at once
	trees     atomic.Pointer[tree.Trees]
	address   string // the URL by which other hubs reach this one
	fleet     fleet  // of the hubs that share the directory
	pollers   pollers
	prunes    queue // of all prunes, which overtake one another
	// unrecorded says of a job, by its id, why what became of it is not in the catalog yet.
	unrecorded sync.Map
	repairs    sync.Mutex // held while caches are told of them
	// stopping ends when the hub is about to stop: who waits is sent home.
	stopping context.Context //nolint:containedctx // the life of the role, not of a call
}
