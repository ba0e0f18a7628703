# Every target sets up what it needs from nothing but Python 3.11 and make.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# The two digits zoos are local zoos of this checkout.
export ZOOAUDIT_LOCAL_ZOOS ?= $(CURDIR)/examples/digits
export ZOOAUDIT_DATA_DIR ?= $(CURDIR)/.zooaudit

ZOOS := torchvision timm keras onnx
MODELS := resnet50 alexnet vgg16 vgg19 densenet121 googlenet squeezenet1_0 squeezenet1_1 mobilenet_v2 inception_v3 efficientnet_b0

.PHONY: help
help: ## Describe every target
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/' | expand -t 16

.PHONY: setup
setup: $(INSTALLED) ## Make .venv and install the pinned dependencies

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Zoo Audit needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

.PHONY: digits
digits: $(INSTALLED) ## Train the two digits zoos (skips what is trained already)
	$(BIN)/python examples/digits/train.py

.PHONY: audit
audit: digits ## Audit four zoos and the two digits zoos; print the ranked discrepancies
	$(BIN)/zooaudit audit $(ZOOS:%=--zoo %) $(MODELS:%=--model %) \
	  --dimension architecture --dimension latency --weights none --budget 25s
	$(BIN)/zooaudit audit --zoo digits-torch --zoo digits-keras --dataset digits --budget 10s

.PHONY: serve
serve: digits ## Serve the API with a local worker on http://127.0.0.1:8000
	$(BIN)/zooaudit serve

.PHONY: test
test: $(INSTALLED) ## Run the test suite on real Postgres, Redis and worker processes
	$(BIN)/pytest --numprocesses 2 --dist loadgroup

.PHONY: test-quick
test-quick: $(INSTALLED) ## Run the tests that take seconds
	$(BIN)/pytest --numprocesses 2 --dist loadgroup -m 'not slow'

.PHONY: fuzz
fuzz: $(INSTALLED) ## Ask the whole OpenAPI for thousands of odd things (schemathesis, minutes; EXAMPLES=25 of each kind)
	ZOOAUDIT_FUZZ_EXAMPLES=$(or $(EXAMPLES),25) $(BIN)/pytest --quiet tests/app/api/test_fuzz.py

.PHONY: golden
golden: $(INSTALLED) ## Compare every network that several zoos share with what is known of it, train every digits model (a quarter of an hour)
	$(BIN)/pytest --numprocesses 2 --dist loadgroup -m exhaustive

.PHONY: lint
lint: $(INSTALLED) ## Style and import rules, in seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

.PHONY: check
check: lint ## Everything that CI checks besides the tests: style, types, imports, schema, docs
	$(BIN)/mypy
	MYPYPATH=benchmarks:examples/digits/digits-torch $(BIN)/mypy --no-warn-return-any --allow-subclassing-any benchmarks/*.py
	$(BIN)/pytest --quiet tests/app/db/test_migrate.py tests/test_docs.py

.PHONY: benchmark
benchmark: digits ## Measure the steps of `make audit`
	$(BIN)/python benchmarks/audit_steps.py

.PHONY: benchmark-accuracy
benchmark-accuracy: $(INSTALLED) ## Measure every figure that docs/accuracy.md gives of speed and memory (minutes)
	$(BIN)/python benchmarks/accuracy.py

.PHONY: benchmark-architecture
benchmark-architecture: $(INSTALLED) ## Measure every figure of docs/architecture-diff.md (hours; QUICK=1: minutes)
	$(BIN)/python benchmarks/architecture.py $(if $(QUICK),--quick)

.PHONY: benchmark-latency
benchmark-latency: $(INSTALLED) ## Measure every figure of docs/latency.md (two hours)
	$(BIN)/python benchmarks/latency.py

.PHONY: benchmark-chaos
benchmark-chaos: $(INSTALLED) ## Kill workers, reaper, broker and databases under 2,000 jobs; see docs/operations.md
	$(BIN)/python benchmarks/chaos.py

.PHONY: benchmark-load
benchmark-load: $(INSTALLED) ## Measure what the API bears with a million findings in Postgres (six minutes)
	$(BIN)/python benchmarks/load.py

.PHONY: clean
clean: ## Remove the environment, the measured results and the trained digits
	rm -rf .venv .zooaudit examples/digits/*/weights
