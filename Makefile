# Two commands matter: make run, and make test. HACKING.md tells the rest.

GO ?= go
# The workshop's own program needs no C compiler on the host.
HOST = CGO_ENABLED=0 GOFLAGS=-buildvcs=false
CLOISON = bin/cloison

# Packages whose tests use the build, QEMU or both cores: they run after the
# others, one package at a time.
HEAVY = cloison/test/boot cloison/test/attack cloison/test/kernel
FUZZTIME ?= 30s

.PHONY: run build test check bench fuzz campaign man clean

run: $(CLOISON)
	$(CLOISON) run

build: $(CLOISON)
	$(CLOISON) build

# Always asked: go knows itself whether anything has changed.
.PHONY: $(CLOISON)
$(CLOISON):
	@$(HOST) $(GO) build -o $(CLOISON) ./cmd/cloison

test: check build
	$(GO) test -timeout 60m $$($(GO) list ./... | grep -vxF $(HEAVY:%=-e %))
	$(GO) test -timeout 60m ./test/kernel
	$(GO) test -timeout 60m -count=1 ./test/boot
	$(GO) test -timeout 60m -count=1 ./test/attack

# Under a minute: what every change must pass before anything is built.
check:
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@unformatted=$$($(GO) tool gofumpt -l cmd format host linux target test bench); \
	if [ -n "$$unformatted" ]; then echo "not formatted (go tool gofumpt -w FILE):"; echo "$$unformatted"; exit 1; fi
	$(GO) test ./test/layering

bench: build
	$(GO) run ./bench/verity
	$(GO) run ./bench/boot
	$(GO) run ./bench/state
	$(GO) run ./bench/build
	$(GO) run ./bench/confine
	CGO_ENABLED=0 $(GO) run ./bench/log

# Each fuzz target in turn: the go command takes one at a time.
fuzz:
	@set -e; for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' format | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | sed 's/func //'); do \
	    echo "$$dir $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) ./$$dir; \
	  done; done

# What chance decides, as often as it takes to believe it: two hours. Its
# result belongs into docs/evidence.
CAMPAIGN ?= 100
campaign: build
	CLOISON_CAMPAIGN=$(CAMPAIGN) $(GO) test -v -count=1 -timeout 3h -run TestKilledBuild ./cmd/cloison
	CLOISON_CAMPAIGN=$(CAMPAIGN) $(GO) test -v -count=1 -timeout 3h -run 'TestBoot/campaign' ./test/boot
	CLOISON_POWER_CUTS=$(CAMPAIGN) $(GO) test -v -count=1 -timeout 6h -run 'TestBoot/state_cuts$$' ./test/boot
	CLOISON_POWER_CUTS=$(CAMPAIGN) $(GO) test -v -count=1 -timeout 6h -run 'TestBoot/state_cuts_writing$$' ./test/boot
	CLOISON_KILLS=long $(GO) test -v -count=1 -timeout 1h -run 'TestBoot/service_killed$$' ./test/boot

man: $(CLOISON)
	$(CLOISON) man out/man

# What a build leaves. The cache (SDK, kernels) and the development keys stay:
# they are in the user's cache and data folders.
clean:
	rm -rf bin out
