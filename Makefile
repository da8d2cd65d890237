# Everything that is done with triggerd. It needs Go, git and make, and sets up the rest; `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

STATICCHECK := v0.8.2
GOFUMPT     := v0.12.0
FUZZTIME    := 10s
FOR         := 5m
ROUNDS      := 4
TORTURE     :=
BENCH       :=
SEEDS       := $(shell shuf -i 0-999999999 -n 10 | paste -sd,)
MEASURING   := ^(TestSlowClients|TestIdleConnections)$$
TOOLS       := $(CURDIR)/.tools
# SQLite is translated C, on memory of its own: the race detector sees nothing there, and is slow to look.
RACE        := -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc=-race=false
NPM         := verify openapi zapier cloudevents

# Where Go lives if nobody put it into PATH.
export PATH := $(PATH):/usr/local/go/bin

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: check-go ## Build bin/triggerd
	@go build -trimpath -buildvcs=false \
		-ldflags "-s -w -X main.version=$$(git describe --always --dirty 2>/dev/null || echo dev)" \
		-o bin/triggerd ./cmd/triggerd

.PHONY: race
race: check-go ## Build bin/triggerd-race, with the race detector in it
	@CGO_ENABLED=1 go build $(RACE) -o bin/triggerd-race ./cmd/triggerd

.PHONY: run
run: build ## Build, then serve on loopback, for trying out and development
	@exec bin/triggerd serve --dev

.PHONY: demo
demo: build ## Build, then send real events through a server and a receiver of its own
	@exec bin/triggerd demo

