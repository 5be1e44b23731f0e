# Every target sets up what it needs: a virtual environment in .venv, from requirements.lock, and a
# small one for the book in .venv-book.
PYTHON ?= python3
JOBS ?= 2
DEVICE ?= cpu
TIMES ?= 20
NOTEBOOKS ?= $(wildcard notebooks/*.ipynb)
BIN := .venv/bin
READY := .venv/.ready
BOOK_BIN := .venv-book/bin
BOOK_READY := .venv-book/.ready
# It runs last, because it reads what the others record
SCORECARD := notebooks/09_scorecard.ipynb

.DEFAULT_GOAL := help
.PHONY: help reproduce test coverage test-oldest flake book atlas bench attack lab notebooks lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "make TARGET JOBS=2        notebooks or tests at a time"
	@echo "make TARGET PYTHON=python3  the Python, 3.11 or later, that .venv is made from"
	@echo "make TARGET DEVICE=cpu    where notebooks and benchmarks run: cpu, cuda or auto"
	@echo "make flake TIMES=20       how often; NOTEBOOKS=... for some of them"

define new_environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv
endef

$(READY): requirements.lock pyproject.toml reproduction/pyproject.toml
	$(new_environment) .venv
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable . --editable reproduction
	mkdir -p .venv/etc/ipython  # kernels warn about transports and interrupts on papermill's bar
	echo 'c.IPKernelApp.log_level = 50' > .venv/etc/ipython/ipython_kernel_config.py
	@touch $@

$(BOOK_READY): requirements-book.lock
	$(new_environment) .venv-book
	$(BOOK_BIN)/pip install --quiet --require-hashes --requirement requirements-book.lock
	@touch $@

reproduce: $(READY)  ## run all notebooks on the embedded banks, print the scorecard
	$(BIN)/paperlib reproduce --jobs $(JOBS) -p device $(DEVICE)

test: export PAPERLIB_FIGURES = $(CURDIR)/build/test
test: $(READY) $(BOOK_READY)  ## lint, types, unit tests, and nbval over every notebook
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy paperlib reproduction
	rm -rf build/test
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(JOBS) --dist loadfile
	$(BIN)/pytest --quiet tests/test_tables.py

book: $(BOOK_READY) atlas  ## notebooks, pages, verdicts and atlas as a site in build/book/html
	$(BOOK_BIN)/python book/build.py --atlas build/atlas

coverage: export PAPERLIB_FIGURES = $(CURDIR)/build/coverage
coverage: $(READY)  ## the tests again: which lines of the three buildings none of them reaches
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest tests --numprocesses $(JOBS) --dist loadfile --quiet
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

test-oldest:  ## unit tests with the oldest versions that pyproject.toml admits, in .venv-oldest
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --require-hashes --requirement requirements-oldest.lock
	PYTHONPATH=$(CURDIR) OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest tests \
		--numprocesses $(JOBS) --dist loadfile -W ignore::DeprecationWarning \
		--deselect tests/test_packaging.py

flake: export PAPERLIB_FIGURES = $(CURDIR)/build/flake
flake: export OMP_WAIT_POLICY = passive  # threads beyond the cores would wait for each other, awake
flake: $(READY)  ## compare the notebooks with their stored outputs, TIMES over, by 1, 2, 4 threads
	@set -e; for run in $$(seq $(TIMES)); do for threads in 1 2 4; do \
		echo "run $$run of $(TIMES), $$threads threads"; \
		OMP_NUM_THREADS=$$threads $(BIN)/pytest --quiet $(NOTEBOOKS); \
	done; done

bench: $(READY)  ## measure speed and memory (minutes); DEVICE=cuda for a GPU
	$(BIN)/python -m benchmarks --device $(DEVICE)

attack: $(READY)  ## damage files and kill jobs by the thousand (an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack

atlas: $(READY)  ## make the interactive page build/atlas/index.html
	$(BIN)/paperlib atlas --out build/atlas

lab: $(READY)  ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

notebooks: $(READY)  ## run the notebooks in place: refresh stored outputs and figures/
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.record_timing=False \
		$(filter-out $(SCORECARD),$(wildcard notebooks/*.ipynb)) $(SCORECARD)

lock: $(READY)  ## pin the newest versions within pyproject.toml's ranges
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra study --extra test --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --quiet --output-file requirements.lock
	$(BIN)/python -c 'import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*extras["optional-dependencies"]["book"], sep="\n")' > build/book.in
	$(BIN)/uv pip compile build/book.in --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --quiet --output-file requirements-book.lock
	$(BIN)/uv pip compile pyproject.toml --extra study --extra test --resolution lowest-direct \
		--python-version 3.11 --python-platform x86_64-unknown-linux-gnu \
		--generate-hashes --no-emit-index-url --quiet --output-file requirements-oldest.lock

clean:  ## remove the environments and build/
	rm -rf .venv .venv-book .venv-oldest build
