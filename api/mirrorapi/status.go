package mirrorapi

import "time"

// SyncRequest is an order to sync a project. One that is given while the project is being
// synced is done after that; several of these become one.
type SyncRequest struct {
	// Force, Rollback and Shrink are as in [Order]. The last two need [RightWrite].
	Force    bool `json:"force,omitempty"`
	Rollback bool `json:"rollback,omitempty"`
	Shrink   bool `json:"shrink,omitempty"`
	// Wait answers with a stream of [SyncEvent] until the sync has ended. Leaving ends
	// the stream, not the sync.
	Wait bool `json:"wait,omitempty"`
}

// HoldRequest is an order to sync a project no more until it is released.
type HoldRequest struct {
	// Reason says why, for those who wonder.
	Reason string `json:"reason,omitempty"`
}

// Hold says that a project stays as it is until it is released: its times pass, and what is ordered
// meanwhile waits.
type Hold struct {
	Since time.Time `json:"since"`
	// By is the client that ordered it.
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Generation is the ID of that which was rolled back to; empty: nothing was.
	Generation string `json:"generation,omitempty"`
}

// SyncAnswer says what became of an order.
type SyncAnswer struct {
	// State is that of the project now.
	State State `json:"state"`
}

// SyncEvent is a line of the answer to a [SyncRequest] with Wait: either Progress, a few
// times a second, or Report, which is the last line. A stream without it was cut.
type SyncEvent struct {
	// State says whether the sync waits or runs.
	State    State     `json:"state,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
	Report   *Report   `json:"report,omitempty"`
}

// State is what a project does.
type State string

// What projects do.
const (
	Idle    State = "idle"    // its next sync has its time
	Waiting State = "waiting" // it is to be synced as soon as others have ended
	Running State = "running" // it is being synced
	Held    State = "held"    // it is not synced until an operator releases it
)

// Status is what a mirror does and has.
type Status struct {
	// Node is the name that the mirror tells others.
	Node     string          `json:"node"`
	Began    time.Time       `json:"began"`
	Now      time.Time       `json:"now"`
	Projects []ProjectStatus `json:"projects"`
	// Left are projects that are on the disk and not in the configuration.
	Left []LeftProject `json:"left,omitempty"`
	Disk Disk          `json:"disk"`
}

// LeftProject is a project that is on the disk and not in the configuration. It is neither
// served nor synced, and stays until it is removed; when it is configured again, nothing is
// fetched anew.
type LeftProject struct {
	Name string `json:"name"`
	// Generations are how many there are; Files and Bytes are those of the largest: others
	// have most of them, too.
	Generations int   `json:"generations"`
	Files       int64 `json:"files"`
	Bytes       int64 `json:"bytes"`
	// Removing says that it is being removed, for good.
	Removing bool `json:"removing,omitempty"`
}

// Removal says what became of a project that is to be removed.
type Removal struct {
	Project string `json:"project"`
	// Removing says that its files are not all gone: the mirror goes on, also after a
	// restart.
	Removing bool `json:"removing,omitempty"`
}

// ProjectStatus is what a mirror does with a project, and has of it.
type ProjectStatus struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	Schedule string `json:"schedule"`
	State    State  `json:"state"`
	// Generation is what is served, since Published; empty: nothing yet.
	Generation string    `json:"generation,omitempty"`
	Published  time.Time `json:"published,omitzero"`
	Files      int64     `json:"files"`
	Bytes      int64     `json:"bytes"`
	// Checked is when a sync last found this generation to be the newest, or made it.
	Checked time.Time `json:"checked,omitzero"`
	// Next is when the next sync begins by itself; zero: none does.
	Next time.Time `json:"next,omitzero"`
	// Pending is the sync that waits, Progress that which runs.
	Pending  *Order    `json:"pending,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
	// Hold is set while an operator has it stay as it is.
	Hold *Hold `json:"hold,omitempty"`
	// Follows are the upstreams that tell of what is new.
	Follows []Followed `json:"follows,omitempty"`
	// Failures is how many syncs in a row have not ended well, and Last the last report.
	Failures int     `json:"failures"`
	Last     *Report `json:"last,omitempty"`
	// Damaged is how many files a check has found that are not what they should be, and that
	// were not repaired since.
	Damaged int64 `json:"damaged,omitempty"`
	// Churn is about how many bytes are new each day.
	Churn int64 `json:"churn"`
	// Drained is when the project was taken off the disk, which was full; zero: it was not.
	Drained time.Time `json:"drained,omitzero"`
}

