# Godwit's Makefile. It needs Go and make; a C compiler only for `make race`. Go 1.21 or newer fetches the toolchain
# that go.mod names by itself, also where the installation is set to stay with its own.
export GOTOOLCHAIN := auto

GO          ?= go
FUZZTIME    ?= 10s
RUN         ?=
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
PLATFORMS   := linux/amd64 linux/arm64 windows/amd64 windows/arm64 darwin/amd64 darwin/arm64 android/arm64

# What git says of this tree, when there is git and it is a clone; otherwise the binary says "devel".
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS     := $(if $(VERSION),-X main.version=$(VERSION))

# The version is stamped above: Go's own stamping fails in a clone that belongs to another user.
BUILD       := $(GO) build -trimpath -buildvcs=false

.DEFAULT_GOAL := help
.PHONY: help build demo test race fuzz lint cross bench lab deps packages go clean

help: ## list what make can do
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 18

build: go ## build bin/godwit, static, for this machine
	CGO_ENABLED=0 $(BUILD) -ldflags '$(LDFLAGS)' -o bin/ ./cmd/godwit

demo: build ## a gateway, a firewall and a client on this machine: no root, no network needed
	bin/godwit demo $(ARGS)

test: go packages ## run every test; ends with what was skipped and what to install. RUN=pattern narrows it
	CGO_ENABLED=0 $(GO) run ./tests/gotest -timeout 20m $(if $(RUN),-run '$(RUN)') ./...

race: go packages ## the same under the race detector; needs a C compiler
	CGO_ENABLED=1 $(GO) run ./tests/gotest -race -timeout 20m $(if $(RUN),-run '$(RUN)') ./...

fuzz: go ## run every fuzz target for FUZZTIME (10s) each
	@GO='$(GO)' tests/fuzz $(FUZZTIME)

lint: go ## gofmt, go vet and staticcheck
	@bad=$$(find . -name '*.go' -not -path './bin/*' | xargs "$$($(GO) env GOROOT)/bin/gofmt" -l); \
	if [ -n "$$bad" ]; then echo "gofmt would change:"; echo "$$bad"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

# For iOS only what others embed: programs there are linked by Apple's linker, which takes a C compiler with its SDK.
cross: go ## compile everything for every platform
	@set -e; for p in $(PLATFORMS); do \
		echo "build $$p"; \
		GOOS=$${p%/*} GOARCH=$${p#*/} CGO_ENABLED=0 $(BUILD) ./...; \
	done; \
	echo "build ios/arm64, what is to be embedded"; \
	GOOS=ios GOARCH=arm64 CGO_ENABLED=0 $(BUILD) ./accesskey/... ./client/...

bench: go ## measure against other tunnels, side by side; ARGS are bench's
	$(GO) run ./bench/cmd/bench run $(ARGS)

lab: build ## put Godwit and its peers before every firewall: hours; docs/survival.md and .html. ARGS are lab run's
	$(GO) run ./lab/cmd/lab run --out docs $(ARGS)

deps: go ## write the list of everything linked into the binary
	$(GO) test ./internal/lattice -run '^TestDeps$$' -count 1 -update

packages: ## as root on Debian, install what the tests want; otherwise they skip and say so
	@tests/packages

clean: ## remove what was built
	rm -rf bin

# Go before 1.21 reads go.mod's toolchain line as an error that helps nobody.
go:
	@v=$$($(GO) env GOVERSION 2>/dev/null) || { echo "Go is not installed: https://go.dev/dl"; exit 1; }; \
	case "$$v" in go1.[0-9]|go1.[0-9].*|go1.1[0-9]*|go1.20*) \
		echo "$$v is too old: Go 1.21 or newer fetches the right one by itself: https://go.dev/dl"; exit 1;; esac
