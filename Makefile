# Every target sets itself up: with Python 3.11-3.13 and make on a fresh machine, `make book` is enough.
# Another interpreter: make book PYTHON=/path/to/python3.12

VENV := .venv
BIN := $(VENV)/bin
# the first of these that is new enough makes the environment
PYTHON ?= python3 python3.13 python3.12 python3.11 python
SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

# as old as the last build without a warning; what a build with warnings has read is read again, or they would be said once
BUILT := _build/html/.built

export OMP_NUM_THREADS ?= 1
# jupyter_core warns about its old folders without it
export JUPYTER_PLATFORM_DIRS := 1

.PHONY: help setup book test lab bench clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(VENV)/.installed  ## make .venv with the pinned versions (the others do it by themselves)

book: $(VENV)/.installed  ## execute the notebooks, build the site with warnings as errors, say where it is
	$(BIN)/python -m sba notebooks
	@if [ -n "$$(find _build/stage sba $(VENV)/.installed -name '*.pyc' -o -type f -newer $(BUILT) -print 2>&1)" ]; then \
	  rm -f $(BUILT); \
	  $(BIN)/jupyter-book build _build/stage --path-output . -W -n --keep-going --quiet || { rm -rf _build/.doctrees; exit 1; }; \
	  touch $(BUILT); \
	fi
	@echo "The book: file://$(CURDIR)/_build/html/index.html"

test: $(VENV)/.installed  ## check style, formatting and types, and run every test; those of the site read the built one
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lab: $(VENV)/.lab  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

bench: $(VENV)/.installed  ## measure the speed of training on this machine
	$(BIN)/python -m sba bench

clean:  ## remove what was built (not the environment)
	rm -rf _build

$(BIN)/python:
	@for python in $(PYTHON); do \
	  if "$$python" -c '$(SUPPORTED)' 2>/dev/null; then \
	    echo "making $(VENV) with $$("$$python" --version)"; exec "$$python" -m venv $(VENV); \
	  fi; \
	done; \
	echo "No Python 3.11, 3.12 or 3.13 with venv found among: $(PYTHON)." >&2; \
	echo "Install one (Debian, Ubuntu: also python3-venv), or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
	exit 1

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the pinned packages into $(VENV) (some minutes the first time)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[book,test]'
	@touch $@

# what the tests of examples/ and of clusters need besides
$(VENV)/.examples: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[examples,cluster]'
	@touch $@

$(VENV)/.lab: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[book,lab]'
	@touch $@