.PHONY: test
test: check-go ## Run all tests, on SQLite and on a PostgreSQL of their own
	@compiles() { echo '#include <stdlib.h>' | $$(go env CC) -x c -c -o /dev/null - 2>/dev/null; }
	race='$(RACE)' missing=()
	compiles || missing+=(gcc libc6-dev)
	command -v node >/dev/null || missing+=(nodejs)
	command -v npm >/dev/null || missing+=(npm)
	if [ $${#missing[@]} -gt 0 ] && sudo=$$([ "$$(id -u)" = 0 ] || { sudo -n true 2>/dev/null && echo sudo -n; }); then
		echo "make test: installing $${missing[*]}" >&2
		{ $$sudo apt-get -qq update || true
		$$sudo apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$${missing[@]}" || true
		} </dev/null >&2
	fi
	if ! compiles; then
		echo "make test: NO C COMPILER: the tests run WITHOUT the race detector. Debian has it as gcc and libc6-dev." >&2
		race=
	fi
	# Clients and libraries of others that tests use; they fail without them.
	for folder in $(NPM:%=integrations/%); do
		if ! [ "$$folder/node_modules/.package-lock.json" -nt "$$folder/package-lock.json" ] && ! npm ci --prefix "$$folder" >&2; then
			echo "make test: NO NPM PACKAGES in $$folder: tests will fail. Debian has Node.js and npm as nodejs and npm." >&2
		fi
	done
	# What measures runs alone.
	export CGO_ENABLED=$${race:+1} race
	scripts/with-postgres bash -euc '
		go test $$race -shuffle=on -count=1 -timeout=30m -skip "$(MEASURING)" ./...
		go test $$race -count=1 -timeout=15m -run "$(MEASURING)" ./cmd/triggerd'

.PHONY: simulate
simulate: check-go ## Run the simulation with SEEDS, for example 7,42 (ten new ones)
	@echo "again with: make simulate SEEDS=$(SEEDS)"
	SIMULATION_SEED=$(SEEDS) go test -count=1 -timeout=15m -run '^TestSimulation$$' ./internal/deliver

.PHONY: fuzz
fuzz: check-go ## Run each fuzz target for FUZZTIME (10s)
	@list=$$(go test -list '^Fuzz' ./...) || { echo "$$list" >&2; exit 1; }
	awk '/^Fuzz/ { t[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, t[i]; n = 0 }' <<<"$$list" |
	while read -r package target; do
		echo "== $$package $$target"
		log=$$(go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) "$$package" 2>&1 </dev/null | tee >(cat >&2)) && continue
		# Up to Go 1.26 the end of FUZZTIME itself is now and then taken for a failure: go.dev/issue/75804.
		if grep -q 'Failing input' <<<"$$log" || ! grep -qx ' *context deadline exceeded' <<<"$$log"; then exit 1; fi
		echo "== only the end of the time (go.dev/issue/75804)"
	done

.PHONY: plants
plants: check-go ## Plant known bugs into the program and see the torture find each of them
	@go test -tags plants -count=1 -timeout=20m -parallel=3 -v -run 'TestPlants|TestNoPlant' ./internal/torture | grep -v '^=== '

.PHONY: torture
torture: build ## Torture servers for an hour: FOR (5m) on each kind of database, ROUNDS (4) times
	@log=$$(mktemp) failed=0
	trap 'rm -f "$$log"' EXIT
	for _ in $$(seq $(ROUNDS)); do
		for how in '--database sqlite' '--database postgres --nodes 2' '--database standby --nodes 3'; do
			bin/triggerd torture --for $(FOR) $$how $(TORTURE) 2>&1 | tee -a "$$log" || failed=1
			echo
		done
	done
	awk '/^seed .* faults$$/ { runs++; seconds += $$(NF-3); faults += $$(NF-1) }
		/ organizations with .* POSTs: / { events += $$1; accepted += $$11 }
		/ requests to webhooks, / { deliveries += $$5 }
		/BROKEN/ { broken++ }
		END { printf "%d runs, %d s, %d faults, %d events, %d accepted, %d deliveries answered, %d breaches shown\n",
			runs, seconds, faults, events, accepted, deliveries, broken }' "$$log"
	# Once more, where who reads the end alone sees it: the run, the promise and the examples.
	[ "$$failed" = 0 ] || grep -E '^seed |^ +[1-9][0-9]*  |BROKEN:|^triggerd: ' "$$log"
	exit "$$failed"

.PHONY: bench
bench: build ## Measure a server on new databases, in some 50 minutes; BENCH='--runs 1' is for more flags
	@go build -trimpath -o bin/bench ./cmd/bench
	exec bin/bench --program bin/triggerd $(BENCH)

.PHONY: lint
lint: tools ## Run go vet, staticcheck and gofumpt
	@go vet -tags plants ./...
	$(TOOLS)/staticcheck -tags plants ./...
	unformatted=$$($(TOOLS)/gofumpt -l .)
	if [ -n "$$unformatted" ]; then printf 'gofumpt -w is needed for:\n%s\n' "$$unformatted" >&2; exit 1; fi

.PHONY: tools
tools: check-go ## Install the linters into .tools
	@for tool in honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK) mvdan.cc/gofumpt@$(GOFUMPT); do
		path=$${tool%@*}
		have=$$(go version -m "$(TOOLS)/$${path##*/}" 2>/dev/null || true)
		if [[ $$have != *": $$(go env GOVERSION)"* || $$have != *"	mod	"*"	$${tool#*@}	"* ]]; then
			echo "installing $$tool"
			GOBIN=$(TOOLS) GOFLAGS= go install "$$tool"
		fi
	done

.PHONY: check-go
check-go:
	@want=$$(awk '$$1 == "go" { print $$2 }' go.mod)
	if ! command -v go >/dev/null; then
		echo "Go is missing: install Go $$want or newer (https://go.dev/dl/) and put it into PATH." >&2
		exit 1
	fi
	have=$$(go env GOVERSION) || have=$$(GOTOOLCHAIN=local go env GOVERSION)
	have=$${have#go}
	if [ "$$(printf '%s\n' "$$want" "$${have%%[- ]*}" | sort -V | head -n 1)" != "$$want" ]; then
		echo "Go is too old: this is Go $$have, go.mod wants $$want or newer (https://go.dev/dl/)." >&2
		exit 1
	fi
