# `make demo` and `make test` do everything on a machine with Python 3.11 or newer and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# One process per core; each loads onnxruntime, so not more than memory is sure to hold.
PARALLEL := --numprocesses auto --maxprocesses 8
STAMP := $(VENV)/.installed

.PHONY: venv browser demo test test-full check format bench golden wheel lock clean

venv: $(STAMP)

$(STAMP): pyproject.toml requirements-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(STAMP)

demo: venv
	$(BIN)/quantkit demo --output demo_output

# The browser that reads the HTML pages in the tests; where it cannot be had they skip, and say so.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "installing chromium ..." && \
	  { apt-get install --yes --no-install-recommends chromium >/dev/null 2>&1 || \
	    { apt-get update >/dev/null && \
	      apt-get install --yes --no-install-recommends chromium >/dev/null; }; }; } || \
	  echo "no browser, and it cannot be installed: tests of HTML pages are skipped"

test: check browser
	$(BIN)/pytest $(PARALLEL) -m "not slow"

test-full: venv browser
	$(BIN)/pytest $(PARALLEL)

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: venv
	$(BIN)/pytest --update-golden

bench: venv
	$(BIN)/python -m benchmarks

wheel: venv
	$(BIN)/python -m build

# The development environment anew, hashed and without addresses; needs uv.
lock:
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url --output-file requirements-dev.txt

clean:
	rm -rf $(VENV) build dist demo_output bench_output *.egg-info
