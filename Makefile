# Freshet. "make" prints this help.

GO      ?= go
BIN     := bin/freshet
TOOL    := $(GO) tool -modfile=tools/go.mod
DIR     ?= demo
QUICK   ?=
PREFIX  ?= /usr/local
DESTDIR ?=
# The detector sees Go's memory only. SQLite is translated C with memory of its own:
# watching it finds nothing and takes most of the time of a hub's tests.
UNWATCHED := modernc.org/sqlite/lib modernc.org/libc modernc.org/memory
RACE      := -race $(UNWATCHED:%=-gcflags=%=-race=false)
PROTOS    := internal/mirrorlist/snapshotpb/snapshot.proto
SHARE   := $(DESTDIR)$(PREFIX)/share
UNITS   := $(DESTDIR)$(PREFIX)/lib

.DEFAULT_GOAL := help

.PHONY: help
help: ## print this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/freshet, static and reproducible
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/freshet

.PHONY: pkcs11
pkcs11: ## build bin/freshet-pkcs11, by which a hub signs with PKCS #11 tokens (needs a C compiler)
	CGO_ENABLED=1 $(GO) build -trimpath -o bin/freshet-pkcs11 ./cmd/freshet-pkcs11

.PHONY: run
run: build ## run a whole network on this machine with sample content (DIR=demo)
	$(BIN) run --demo --dir $(DIR)

.PHONY: next
next: build ## publish the next version into the running network (DIR=demo)
	$(BIN) run --demo --publish-next --dir $(DIR)

.PHONY: test
test: setup check ## set up what the tests need, then everything that must pass

.PHONY: setup
setup: ## install the programs the tests talk to (Debian packages; as root)
	@scripts/setup

.PHONY: check
check: lint generated race ## lint, generated files are up to date, all tests with the race detector

.PHONY: quick
quick: ## tests while writing: no race detector, no real clients
	$(GO) test -short ./...

.PHONY: race
race: ## all tests with the race detector
	$(GO) test $(RACE) -timeout 20m $$($(GO) list ./... | grep -v '/e2e$$')
	$(GO) test $(RACE) -timeout 40m -parallel 4 -count=1 ./e2e # it tests the binary, of which the cache of tests knows nothing

.PHONY: lint
lint: ## go vet and golangci-lint
	$(GO) vet ./...
	$(TOOL) golangci-lint run ./...

.PHONY: fmt
fmt: ## format with gofumpt
	$(TOOL) gofumpt -w $$(git ls-files '*.go')

.PHONY: generate
generate: ## rewrite generated files from their source
	$(GO) test ./internal/node -run ReferenceIsUpToDate -update
	cd tools && $(GO) run ./protogen $(PROTOS:%=../%)

.PHONY: generated
generated: ## fail when a generated file is out of date
	$(GO) test ./internal/node -run ReferenceIsUpToDate
	cd tools && $(GO) run ./protogen -check $(PROTOS:%=../%)

.PHONY: fuzz
fuzz: ## fuzz every parser for a while (FUZZTIME=30s each)
	@scripts/fuzz

.PHONY: e2e
e2e: ## only the tests with the real clients and the built binary
	$(GO) test $(RACE) -timeout 40m -parallel 4 -count=1 ./e2e

.PHONY: cache-tests
cache-tests: build ## the public HTTP cache test suite against an edge, three times (SUITE=folder: not fetched)
	@scripts/cache-tests $(SUITE)

.PHONY: edge-acceptance
edge-acceptance: build ## what an edge must be able to do, check by check (QUICK=1: in minutes; CHECKS="8 15": these; SUITE=folder)
	$(GO) run -trimpath ./e2e/acceptance/edge $(if $(QUICK),-quick) $(if $(SUITE),-suite $(SUITE)) $(CHECKS)

.PHONY: mirror-acceptance
mirror-acceptance: ## what a mirror must be able to do, check by check (QUICK=1: smaller; CHECKS="1 4": these)
	$(GO) run -trimpath ./e2e/acceptance/mirror $(if $(QUICK),-quick) $(CHECKS)

