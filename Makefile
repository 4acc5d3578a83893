# `make` lists the targets. Everything runs on this machine alone, on free ports,
# in temporary directories.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test lint tidy-check bench soak build clean deps with

# Go's patterns pass testdata by, even ./testdata/..., so its packages are named. A directory with a go.mod is not ours
# to test: it is a module of its own, with libraries that banyan does without.
PACKAGES := ./... $(shell find testdata -mindepth 1 -type d \( -name testdata -o -exec test -e {}/go.mod \; \) -prune -o -name '*.go' -printf './%h\n' | sort -u)
# Starts the servers that tests share, runs what follows, ends them.
WITH := bin/with --

# Tests of what the race detector changes: allocations and stacks. They run once more, without it.
UNRACED := $(shell grep -rl --include='*_test.go' '^//go:build !race' .)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(if $(REAL),deps) ## the whole story on this machine; ONCE=1 ends after it, REAL=1 uses real servers
	go run ./cmd/banyan-demo

test: export BANYAN_REQUIRE := all
test: deps lint with ## install what is missing (listed first), lint, then all tests on real servers
	@echo "test: all packages under the race detector; a server that is missing is a failure"
	$(WITH) go test -race -timeout 20m $(PACKAGES)
	@echo "test: allocations and stacks, without the race detector"
	go test -run "^($$(grep -ho '^func Test[A-Za-z0-9_]*' $(UNRACED) | cut -d' ' -f2 | paste -sd'|'))$$" $(sort $(dir $(UNRACED)))

lint: ## gofmt, vet, staticcheck, php -l
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "lint: gofmt has to be run on:"; echo "$$unformatted"; exit 1; fi
	go vet $(PACKAGES)
	go vet -tags soak $(PACKAGES)
	go tool staticcheck -tags soak -checks inherit,ST1000,ST1016 $(PACKAGES)
	@if command -v php >/dev/null && [ -d testdata/game ]; then \
	  echo "php -l on the files below testdata/game"; \
	  find testdata/game -name '*.php' -print0 | xargs -0 -r -n 1 -P 2 sh -c 'php -l "$$0" || exit 1' | { grep -v '^No syntax errors' || true; }; \
	fi

tidy-check: ## go.mod and go.sum name what is used, and nothing else
	go mod tidy -diff

bench: deps with ## the benchmarks of all packages, then the comparison of whole processes
	$(WITH) go test -run '^$$' -bench . -benchmem -timeout 60m $(PACKAGES)
	$(if $(wildcard testdata/bench),go run ./testdata/bench)

soak: export BANYAN_REQUIRE := all
soak: deps with ## the tests that take hours: named TestSoak..., in files with the build tag soak
	$(WITH) go test -tags soak -run '^TestSoak' -v -timeout 12h $(PACKAGES)

build: ## the static binary, bin/banyan
	CGO_ENABLED=0 go build -trimpath -o bin/banyan ./cmd/banyan

deps: ## list and install what the tests run against (Debian, Ubuntu)
	@testdata/lab/deps

with:
	@go build -o bin/with ./testdata/lab/with

clean: ## remove what was built here
	rm -rf bin