// FollowState is how a mirror stands to an upstream that tells of what is new.
type FollowState string

// How a mirror stands to an upstream.
const (
	FollowCatchingUp FollowState = "catching_up" // it answers, and has told more than was acted on
	FollowFollowing  FollowState = "following"   // all that it has told was acted on
	FollowAway       FollowState = "away"        // it does not answer
	FollowNoLog      FollowState = "no_log"      // it does not tell anybody anything
)

// Followed is an upstream that tells of what is new.
type Followed struct {
	// Upstream is its URL, as it is configured.
	Upstream string      `json:"upstream"`
	State    FollowState `json:"state"`
	// Since is when the state began, Heard the last answer; zero: there was none since the
	// mirror began.
	Since time.Time `json:"since"`
	Heard time.Time `json:"heard,omitzero"`
	// Position is how far it was followed: the serial of the last event of a hub, the name
	// of the generation of a mirror. Behind is how many events of a hub are not acted on.
	Position string `json:"position,omitempty"`
	Behind   int64  `json:"behind,omitempty"`
	// Events is how often it has told of something new of the project, since the mirror
	// began.
	Events int64 `json:"events"`
	// Error is why it is not followed.
	Error string `json:"error,omitempty"`
}

// Disk is how full the file system of a mirror is.
type Disk struct {
	Size      int64 `json:"size"`
	Free      int64 `json:"free"`
	Reserve   int64 `json:"reserve"`
	Inodes    int64 `json:"inodes"` // 0: the file system has as many as it needs
	InodeFree int64 `json:"inodes_free"`
	// InodeReserve is how many inodes stay free.
	InodeReserve int64 `json:"inodes_reserve"`
	// UnderWay is what syncs that run have yet to write; Planned what old generations are
	// going to take until their grace time is over; ForNew what all of that leaves for
	// new projects.
	UnderWay int64 `json:"under_way"`
	Planned  int64 `json:"planned"`
	ForNew   int64 `json:"for_new"`
	// PerDay is how much more is taken each day, and Full when the reserve begins by
	// that; nil, and zero: it is not known yet, or not within a year.
	PerDay *int64    `json:"per_day,omitempty"`
	Full   time.Time `json:"full,omitzero"`
	// Alarm says why less than the reserve is free, and stays so; empty: it does not.
	Alarm string `json:"alarm,omitempty"`
}

// Log is the newest reports of a project, newest first.
type Log struct {
	Reports []Report `json:"reports"`
}

// Generations are those of a project that are on the disk, newest first.
type Generations struct {
	Project     string       `json:"project"`
	Generations []Generation `json:"generations"`
	// Hold is set while the project is held, as it is after a rollback.
	Hold *Hold `json:"hold,omitempty"`
}

