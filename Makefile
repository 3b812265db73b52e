# Each target sets itself up in .venv; nothing has to be installed by hand but make, git and Python 3.11+.

PYTHON ?= python3
BIN := .venv/bin
# what is run a second time with its journal on a real PostgreSQL
ON_POSTGRESQL := $(addprefix tests/test_,journal.py ledger.py lease.py late_truth.py limits.py server.py transitions.py flow.py) \
  $(addprefix tests/panel/test_,accounts.py search.py statistics.py)

# what `make bench` measures, in this order
BENCHES := bench-wire bench-call bench-growth bench-servers

.PHONY: help demo test fuzz bench $(BENCHES) bench-trunk bench-charts bench-flood bench-panel soak listen torture test-old-asterisk check lint format lock sbom audit sounds picture clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

demo: .venv/ready  ## pay by phone with the keyboard: no Asterisk, no credentials
	@$(BIN)/ivr-agi demo

# each of hundreds of processes would else compile the package for itself
test: export PYTHONDONTWRITEBYTECODE =
test: .venv/made  ## everything: style, types, all tests, a real Asterisk among them
	@# style and types need nothing of Debian's, and fill the time that its packages are waited for
	tools/together "make --no-print-directory lint" \
	  "tools/debian-packages chromium-headless-shell espeak-ng gcc libc6-dev mmdebstrap nginx-light openssl postgresql sip-tester stunnel4 systemd && \
	  tools/together tools/promtool tools/docker-compose"
	@# calls wait more than they work, and are timed: they come first
	tools/together "$(BIN)/pytest -n 3 --dist worksteal --ignore tests/asterisk" \
	  "$(BIN)/pytest -n 4 --dist worksteal tests/asterisk && \
	  nice -n 10 $(BIN)/pytest -n 2 --dist worksteal --journal=postgresql $(ON_POSTGRESQL)"

FUZZ_SECONDS ?= 120
fuzz: .venv/dev  ## what others send, by coverage-guided fuzzers: FUZZ_SECONDS for each of seven
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(BIN)/python tests/fuzz/run.py all --seconds $(FUZZ_SECONDS)

# one after the other, whatever -j says: two of them would measure each other
bench: .venv/dev  ## all of the next four, side by side with others: half an hour, on two idle cores
	@tools/debian-packages golang-go postgresql strace
	@for one in $(BENCHES); do $(MAKE) --no-print-directory $$one || exit; done

bench-wire: .venv/dev  ## the AGI wire alone, beside other FastAGI servers: ten minutes
	@tools/debian-packages golang-go
	$(BIN)/python benchmarks/wire.py

bench-call: .venv/dev  ## whole payments: how many a second, what we add to the bank's time, memory, start, stop: six minutes
	@tools/debian-packages golang-go strace
	$(BIN)/python benchmarks/call.py

bench-growth: .venv/dev  ## what grows with calls held and with rows in the journal: seven minutes
	@tools/debian-packages golang-go
	$(BIN)/python benchmarks/growth.py

bench-servers: .venv/dev  ## several processes and servers, one that dies, an upgrade: eight minutes
	@tools/debian-packages golang-go postgresql
	$(BIN)/python benchmarks/servers.py

bench-trunk: .venv/dev  ## a real Asterisk's CPU and ours, for the same calls: eight minutes; as root
	@tools/debian-packages mmdebstrap sip-tester
	$(BIN)/python benchmarks/trunk.py

bench-charts: .venv/dev  ## draw docs/benchmarks, and its tables, from what was measured
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python benchmarks/charts.py

SOAK_MINUTES ?= 60
soak: .venv/dev  ## SOAK_MINUTES of all sorts of calls, with restarts: every payment accounted for, nothing grows
	$(BIN)/python tests/soak/soak.py --minutes $(SOAK_MINUTES) --calls 20 --save

bench-flood: .venv/dev  ## what a flood costs those who pay: five minutes; as root, on two cores
	$(BIN)/python benchmarks/flood.py

bench-panel: .venv/dev  ## how long the panel's pages take with 100,000 payments
	$(BIN)/python benchmarks/panel.py

listen: .venv/dev  ## what a recogniser makes of the voices, on a telephone line
	$(BIN)/python benchmarks/listening.py

torture: .venv/dev  ## kill, cut the power, and call at random: an hour, on both databases
	@tools/debian-packages gcc libc6-dev postgresql
	$(BIN)/python tests/torture/torture.py --kills 1000 --journal sqlite
	$(BIN)/python tests/torture/torture.py --kills 100 --each 0 --servers 2 --journal sqlite
	$(BIN)/python tests/torture/torture.py --kills 1000 --journal postgresql
	$(BIN)/python tests/torture/torture.py --kills 150 --each 0 --servers 2 --journal postgresql
	$(BIN)/python tests/torture/torture.py --kills 150 --each 0 --servers 2 --lapse --outages --journal postgresql
	$(BIN)/python tests/power/long_power_loss.py
	MODEL_CALLS=200000 $(BIN)/pytest -n 2 --timeout 0 tests/model/test_ten_thousand_calls.py

test-old-asterisk: .venv/dev  ## one paid call through the Asterisk of Debian bullseye (16.28)
	@tools/debian-packages mmdebstrap
	CI=true ASTERISK_SUITE=bullseye $(BIN)/pytest tests/asterisk/test_payment_call.py -k test_paid

check: .venv/dev lint  ## the same without Asterisk: five minutes
	$(BIN)/pytest -n 2 --dist worksteal --ignore tests/asterisk

lint: .venv/dev  ## style and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: .venv/dev  ## put the style right
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

sounds: .venv/ready  ## speak what has changed, write docs/script.md (new English: `make voice` before)
	@tools/debian-packages espeak-ng
	@mkdir -p .cache
	$(BIN)/ivr-agi sounds build
	$(BIN)/ivr-agi sounds script > .cache/script.md && mv .cache/script.md docs/script.md

.PHONY: voice
voice: .venv/dev  ## the English voice: fetched, and held against what is shipped
	@tools/debian-packages espeak-ng
	@command -v npm >/dev/null || tools/debian-packages npm
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[voice]'
	$(BIN)/python tools/kokoro
	$(BIN)/pytest tests/sounds/test_kokoro.py::test_a_build_here_gives_the_english_that_is_shipped

lock: .venv/supply  ## pin what is installed (ARGS=--upgrade: the newest), and the bill of materials of it
	tools/lock $(ARGS)
	$(BIN)/python tools/sbom

sbom: .venv/ready  ## write sbom.cdx.json anew
	$(BIN)/python tools/sbom

audit: .venv/supply  ## known holes in what is locked: asks PyPI
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

picture: .venv/ready  ## draw docs/demo.svg anew
	$(BIN)/python tools/draw_demo.py docs/demo.svg

clean:  ## remove what was set up or built; the Asterisk of the tests stays in .cache
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/made: pyproject.toml
	@tools/python-ready $(PYTHON)
	$(PYTHON) -m venv .venv
	@touch $@

.venv/ready: .venv/made
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/supply: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[supply]'
	@touch $@

# uv takes half of pip's time; where it does not reach what pip is set up to ask, pip does it
.venv/dev: .venv/made
	$(BIN)/pip install --quiet --disable-pip-version-check 'uv>=0.13,<1' && \
	  UV_HTTP_RETRIES=1 $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --editable '.[dev]' || \
	  $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch .venv/ready $@
