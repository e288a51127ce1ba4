# One virtual environment per checkout, outside of it; every target makes what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/aegis-otel/$(shell printf %s '$(CURDIR)' | cksum | cut -d' ' -f1)
RUN := $(CACHE)/run
DEV := $(CACHE)/dev
OLDEST := $(CACHE)/oldest
ENGINES := $(CACHE)/engines
SDKS := 0.24.0 0.21.1
# What depends on how the SDK behaves.
SDK_TESTS := tests/tutorial tests/adapters
SDK_RUN = $(CACHE)/sdk-$$sdk/bin/pip install --quiet --no-deps --force-reinstall . && \
	$(CACHE)/sdk-$$sdk/bin/python tests/sdk/run.py $(CACHE)/sdk-$$sdk/openai_agents-$$sdk
export RUFF_CACHE_DIR := $(CACHE)/ruff
export MYPY_CACHE_DIR := $(CACHE)/mypy
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
export PYTHONPYCACHEPREFIX := $(CACHE)/pycache
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-oldest test-sdk test-sdk-quick test-engines test-stack collector soak check format docs dashboards secret-rules bench clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(RUN)/.ready: pyproject.toml
	@echo "First an environment in $(RUN), which takes about a minute and needs the network." >&2
	@mkdir -p $(CACHE)
	$(PYTHON) -m venv --clear $(RUN)
	$(RUN)/bin/pip install --quiet --upgrade pip
	$(RUN)/bin/pip install --quiet --editable .
	@touch $@

$(DEV)/.ready: pyproject.toml
	@mkdir -p $(CACHE)
	$(PYTHON) -m venv --clear $(DEV)
	$(DEV)/bin/pip install --quiet --upgrade pip
	$(DEV)/bin/pip install --quiet --editable . --group dev --group bench
	@touch $@

$(OLDEST)/.ready: pyproject.toml
	@mkdir -p $(CACHE)
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --upgrade pip
	$(OLDEST)/bin/pip install --quiet --editable . --group test 'openai-agents==0.21.*'
	@touch $@

$(ENGINES)/.ready: pyproject.toml
	@mkdir -p $(CACHE)
	$(PYTHON) -m venv --clear $(ENGINES)
	$(ENGINES)/bin/pip install --quiet --upgrade pip
	$(ENGINES)/bin/pip install --quiet --editable . --group test --group engines
	@touch $@

# The SDK's own tests, from its source distribution, in an environment with what they need.
$(CACHE)/sdk-%/.ready: pyproject.toml
	@mkdir -p $(CACHE)
	$(PYTHON) -m venv --clear $(CACHE)/sdk-$*
	$(CACHE)/sdk-$*/bin/pip install --quiet --upgrade pip
	$(CACHE)/sdk-$*/bin/pip download --quiet --no-deps --no-binary openai-agents --dest $(CACHE)/sdk-$* openai-agents==$*
	tar --extract --gzip --directory $(CACHE)/sdk-$* --file $(CACHE)/sdk-$*/openai_agents-$*.tar.gz
	$(CACHE)/sdk-$*/bin/pip install --quiet . --group sdk-suite \
		'openai-agents[any-llm,dapr,docker,encrypt,litellm,mongodb,redis,s3,sqlalchemy,viz,voice]==$*'
	@touch $@

demo: $(RUN)/.ready ## a governed agent, offline: what runs, what is asked, what is blocked, and its trail
	@OPENAI_API_KEY= $(RUN)/bin/python examples/quickstart/main.py --show-signals

# Three workers: the tests wait for processes that they start for a quarter of their time.
test: $(DEV)/.ready ## the test suite (under 15 minutes on two cores)
	$(DEV)/bin/python -m pytest -n 3 -q --ignore tests/stack

test-oldest: $(OLDEST)/.ready ## what touches the SDK, on the oldest that is supported
	$(OLDEST)/bin/python -m pytest -n 2 -q $(SDK_TESTS)

