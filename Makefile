# From a fresh clone, with Python >= 3.11, Git and make:
#   make repro    rebuild everything: data, requests on hexagons, classifier, metrics, report
#   make test     ruff, mypy, import rules and all tests
#   make install  install, and nothing else
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
INSTALLED := .venv/installed

.PHONY: install repro test types tests lowest format prose lock bucket clean

repro: $(INSTALLED)
	dvc pull --quiet --remote embedded data.dvc
	capetown check
	@mkdir -p logs
	dvc repro | tee logs/repro.log
	@echo
	@ran=$$(sed -n "s/^Running stage '\(.*\)':$$/\1/p" logs/repro.log | paste -sd ' '); \
	echo "Stages run: $${ran:-none, everything was up to date}"; \
	changed=$$(dvc metrics diff); \
	if [ -n "$$changed" ]; then echo "Metrics:    changed since the last commit"; echo "$$changed"; \
	else echo "Metrics:    unchanged since the last commit"; fi; \
	echo "Report:     $(CURDIR)/reports/index.html"

install: $(INSTALLED)

test: $(INSTALLED)
	ruff check .
	ruff format --check .
	lint-imports --no-cache
	@$(MAKE) --no-print-directory --jobs=2 types tests

types: $(INSTALLED)
	mypy

tests: $(INSTALLED)
	pytest --numprocesses auto

# The lowest versions that pyproject.toml allows, with tests that reach most packages. uv finds the
# versions, and pip installs them: it adds the CUDA packages where the torch build wants them. Old
# versions may warn.
LOWEST := tests/imagery/test_every_tiff.py tests/requests/test_join.py tests/report/test_text.py \
    tests/pools/evaluation/test_compare.py tests/pools/evaluation/test_label_audit.py \
    tests/pools/model/test_architecture.py tests/pools/prediction/test_command.py \
    tests/pools/prediction/test_executors.py tests/pools/prediction/test_export.py \
    tests/stages/test_experiments.py::test_an_experiment_can_be_kept_and_undone

lowest:
	rm -rf .venv-lowest
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet uv
	.venv-lowest/bin/uv pip compile --quiet --no-annotate --python .venv-lowest/bin/python \
	    --resolution lowest-direct --all-extras pyproject.toml \
	    | grep -viE '^(nvidia|triton|cuda)' > .venv-lowest/requirements.txt
	.venv-lowest/bin/pip install --quiet --requirement .venv-lowest/requirements.txt
	.venv-lowest/bin/pip install --quiet --no-deps --editable .
	.venv-lowest/bin/python -m pytest --numprocesses auto -W default $(LOWEST)
	rm -rf .venv-lowest

format: $(INSTALLED)
	ruff check --fix .
	ruff format .

# Words that the documents avoid, as advice: finding some is not an error.
prose:
	@git grep -nwiE -f tools/house-style.txt -- '*.md' '*.md.j2' ':!benchmarks/log.md' ':!benchmarks/tried.md' ':!reports' || true

# New pins within pyproject.toml's bounds. torch's own pins differ by build, so its CUDA packages
# are left to pip, which adds them where the torch build wants them.
lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet torch==2.13.0
	.venv-lock/bin/pip install --quiet '.[cluster,dev,export,fast]'
	.venv-lock/bin/pip freeze --exclude capetown | sed 's/+cpu$$//' \
	    | grep -viE '^(nvidia|triton|cuda)' > requirements.lock
	rm -rf .venv-lock

# A new embedded bucket: every version stays in Git's history, 10.5 MB each. DVC pushes nothing whose
# output says `push: false`, so that is written last.
bucket: $(INSTALLED)
	rm -rf data data.dvc .dvc/embedded
	python -m tools.synthetic data
	dvc add --quiet data
	dvc push --quiet --remote embedded data.dvc
	printf '  remote: embedded\n  push: false\n' >> data.dvc

clean:
	rm -rf .venv logs checkpoints

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "error: Python 3.11 or newer is needed; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	@# The pip of Debian 12 prints a deprecation notice without --use-pep517.
	.venv/bin/pip install --quiet --use-pep517 --requirement requirements.lock
	.venv/bin/pip install --quiet --no-deps --editable .
	.venv/bin/capetown plots
	touch $@