.PHONY: hub-faults
hub-faults: build ## a hub through 100 kills, and a publish in which each system call on files fails in turn (an hour)
	FRESHET_KILLS=100 $(GO) test -count=1 -timeout 60m -v -run '^TestKill(Hub)?$$' ./internal/hub/repository ./e2e
	FRESHET_FAULTS=all $(GO) test -count=1 -timeout 60m -v -run '^TestEverySystemCallFails$$' ./internal/hub/repository
	FRESHET_FAULTS=all FRESHET_FAULT_ERROR=EIO $(GO) test -count=1 -timeout 60m -v -run '^TestEverySystemCallFails$$' ./internal/hub/repository

.PHONY: soak
soak: ## half an hour of mixed load on an edge through kills, full disks and a flapping origin; every byte compared
	FRESHET_SOAK=30m $(GO) test -count=1 -timeout 60m -v -run '^TestSoak$$' ./e2e

.PHONY: mirror-soak
mirror-soak: ## real clients through a mirror with half publishes, kills, full disks, dead upstreams (SOAK=15m)
	FRESHET_MIRROR_SOAK=$(or $(SOAK),15m) $(GO) test -count=1 -timeout 120m -v -run '^TestMirrorSoak$$' ./e2e

.PHONY: bench
bench: ## Go benchmarks with allocations
	$(GO) test -run '^$$' -bench . -benchmem ./...

.PHONY: bench-hub
bench-hub: build ## publishes, uploads, imports, deltas beside flatpak and ostree; growing stores (QUICK=1: under a minute, without deltas)
	$(GO) run ./bench/hub $(if $(QUICK),-quick)

.PHONY: bench-edge
bench-edge: build ## hits, misses, idle connections beside nginx, Varnish and Traffic Server (QUICK=1: under a minute)
	$(GO) run ./bench/edge $(if $(QUICK),-rounds 3 -sample 150ms -cold 2000 -idle 2000 -foreign 0.5,-clients)

.PHONY: bench-director
bench-director: build ## metalinks and mirrorlists of a network like Fedora's beside nginx, memory, reloads (QUICK=1: under a minute, once bin/bench-director is there)
	$(GO) run ./bench/director $(if $(QUICK),-world bin/bench-director -rounds 3 -sample 200ms -reloads 2 -foreign 0.5)

.PHONY: bench-mirror
bench-mirror: build ## copies, syncs without news, serving and a fleet beside rsync and nginx (QUICK=1: under a minute)
	$(GO) run ./bench/mirror $(if $(QUICK),-rounds 1 -files 4000 -small 20000 -mirrors 6 -sample 200ms -foreign 0.5)

.PHONY: man
man: build ## manual pages into bin/man
	$(BIN) man bin/man

.PHONY: install
install: build ## install program, units of systemd, manual pages, completions (PREFIX=/usr/local DESTDIR=)
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(SHARE)/man/man1" "$(SHARE)/bash-completion/completions" \
		"$(SHARE)/zsh/site-functions" "$(SHARE)/fish/vendor_completions.d"
	install -m 755 $(BIN) "$(DESTDIR)$(PREFIX)/bin/freshet.new"
	mv -f "$(DESTDIR)$(PREFIX)/bin/freshet.new" "$(DESTDIR)$(PREFIX)/bin/freshet" # it may be running
	if [ -e bin/freshet-pkcs11 ]; then install -m 755 bin/freshet-pkcs11 "$(DESTDIR)$(PREFIX)/bin/freshet-pkcs11"; fi
	$(BIN) man "$(SHARE)/man/man1"
	$(BIN) completion bash >"$(SHARE)/bash-completion/completions/freshet"
	$(BIN) completion zsh >"$(SHARE)/zsh/site-functions/_freshet"
	$(BIN) completion fish >"$(SHARE)/fish/vendor_completions.d/freshet.fish"
	install -d "$(UNITS)/systemd/system" "$(UNITS)/sysusers.d" "$(UNITS)/tmpfiles.d"
	for role in hub edge mirror director; do \
		sed 's|@BINDIR@|$(PREFIX)/bin|' contrib/systemd/freshet-$$role.service.in >"$(UNITS)/systemd/system/freshet-$$role.service" || exit 1; \
	done
	install -m 644 contrib/systemd/sysusers.conf "$(UNITS)/sysusers.d/freshet.conf"
	install -m 644 contrib/systemd/tmpfiles.conf "$(UNITS)/tmpfiles.d/freshet.conf"

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