// Generation is one complete state of a project.
type Generation struct {
	ID   string    `json:"id"`
	Made time.Time `json:"made"`
	// Current: it is the one that is served. Retired is since when it is not; files that
	// the current one has not are served from it until Until.
	Current bool      `json:"current,omitempty"`
	Retired time.Time `json:"retired,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Files   int64     `json:"files"`
	Bytes   int64     `json:"bytes"`
	// Frees is how much of the disk it takes alone: what is free when it is dropped; 0 of
	// the current one.
	Frees int64 `json:"frees"`
	// Cause is why it was made, in the words of the order.
	Cause Cause `json:"cause,omitempty"`
}

// GenerationRequest names a generation of a project.
type GenerationRequest struct {
	// ID is that of the generation, without its leading zeros if need be. Empty, for a
	// rollback: the newest before the current.
	ID string `json:"id,omitempty"`
	// Reason says why it is rolled back to; it becomes that of the [Hold].
	Reason string `json:"reason,omitempty"`
}

// VerifyRequest is an order to read all files of the current generation and compare them
// with their SHA-256.
type VerifyRequest struct {
	// Repair removes files that are not what they should be from all generations, and
	// has the project synced.
	Repair bool `json:"repair,omitempty"`
	// Restart begins anew. Without it a check of the same generation that was interrupted
	// goes on where it was.
	Restart bool `json:"restart,omitempty"`
}

// VerifyProgress is a line of the answer to a [VerifyRequest].
type VerifyProgress struct {
	Files      int64 `json:"files"`
	FilesTotal int64 `json:"files_total"`
	Bytes      int64 `json:"bytes"`
	BytesTotal int64 `json:"bytes_total"`
	// Bad are not what they should be.
	Bad int64 `json:"bad"`
	// Resumed is how many of the files an earlier check has read, which this one goes on
	// with; it began at Began.
	Resumed int64     `json:"resumed,omitempty"`
	Began   time.Time `json:"began,omitzero"`
	// Found is about one file, if it is set.
	Found *BadFile `json:"found,omitempty"`
	// Error is why it ended early. End is true in the last line.
	Error string `json:"error,omitempty"`
	End   bool   `json:"end,omitempty"`
}

// BadFile is a file that is not what it should be. Reason is one word: missing, damaged,
// unreadable.
type BadFile struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Plan is what a project will take, found out from its metadata alone.
type Plan struct {
	Project  string `json:"project"`
	Upstream string `json:"upstream"`
	// Files and Bytes of the project as it is configured.
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
	// Unsized is how many of these files have a size that nobody tells: Bytes, and those of
	// Fetch, are without them, the least that there is. Guess is about how many bytes they have
	// together, by that of Sampled others which were asked for one by one; 0: nothing is known.
	Unsized int64 `json:"unsized,omitempty"`
	Guess   int64 `json:"guess,omitempty"`
	Sampled int64 `json:"sampled,omitempty"`
	// Of these, Held are here already, in this or in another project, and Fetch is to be
	// fetched, which takes about Time, in nanoseconds, at Rate bytes a second; 0: too
	// little was read to tell.
	Held  Amount        `json:"held"`
	Fetch Amount        `json:"fetch"`
	Rate  int64         `json:"rate"`
	Time  time.Duration `json:"time"`
	// Metadata is how much was read to find it out.
	Metadata     Amount           `json:"metadata"`
	Repositories []PlanRepository `json:"repositories,omitempty"`
	// Free is what the disk has for it, without the reserve. Room says whether that is
	// enough, Fits that it is known to be.
	Free int64 `json:"free"`
	Room Room  `json:"room"`
	Fits bool  `json:"fits"`
	// Notes say what an operator should know: what is left out, what cannot be checked.
	Notes []string `json:"notes,omitempty"`
}

// Room says whether a project fits on the disk.
type Room string

// What is known of the room for a project.
const (
	RoomEnough  Room = "enough"
	RoomShort   Room = "short"   // what is known of it is too much already
	RoomUnknown Room = "unknown" // sizes that nobody tells decide
)

// PlanRepository is a repository in a [Plan]. A file that is in several counts in each. Of
// Unsized files the size is not in Bytes.
type PlanRepository struct {
	Path    string `json:"path"`
	Files   int64  `json:"files"`
	Bytes   int64  `json:"bytes"`
	Unsized int64  `json:"unsized,omitempty"`
}

// Diagnosis is what a mirror finds wrong with itself, worst first.
type Diagnosis struct {
	Findings []Finding `json:"findings"`
}

// Finding is one thing that is wrong, or good.
type Finding struct {
	// Level is "error", "warning" or "ok".
	Level string `json:"level"`
	// About is what it is about: "disk", "clock", "rsync", "project epel".
	About string `json:"about"`
	// Message says in plain words what is the matter, Do what to do about it.
	Message string `json:"message"`
	Do      string `json:"do,omitempty"`
}

// Levels of findings.
const (
	LevelError   = "error"
	LevelWarning = "warning"
	LevelOK      = "ok"
)
