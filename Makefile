# make demo   train the embedded default with hybrid batches, evaluate it before and after, print the table
# make test   the tests that take seconds;  make test-slow  the others;  make test-all  all of them
# make test-oldest  the tests that take seconds, beside the oldest releases that pyproject.toml allows
# make study-backbones  the two small backbones that the study starts from, 20 minutes each on two CPU cores
# make study-pretrained  multilingual-e5-small, a pretrained transformer to start from, in about a minute
# make study  every run of the study on this machine, then its report; needs the data and the backbones (study/README.md)
# make lint   style, types, import contract
# All of them first make .venv from constraints.txt, with nothing but Python >= 3.11 and a C++ compiler at hand.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OLDEST := .venv-oldest
DEMO   ?= demo
# Files of tests side by side: one a core, and no more than memory is likely to be there for.
TESTS_AT_ONCE ?= -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# Where the study's backbones are made and found.
export HYBATCH_BACKBONES ?= backbones
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: install demo study-backbones study-pretrained study test test-slow test-all test-oldest lint clean

install: $(STAMP)

# torch and the build tools come first: the package builds against the torch that it will run with.
$(STAMP): pyproject.toml setup.py constraints.txt $(shell find csrc -type f)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "hybatch needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt torch numpy "setuptools>=77" wheel ninja pybind11
	$(PIP) install -q -c constraints.txt --no-build-isolation -e ".[dev]"
	@touch $@

demo: $(STAMP)
	rm -rf $(DEMO)
	$(BIN)/accelerate launch --config_file configs/accelerate/cpu.yaml hybatch/train.py \
		--config configs/demo.yaml --output_dir $(DEMO)/run
	$(BIN)/hybatch evaluate --model $(DEMO)/run/initial --task embedded --output $(DEMO)/before
	$(BIN)/hybatch evaluate --model $(DEMO)/run/final --task embedded --output $(DEMO)/after
	$(BIN)/hybatch report $(DEMO)/before $(DEMO)/after --output $(DEMO)/report

study-backbones: $(STAMP)
	$(BIN)/python study/masked_language_model.py --config study/recipes/backbone-mini-xlmr.yaml
	$(BIN)/python -m hybatch.train --config study/recipes/backbone-mini-labse.yaml

study-pretrained: $(STAMP)
	$(BIN)/python study/pretrained.py

study: $(STAMP)
	$(BIN)/python study/run_grid.py study/grids/study.txt --recipe study/recipes/recipe.yaml \
		--runs runs/study --results results/study --tasks xquad-r mlqa-r tatoeba
	$(BIN)/hybatch report results/study --output reports/study

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" $(TESTS_AT_ONCE)

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow --durations=30 $(TESTS_AT_ONCE)

test-all: test test-slow

test-oldest:
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install -q uv
	$(OLDEST)/bin/uv pip compile -q --resolution lowest-direct --extra dev pyproject.toml -o $(OLDEST)/oldest.txt
	$(OLDEST)/bin/uv pip install -q --python $(OLDEST)/bin/python -r $(OLDEST)/oldest.txt \
		pip "setuptools>=77" wheel ninja "pybind11>=2.13"
	$(OLDEST)/bin/python -m pip install -q --no-build-isolation --no-deps -e .
	$(OLDEST)/bin/python -m pytest -m "not slow" $(TESTS_AT_ONCE)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(OLDEST) $(DEMO) build *.egg-info