# A part, while working: make test-sdk-quick RUN_ARGS="--mode sdk tests/test_run_state.py"
test-sdk: $(SDKS:%=$(CACHE)/sdk-%/.ready) ## the SDK's own test suite, governed in every way, against the same without us (80 minutes)
	@for sdk in $(SDKS); do $(SDK_RUN) $(RUN_ARGS); done

test-sdk-quick: $(CACHE)/sdk-0.24.0/.ready ## of that the files about tools, on 0.24.0, in enforce and with approvals="sdk"
	@sdk=0.24.0; $(SDK_RUN) --quick $(or $(RUN_ARGS),--mode enforce --mode sdk)

test-engines: $(ENGINES)/.ready ## Spark (needs Java) and ClickHouse's engine on the sealed Parquet and on events
	AEGIS_REQUIRE_STACK=1 $(ENGINES)/bin/python -m pytest -q \
		tests/audit/lake/test_other_engines.py tests/audit/lake/test_clickhouse.py

test-stack: $(DEV)/.ready ## the collector and what stands behind it, and PostgreSQL, run for real
	AEGIS_REQUIRE_STACK=1 $(DEV)/bin/python -m pytest -q --timeout 1800 tests/stack tests/state

collector: ## the OpenTelemetry Collector of collector/builder.yaml (needs Go; some minutes, once); prints its path
	@collector/build.sh

# How much of each, and for each engine of the state; less, for example: make soak RACES=20
soak: export KILLS = 200
soak: export CALLS = 5000
soak: export RACES = 100
soak: export ORDERS = 100
soak: export PAUSED_RUNS = 20
soak: export SCHEDULES = 10000
soak: export HISTORIES = 500
soak: $(DEV)/.ready ## the audit under kills and 8 processes, races for a limit, payments cut off, paused runs killed, answers in any order, histories of calls
	AEGIS_REQUIRE_STACK=1 STEPS=all $(DEV)/bin/python -m pytest -n 2 --dist worksteal -q --timeout 3600 \
		tests/audit/test_crash.py tests/audit/test_processes.py tests/state/test_processes.py \
		tests/state/test_never_twice.py tests/state/test_paused_runs.py tests/state/test_inbox_answers.py \
		tests/adapters/openai_agents/test_sequences.py

check: $(DEV)/.ready ## formatting, lint and types
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/ruff check .
	$(DEV)/bin/mypy

format: $(DEV)/.ready ## rewrite what the formatter and the linter can
	$(DEV)/bin/ruff format .
	$(DEV)/bin/ruff check --fix .

docs: $(DEV)/.ready ## write the generated tables in docs/ anew
	$(DEV)/bin/python -m docs.generate

dashboards: $(DEV)/.ready ## write Grafana's dashboards and the alert rules anew
	$(DEV)/bin/python -m dashboards

secret-rules: ## take over the newest rules of gitleaks for redaction (needs Go and the network)
	$(PYTHON) tools/secret_rules.py

bench: $(DEV)/.ready ## speed, as ratios to the peer in one process
	$(DEV)/bin/python benchmarks/decision.py
	$(DEV)/bin/python benchmarks/policy_check.py
	$(DEV)/bin/python benchmarks/operators.py
	$(DEV)/bin/python benchmarks/replay.py
	$(DEV)/bin/python benchmarks/governed_call.py
	$(DEV)/bin/python benchmarks/signals.py
	$(DEV)/bin/python benchmarks/loop_stall.py
	$(DEV)/bin/python benchmarks/agent_run.py
	$(DEV)/bin/python benchmarks/audit.py
	$(DEV)/bin/python benchmarks/audit_power.py
	$(DEV)/bin/python benchmarks/state.py
	$(DEV)/bin/python benchmarks/approvals_page.py
	$(DEV)/bin/python benchmarks/collector.py

clean: ## remove this checkout's environments and caches
	rm -rf $(CACHE)
