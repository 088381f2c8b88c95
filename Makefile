# Each target does its own set-up and may be repeated: what is there already is kept, what changed is made anew.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo demo-down test test-unit test-swarm test-faults bench bench-injector fuzz audit images lint requirements \
  venv compiled engine

# Tests of behaviour mostly wait. Those in one file may share what they start, so each file stays in one process.
SEVERAL := -n 3 --dist loadfile

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: images  ## a labelled container answers HTTPS on port 8081
	@tools/demo.sh up

demo-down:  ## removes what demo started
	@tools/demo.sh down

test: lint images compiled  ## everything: lint, unit, behaviour, engine and Swarm tests on a real Docker Engine
	@tools/clients.sh compose
	@tools/audit.sh sslyze
	@.venv/bin/pytest tests/unit
	@.venv/bin/pytest $(SEVERAL) tests/behaviour
	@.venv/bin/pytest tests/engine
	@.venv/bin/pytest tests/swarm
	@PYTHONPATH=.cache/compiled .venv/bin/pytest $(SEVERAL) tests/behaviour

test-unit: venv  ## unit and behaviour tests; needs no engine
	@tools/clients.sh
	@.venv/bin/pytest tests/unit
	@.venv/bin/pytest $(SEVERAL) tests/behaviour

test-swarm: images venv  ## three real engines as the nodes of a Swarm, on this machine
	@.venv/bin/pytest tests/swarm

test-faults: images venv  ## every fault at its full length on a real engine, and docs/faults.md (15 minutes)
	@.venv/bin/pytest tests/engine/faults --full --faults-report docs/faults.md

fuzz: venv  ## any bytes against the reader of HTTP, guided by coverage, for SECONDS=60
	@tools/fuzz.sh $(or $(SECONDS),60)

audit: venv  ## what sslyze and testssl.sh say of a sidecar, in both profiles (1 minute)
	@tools/audit.sh

bench: compiled  ## sslterm beside its peers, into docs/ (15 minutes); QUICK=1: on the screen only (2 minutes)
	@tools/peers.sh
	@.venv/bin/python -m bench.run $(if $(QUICK),--quick)

bench-injector: engine venv  ## what byfahrer costs, into docs/ (20 minutes); QUICK=1: less, on the screen only (5 minutes)
	@tools/images.sh sslterm
	@.venv/bin/python -m bench.injector $(if $(QUICK),--quick)

images: engine  ## the images sslterm, byfahrer and httpcheck
	@tools/images.sh

lint: venv  ## ruff, mypy and the import directions
	@.venv/bin/ruff check --quiet --output-format concise
	@.venv/bin/ruff format --check --quiet
	@.venv/bin/mypy --no-error-summary
	@.venv/bin/lint-imports --no-logo

requirements:  ## requirements.txt anew, with the newest versions
	@tools/requirements.sh

venv:
	@tools/venv.sh

compiled: venv
	@tools/compile.sh

engine:
	@tools/engine.sh
