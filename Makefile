# make build   bin/hearth: one static binary, with the sandbox program inside
# make demo    builds, starts a server, deploys and runs the examples, ends clean
# make test    everything that CI runs
# make bench   measures against the floor of the same machine
# make scenarios   the acceptance scenarios, as often as their rules ask
# make soak    a million warm invocations and ten thousand cold ones: nothing may grow

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: build demo test bench scenarios soak clean

BIN     ?= bin/hearth
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

export CGO_ENABLED := 0
BUILD   := $(GO) build -trimpath -buildvcs=false

# The sandbox program is replaced only if it differs, so that what embeds it
# stays in Go's build cache; and by a rename, so that two builds at once do not
# disturb each other.
build:
	@mkdir -p bin; program=$$(mktemp bin/.hearth-sandbox.XXXXXX); trap 'rm -f "$$program"' EXIT; \
	$(BUILD) -ldflags='-s -w' -o "$$program" ./cmd/hearth-sandbox; \
	cmp -s "$$program" cmd/hearth/libexec/hearth-sandbox || mv -f "$$program" cmd/hearth/libexec/hearth-sandbox
	@$(BUILD) -ldflags='-s -w -X main.version=$(VERSION)' -o $(BIN) ./cmd/hearth
	@echo "built $(BIN) $(VERSION)"

demo: build
	@$(BIN) demo --examples examples

test:
	@.ci/test

bench: build
	@$(GO) run ./bench

scenarios: build
	@HEARTH_SCENARIOS=full $(GO) test -run 'TestS[0-9]|TestFiftyAccounts' -count=5 -timeout 6h -v ./e2e

soak:
	@HEARTH_SOAK=full $(GO) test -run TestSoak -count=1 -timeout 6h -v ./e2e

clean:
	rm -rf bin cmd/hearth/libexec/hearth-sandbox
