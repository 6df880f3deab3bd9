# make run: the comparison on a real workload; make test: all tests. Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test help environments fuzz-serve check coverage bench qtest guest-check release-check docs record clean
run: $(VENV)/run.stamp  # the comparison on a real workload, after setting up what it needs
	@$(BIN)/pagewarden compare examples/randrw.iolog
	@echo; echo "Go on with $(BIN)/pagewarden run, $(BIN)/pagewarden check, or $(BIN)/pagewarden --help"

test: $(VENV)/dev.stamp  # all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

environments: $(VENV)/dev.stamp  # every verb on every host that is short of something
	$(BIN)/python -m pytest tests/cli/test_environments.py -m "environments or not environments"

check: $(VENV)/dev.stamp  # format, lint, types
	$(BIN)/ruff format --check src tests bench examples
	$(BIN)/ruff check src tests bench examples
	$(BIN)/mypy

coverage: $(VENV)/dev.stamp  # reported, not gated; what runs in other processes and in compiled loops is not seen
	$(BIN)/python -m pytest --cov=pagewarden --cov-branch --cov-report=term:skip-covered

qtest: $(VENV)/run.stamp  # QEMU's own test of such a back end; builds it at first, which takes root and some minutes
	.ci/qtest

guest-check: $(VENV)/dev.stamp  # boots stock guests: what they map, and how full their pools get, against the model
	PAGEWARDEN_REQUIRE_LAB=1 $(BIN)/python -m pytest tests/lab/guest_check.py

release-check: $(VENV)/dev.stamp  # sdist and wheel, installed and used on each Python that is here; a minute
	$(BIN)/python -m pytest tests/release/release_check.py

docs: $(VENV)/docs.stamp  # a site of the pages; a link that leads nowhere is an error
	$(BIN)/python -m sphinx -E -q -W --keep-going -c docs -d build/doctrees . site
	@echo "site/docs/index.html"

record: $(VENV)/dev.stamp  # asks each kernel under QEMU, and keeps what it answers: tests/lab/recorded
	$(BIN)/python tests/kits/record_lab.py

fuzz-serve: $(VENV)/dev.stamp  # a million messages of a hostile vhost-user front end: some minutes
	PAGEWARDEN_FUZZ=1000000 $(BIN)/python -m pytest tests/vhost/test_fuzz.py

bench: $(VENV)/bench.stamp  # this program beside its peers: half an hour
	@for b in bench/*.py; do echo "== $$b"; $(BIN)/python $$b || exit 1; done

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[guest]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/run.stamp

$(VENV)/docs.stamp: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[docs]'
	@touch $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	$(PIP) -e '.[dev,bench]'
	@touch $@

help:  # this list
	@sed -n 's/^\([a-z-]*\):.*  # /\1\t/p' Makefile | expand -t 16

clean:  # everything that the others made
	rm -rf $(VENV) .cache build dist site .pytest_cache .mypy_cache .ruff_cache
