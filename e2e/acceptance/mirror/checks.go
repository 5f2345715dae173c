package main

import (
	"slices"

	"freshet/e2e/acceptance"
)

const (
	end        acceptance.Tests = "e2e"
	role       acceptance.Tests = "internal/mirror"
	engine     acceptance.Tests = "internal/mirror/engine"
	generation acceptance.Tests = "internal/mirror/generation"
	fetch      acceptance.Tests = "internal/mirror/fetch"
	budget     acceptance.Tests = "internal/mirror/budget"
	schedule   acceptance.Tests = "internal/mirror/schedule"
	serve      acceptance.Tests = "internal/mirror/serve"
	rsyncd     acceptance.Tests = "internal/mirror/rsyncd"
	kind       acceptance.Tests = "internal/mirror/kind"
	telemetry  acceptance.Tests = "internal/telemetry"
)

// checks are all. docs/mirror-acceptance.md has a row for each.
func checks() []acceptance.Check {
	return []acceptance.Check{
		acceptance.Row(1, "killed at any moment, nothing is missing", slices.Concat(end.Has("TestMirrorKilled", "TestMirrorClients"), engine.Has("TestKill"), generation.Has("TestKilled"))),
		acceptance.Row(2, "upstream changes while it is synced", slices.Concat(engine.Has("TestUpstreamPublishes"), end.Has("TestMirrorUpstreamPublishes"))),
		acceptance.Row(3, "an index names what is not there", slices.Concat(engine.Has("TestMissingPackage", "TestOthersGoOn"), end.Has("TestMirrorMissing", "TestMirrorRefuses"))),
		acceptance.Row(4, "a flipped byte is found", slices.Concat(engine.Has("TestFlippedByte"), end.Has("TestMirrorFlipped"))),
		acceptance.Row(5, "what goes back, shrinks or is not signed", slices.Concat(engine.Has("TestRefusals", "TestShrinkByHalves"), kind.Has("TestRPM", "TestDeb", "TestArch", "TestAlpine", "TestImages", "TestOSTree"), end.Has("TestMirrorOperatorsWord", "TestMirrorRefuses"))),
		acceptance.Row(6, "the index of yesterday", slices.Concat(generation.Has("TestRetireAndDrop"), role.Has("TestIndexOfYesterday"), end.Has("TestMirrorRefuses"))),
		acceptance.Row(7, "downloads over a switch", serve.Has("TestSwitch", "TestSwitchUnderDownloads")),
		acceptance.Row(8, "many files without news", engine.Has("TestMany")),
		acceptance.Row(9, "generations cost little", slices.Concat(generation.Has("TestCost"), serve.Has("TestServesWhileRetiring"))),
		acceptance.Row(10, "rsync clients", slices.Concat(rsyncd.Has("TestClients", "TestTooMany"), end.Has("TestMirrorRsyncClients", "TestMirrorRsyncLists"))),
		acceptance.Row(11, "one limit for ten projects", slices.Concat(budget.Has("TestTenShares", "TestTCP"), end.Has("TestMirrorLimit"))),
		acceptance.Row(12, "lost triggers, fleets at once", schedule.Has("TestFleetIsSpread", "TestLooksWithoutTriggers")),
		acceptance.Row(13, "a full disk", slices.Concat(fetch.Has("TestFull"), generation.Has("TestFullDisk", "TestDrainInterrupted"), role.Has("TestFullDisk", "TestBrokenDisk"), end.Has("TestMirrorStartsOnFullDisk"))),
		acceptance.Row(14, "odd names", slices.Concat(serve.Has("TestFiles", "TestNothingElseIsReachable", "TestListings"), rsyncd.Has("TestClients"), end.Has("TestMirrorOddNames"))),
		acceptance.Row(15, "what serving costs", end.Has("TestMirrorServingCost")),
		acceptance.Row(16, "what is told arrives", slices.Concat(telemetry.Has("TestTwoHoursAway", "TestKilled", "TestHostile"), end.Has("TestMirrorTellsWatch", "TestMirrorBusy"))),
	}
}
