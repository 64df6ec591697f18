# make figures    set up, run every notebook at its quick default, file figures and tables under figures/quick/
# make test       set up, run the tests and the notebooks under nbval
# PIP_ARGS        extra arguments for pip, PYTHON the interpreter that makes .venv, JOBS notebooks at a time,
# TEST_JOBS test processes at a time, each with one thread (3 keep 2 cores busy: some wait for a browser or a file)

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
TEST_JOBS ?= 3
PIP_ARGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup setup-browser figures figures-full test test-slow lint lab app pretrain clean
.DEFAULT_GOAL := help

help:
	@echo "make setup         make $(VENV) and install classvec_lab with its tools (about 2 minutes)"
	@echo "make figures       every notebook at its quick default -> figures/quick/"
	@echo "make figures-full  every notebook at its published settings -> figures/ and its gallery page"
	@echo "make test          tests, and the notebooks under nbval"
	@echo "make test-slow     full-length statistical checks"
	@echo "make lint          ruff, and notebooks without outputs"
	@echo "make lab           JupyterLab at the live panels (notebooks/12_explore.ipynb)"
	@echo "make app           the panels alone, served by Voila"
	@echo "make setup-browser a Chromium for the tests that drive the panels"
	@echo "make pretrain      train the built-in model again (about half an hour)"
	@echo "make clean         remove $(VENV), caches and quick figures"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: no '$(PYTHON)' on this machine; install Python 3.11 or newer, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: classvec_lab needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1); say make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: '$(PYTHON)' lacks the venv module (on Debian and Ubuntu: apt-get install python3-venv)"; exit 1; }
	@echo "[setup 1/2] making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "[setup 2/2] installing classvec_lab and its tools (1.6 GB on disk, 1 to 3 minutes)"
	@$(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

figures: setup
	$(BIN)/classvec run --jobs $(JOBS)

figures-full: setup
	$(BIN)/classvec run --full --jobs $(JOBS)
	$(BIN)/classvec gallery

# Notebooks come first, and first of all those that train models of their own: nobody waits for another's training.
FIRST := $(patsubst %,notebooks/%.ipynb,15_how_many_classes 00_verdict 04_neural_collapse 07_environment)
test: setup
	CLASSVEC_FIGURES=$$(mktemp -d) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadscope --no-loadscope-reorder \
		--nbval-lax $(FIRST) $(filter-out $(FIRST),$(wildcard notebooks/*.ipynb)) tests

test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n $(TEST_JOBS) --dist loadfile tests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb

# Debian's and Ubuntu's package where there is apt, else the build that Playwright offers.
setup-browser: setup
	@for name in chromium chromium-browser google-chrome; do command -v $$name && exit 0; done; \
	sudo=$$([ "$$(id -u)" = 0 ] || command -v sudo); \
	if command -v apt-get >/dev/null && { [ "$$(id -u)" = 0 ] || [ -n "$$sudo" ]; }; then \
		echo "[browser] installing chromium with apt-get"; \
		$$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	else \
		echo "[browser] no apt-get here: asking Playwright for its Chromium"; \
		$(BIN)/playwright install chromium; \
	fi

lab: setup
	$(BIN)/jupyter lab --notebook-dir notebooks --LabApp.default_url=/lab/tree/12_explore.ipynb

app: setup
	$(BIN)/voila notebooks/12_explore.ipynb --strip_sources=True

pretrain: setup
	$(BIN)/python benchmarks/pretrain.py

clean:
	rm -rf $(VENV) figures/quick data/cache build dist .pytest_cache .ruff_cache .hypothesis
