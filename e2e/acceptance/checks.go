package main

// kind is how a proof is run.
type kind int

const (
	test  kind = iota // a Go test
	suite             // the public cache test suite
	bench             // a case of bench/edge
)

// proof is one thing that shows a part of a check.
type proof struct {
	kind kind
	// where is the folder of the package of a test, name its name, or that of
	// the case.
	where, name string
	// least are the requests/s that a case must reach, share those of nginx's
	// that it must; most is how many times longer than directly it may take.
	least, share, most float64
}

// check is something that an edge must be able to do.
type check struct {
	number int
	name   string
	proofs []proof
}

const (
	edge  = "internal/edge"
	store = "internal/edge/diskcache"
	end   = "e2e"
)

func in(where string, names ...string) []proof {
	var list []proof
	for _, name := range names {
		list = append(list, proof{kind: test, where: where, name: name})
	}
	return list
}

func all(lists ...[]proof) (whole []proof) {
	for _, l := range lists {
		whole = append(whole, l...)
	}
	return whole
}

func atLeast(name string, rate float64) proof { return proof{kind: bench, name: name, least: rate} }

func ofNginx(name string, share float64) proof { return proof{kind: bench, name: name, share: share} }
func directly(name string, most float64) proof { return proof{kind: bench, name: name, most: most} }

// checks are all. docs/edge-acceptance.md has a row for each.
func checks() []check {
	return []check{
		{1, "the public cache test suite", []proof{{kind: suite}}},
		{2, "many clients, one fetch", in(edge, "TestCoalescing")},
		{3, "what cannot be shared holds nobody up", in(edge, "TestUncacheableDoesNotSerialise")},
		{4, "the end of a long cold file comes at once", in(edge, "TestSliceOfHuge", "TestSlicesByHTTP", "TestUnfitForSlices")},
		{5, "overlapping ranges fetch each byte once", in(edge, "TestOverlappingRanges", "TestOverlappingRangesOfGigabyte")},
		{6, "a file replaced under way is never mixed", in(edge, "TestChangedWhileRead", "TestChangedBeforeHeader", "TestRunsBreak")},
		{7, "one path, two repositories", in(edge, "TestSameObjectInTwoRepositories", "TestSlicesOfTwoSites", "TestReposNeverMix")},
		{8, "bodies cut anywhere are not kept", in(edge, "TestShortBody", "TestCutAnywhere", "TestLyingOrigins")},
		{9, "who leaves takes nothing along", in(edge, "TestLeaderLeaves", "TestLeaderLeavesAt", "TestOnlyReaderLeaves")},
		{10, "bodies that do not fit, disks that are full", all(in(edge, "TestBodyDoesNotFit", "TestDiskFull", "TestStoreRefusesTheRest", "TestSlicesDoNotFit", "TestSlicesOnFullDisk"), in(store, "TestDiskFull"))},
		{11, "stale answers do not wait", in(edge, "TestStaleForMany", "TestStaleWhileRevalidate")},
		{12, "a sick origin costs nothing that is kept", in(edge, "TestSickOrigin", "TestStaleWhenTheOriginIsAway")},
		{13, "errors are forgotten soon", in(edge, "TestErrorsAreNotKept")},
		{14, "an origin that is away is never a 404", in(edge, "TestUnknownWhileAway", "TestNoAnswer")},
		{15, "sets switch together", in(edge, "TestSetsSwitchTogether", "TestIndexSwitchesWithWhatItLists", "TestSetsSwitchTogetherOverTCP", "TestSetsSwitchTogetherInStreams")},
		{16, "old metadata stays for a week", in(edge, "TestHashedMetadataOutlivesItsPublish", "TestOldRootStaysOfUse")},
		{17, "content that is not what its name says", in(edge, "TestWrongContentIsNotKept", "TestVerify", "TestVerifyElsewhere")},
		{18, "metadata ends when it says so", in(edge, "TestValidUntil")},
		{19, "databases do not go back in time", in(edge, "TestOlderDatabaseIsNotTaken")},
		{20, "purges", all(in(edge, "TestPurgeRefused", "TestPurgeSelects"),
			in(end, "TestPurgeOnThreeEdges", "TestEachPurgeOnThreeEdges", "TestPurgeOfManyIsCheap"))},
		{21, "killed and started again, with many objects", all(in(store, "TestKill", "TestDamage"), in(end, "TestManyObjects/restart", "TestManyObjects/verify"))},
		{22, "memory, with many objects and many downloads", all(in(store, "TestFull", "TestFullEvictsNothing"), in(edge, "TestEvictionKeepsTheBound"),
			in(end, "TestManyObjects/memory"))},
		{23, "ranges, and the clients that use them", all(in(edge, "TestRanges", "TestRangeStatements"), in(end, "TestClients", "TestDownloaders", "TestZchunk"))},
		{24, "speed", []proof{
			atLeast("2k-hits-c32", 20_000), atLeast("2k-cold-c8", 6_000), atLeast("2k-warm-c8", 25_000),
			ofNginx("1G-tls", 0.9), ofNginx("1G-h2", 0.5), directly("ostree-pull-s", 1.1), directly("flatpak-install-s", 1.1),
		}},
		{25, "hostile clients, and records that agree", all(
			in(end, "TestHostileFraming", "TestEarlyUpgrade", "TestUnkeyedFields", "TestSlowLoris", "TestRapidReset", "TestConnectionFlood", "TestHandshakeFlood"),
			in("internal/h1", "TestHostile", "TestCutShort", "TestBodyLikeARefusal", "TestConnectionLimits", "TestGivenKeepsItsPlace", "TestTimeLimits", "TestBodyThatDoesNotCome", "TestStallOfGiven", "TestMinRate"), in("internal/h2", "TestFloods", "TestBroken", "TestMalformed", "TestSlow"),
			in(edge, "TestBodiesOfRequestsThatFail", "TestBodyLengthsOverHTTP3", "TestQueryThatIsNone", "TestLogAndMetricsAgree", "TestLoggedBytesAreThoseOfTheClient"))},
	}
}
