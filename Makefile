# run: try lane · test: all tests, and lint beside them · lint · coverage · fuzz · bench · clean
# reference: write conf/*.conf, docs/OPTIONS.md and share/ anew, from the table of options in lane/config/settings.py
# deb: build dist/lane_*.deb, for the Debian that builds it · test-packages: install that, and build and run the image of Containerfile (root)
# lock: find the newest versions that setup.cfg allows; run and test install those of locks/, by their hashes
# soak: everything at once for 20 minutes, or ARGS="--minutes 60 --plot FILE"; fails if anything grows (see bench/soak.py)
# bench: proxies on loopback · bench-flood: strangers, or ARGS="--attacks all" · bench-strangers: crowds of them beside one user · bench-aborts: a thousand connections that end at once · bench-networks, bench-buffers, bench-auto, bench-udp, bench-upgrade: on emulated links (see bench/labs.py)
# story: how lane came to be, measured anew on emulated links (20 minutes, root), as a report: story.html, or ARGS="--output FILE"; ARGS="--quick" takes two to three minutes
# Variables: PYTHON (makes the virtual environment), DEB_PYTHON (runs lane from the .deb), ARGS (more arguments for what is run), JOBS (tests at once, of those that mostly wait)

PYTHON ?= python3
DEB_PYTHON ?= /usr/bin/python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check
COMPILED := plugins/lane_quic/fastpath/native*.so
ARGS ?=
JOBS ?= 8

# Children write byte code also where the environment forbids it: without, each process compiles what it imports.
export PYTHONDONTWRITEBYTECODE =

.PHONY: run test pytest test-packages deb lint coverage fuzz soak bench bench-networks bench-buffers bench-auto bench-loopback bench-flood bench-strangers bench-aborts bench-udp bench-upgrade story reference lock clean

run: .venv/.lane
	$(BIN)/lane $(ARGS)

test: .venv/.test
	$(MAKE) -j2 pytest lint

# First compiles all tests once: the JOBS would each do so. What is wrong with one, they say.
pytest: .venv/.test
	-@$(BIN)/pytest --collect-only -qq >/dev/null
	$(BIN)/pytest -n $(JOBS) --dist worksteal $(ARGS)

test-packages: .venv/.test
	LANE_TEST_PACKAGES=1 $(BIN)/pytest --timeout=3600 tests/packages $(ARGS)

coverage: .venv/.test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(JOBS) --dist worksteal -m "not bulk" $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=90

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/mypy

fuzz: .venv/.test
	HYPOTHESIS_PROFILE=fuzz $(BIN)/pytest --timeout=0 tests/fuzz tests/unit/session/test_protocol_world.py $(ARGS)

reference: .venv/.test
	$(BIN)/python -m lane.cli.reference

deb: .venv/.lane
	package/deb/build $(BIN)/python $(DEB_PYTHON)

# The plot alone needs .venv/.bench.
soak: .venv/.test
	$(BIN)/python bench/soak.py $(ARGS)

bench: bench-loopback

bench-networks bench-buffers bench-auto bench-loopback bench-flood bench-strangers bench-aborts bench-udp bench-upgrade: bench-%: .venv/.bench
	$(BIN)/python bench/$*.py $(ARGS)

story: .venv/.bench
	$(BIN)/python bench/story.py $(ARGS)

COMPILE = $(BIN)/uv pip compile -q --upgrade --universal --generate-hashes --python-version 3.11 --custom-compile-command 'make lock'

# With what builds lane, which is not fetched apart then.
lock:
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) uv
	$(COMPILE) setup.cfg locks/build.in -o locks/run.txt
	$(COMPILE) setup.cfg locks/build.in --extra test -c locks/run.txt -o locks/test.txt

clean:
	rm -rf .venv build dist lane.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache $(COMPILED)

# Editable, so that run and test share one environment, and only a change of the packaging installs anew.
# A build/ of an earlier install would bring deleted modules back, and what was compiled then would stay if that
# fails now. It does without a compiler or headers, and Python does the same work (see setup.py). Without byte code, where the environment or the
# owner of the folder keeps Python from writing it, a third of each start would go into compiling.
.venv/.lane: setup.cfg setup.py pyproject.toml lane/__init__.py locks/run.txt plugins/lane_quic/fastpath/native.c
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	rm -rf build $(COMPILED)
	$(INSTALL) --require-hashes -r locks/run.txt
	$(INSTALL) --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q lane plugins
	touch $@

.venv/.test: .venv/.lane locks/test.txt
	$(INSTALL) --require-hashes -r locks/test.txt
	touch $@

.venv/.bench: .venv/.test
	$(INSTALL) --no-build-isolation -e '.[bench]'
	touch $@
