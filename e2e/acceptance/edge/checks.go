package main

import (
	"slices"

	"freshet/e2e/acceptance"
)

const (
	edge  acceptance.Tests = "internal/edge"
	store acceptance.Tests = "internal/edge/diskcache"
	h1    acceptance.Tests = "internal/h1"
	h2    acceptance.Tests = "internal/h2"
	end   acceptance.Tests = "e2e"
)

// checks are all, with the public cache test suite from a folder; empty: it is fetched.
// docs/edge-acceptance.md has a row for each.
func checks(folder string) []acceptance.Check {
	speed := new(bench)
	return []acceptance.Check{
		acceptance.Row(1, "the public cache test suite", []acceptance.Proof{{Step: suite(folder)}}),
		acceptance.Row(2, "many clients, one fetch", edge.Has("TestCoalescing")),
		acceptance.Row(3, "what cannot be shared holds nobody up", edge.Has("TestUncacheableDoesNotSerialise")),
		acceptance.Row(4, "the end of a long cold file comes at once", edge.Has("TestSliceOfHuge", "TestSlicesByHTTP", "TestUnfitForSlices")),
		acceptance.Row(5, "overlapping ranges fetch each byte once", edge.Has("TestOverlappingRanges", "TestOverlappingRangesOfGigabyte")),
		acceptance.Row(6, "a file replaced under way is never mixed", edge.Has("TestChangedWhileRead", "TestChangedBeforeHeader", "TestRunsBreak")),
		acceptance.Row(7, "one path, two repositories", edge.Has("TestSameObjectInTwoRepositories", "TestSlicesOfTwoSites", "TestReposNeverMix")),
		acceptance.Row(8, "bodies cut anywhere are not kept", edge.Has("TestShortBody", "TestCutAnywhere", "TestLyingOrigins")),
		acceptance.Row(9, "who leaves takes nothing along", edge.Has("TestLeaderLeaves", "TestLeaderLeavesAt", "TestOnlyReaderLeaves")),
		acceptance.Row(10, "bodies that do not fit, disks that are full", slices.Concat(edge.Has("TestBodyDoesNotFit", "TestDiskFull", "TestStoreRefusesTheRest", "TestSlicesDoNotFit", "TestSlicesOnFullDisk"), store.Has("TestDiskFull"))),
		acceptance.Row(11, "stale answers do not wait", edge.Has("TestStaleForMany", "TestStaleWhileRevalidate")),
		acceptance.Row(12, "a sick origin costs nothing that is kept", edge.Has("TestSickOrigin", "TestStaleWhenTheOriginIsAway")),
		acceptance.Row(13, "errors are forgotten soon", edge.Has("TestErrorsAreNotKept")),
		acceptance.Row(14, "an origin that is away is never a 404", edge.Has("TestUnknownWhileAway", "TestNoAnswer")),
		acceptance.Row(15, "sets switch together", edge.Has("TestSetsSwitchTogether", "TestIndexSwitchesWithWhatItLists", "TestSetsSwitchTogetherOverTCP", "TestSetsSwitchTogetherInStreams")),
		acceptance.Row(16, "old metadata stays for a week", edge.Has("TestHashedMetadataOutlivesItsPublish", "TestOldRootStaysOfUse")),
		acceptance.Row(17, "content that is not what its name says", edge.Has("TestWrongContentIsNotKept", "TestVerify", "TestVerifyElsewhere")),
		acceptance.Row(18, "metadata ends when it says so", edge.Has("TestValidUntil")),
		acceptance.Row(19, "databases do not go back in time", edge.Has("TestOlderDatabaseIsNotTaken")),
		acceptance.Row(20, "purges", slices.Concat(edge.Has("TestPurgeRefused", "TestPurgeSelects"),
			end.Has("TestPurgeOnThreeEdges", "TestEachPurgeOnThreeEdges", "TestPurgeOfManyIsCheap"))),
		acceptance.Row(21, "killed and started again, with many objects", slices.Concat(store.Has("TestKill", "TestDamage"), end.Has("TestManyObjects/restart", "TestManyObjects/verify"))),
		acceptance.Row(22, "memory, with many objects and many downloads", slices.Concat(store.Has("TestFull", "TestFullEvictsNothing"), edge.Has("TestEvictionKeepsTheBound"),
			end.Has("TestManyObjects/memory"))),
		acceptance.Row(23, "ranges, and the clients that use them", slices.Concat(edge.Has("TestRanges", "TestRangeStatements"), end.Has("TestClients", "TestDownloaders", "TestZchunk"))),
		acceptance.Row(24, "speed", []acceptance.Proof{
			speed.atLeast("2k-hits-c32", 20_000), speed.atLeast("2k-cold-c8", 6_000), speed.atLeast("2k-warm-c8", 25_000),
			speed.ofNginx("1G-tls", 0.9), speed.ofNginx("1G-h2", 0.5), speed.directly("ostree-pull-s", 1.1), speed.directly("flatpak-install-s", 1.1),
		}),
		acceptance.Row(25, "hostile clients, and records that agree", slices.Concat(
			end.Has("TestHostileFraming", "TestEarlyUpgrade", "TestUnkeyedFields", "TestSlowLoris", "TestRapidReset", "TestConnectionFlood", "TestHandshakeFlood"),
			h1.Has("TestHostile", "TestCutShort", "TestBodyLikeARefusal", "TestConnectionLimits", "TestGivenKeepsItsPlace", "TestTimeLimits", "TestBodyThatDoesNotCome", "TestStallOfGiven", "TestMinRate"), h2.Has("TestFloods", "TestBroken", "TestMalformed", "TestSlow"),
			edge.Has("TestBodiesOfRequestsThatFail", "TestBodyLengthsOverHTTP3", "TestQueryThatIsNone", "TestLogAndMetricsAgree", "TestLoggedBytesAreThoseOfTheClient"))),
	}
}
