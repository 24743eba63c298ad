# Everything a person or a machine does with this checkout. `make` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

BIN := .venv/bin
READY := .venv/.ready
UV := uv>=0.9,<1
# Hundreds of processes are started: without files of bytecode each would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE
EXTRAS := admission aws github google modal pinecone postgresql redis

STARTED := $(shell date +%s)

# A named part with the seconds it took: $(call part,NAME,COMMAND)
define part
@echo; echo "== $(1)"; SECONDS=0; $(2); echo "== $(1): $$SECONDS s"
endef

.PHONY: help
help: ## List the targets.
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
		printf '  make %-10s %s\n' "$$name" "$$text"; done

.PHONY: setup
setup: $(READY) ## Make the environment in .venv from any Python 3.11 or newer.

$(READY): requirements.lock pyproject.toml
	@python=''; for one in $${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14 python}; do \
		if "$$one" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$one; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Python 3.11 or newer is needed; found: $$($${PYTHON:-python3} --version 2>&1 || echo none). Set PYTHON=/path/to/python3.11." >&2; \
		exit 1; \
	fi; \
	if [ ! -x $(BIN)/python ]; then \
		echo "== environment in .venv ($$("$$python" --version))"; \
		"$$python" -m venv .venv || { rm -rf .venv; echo "python -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }; \
	fi
	@echo "== packages from requirements.lock"
	@[ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check '$(UV)'
	@echo '--editable .' | $(BIN)/uv pip sync --python $(BIN)/python requirements.lock -
	@touch $@

.PHONY: lock
lock: $(READY) ## Write requirements.lock and the servers' lock files anew.
	$(BIN)/uv pip compile --quiet --no-emit-index-url --universal --python-version 3.11 --extra all \
		--generate-hashes pyproject.toml -o requirements-image.lock
	$(BIN)/uv pip compile --quiet --no-emit-index-url --universal --python-version 3.11 \
		$(EXTRAS:%=--extra %) --group dev --constraint requirements-image.lock pyproject.toml \
		-o requirements.lock
	cd tools/servers/requirements && for one in *.in; do \
		without="$${one%.in}.excludes"; test ! -f "$$without" || export UV_EXCLUDE="$$without"; \
		$(CURDIR)/$(BIN)/uv pip compile --quiet --no-emit-index-url --universal --python-version 3.11 \
			"$$one" -o "$${one%.in}.lock"; unset UV_EXCLUDE; done

.PHONY: demo
demo: $(READY) ## See it work, on this machine alone.
	@$(BIN)/python -m tools.demo

CHECKS := format lint types imports generated compatibility documentation

.PHONY: check $(CHECKS:%=check-%)
check: $(CHECKS:%=check-%) ## Format, lint, types, imports, generated files, documentation.

check-format: $(READY)
	$(call part,format,$(BIN)/ruff format --check)

check-lint: $(READY)
	$(call part,lint,$(BIN)/ruff check)

check-types: $(READY)
	$(call part,types,$(BIN)/mypy)

check-imports: $(READY)
	$(call part,imports,$(BIN)/lint-imports)

check-generated: $(READY)
	$(call part,generated files,$(BIN)/python -m tools.generate --check)

check-compatibility: $(READY)
	$(call part,compatibility,$(BIN)/python -m tools.compatibility)

check-documentation: $(READY)
	$(call part,documentation,$(BIN)/python -m tools.docs)

.PHONY: programs programs-kubernetes programs-servers
programs: programs-kubernetes programs-servers ## Build and install, into the cache, what the tests start.

programs-kubernetes: $(READY)
	$(call part,control plane,$(BIN)/python -m tools.controlplane build)
	$(call part,helm,$(BIN)/python -m tools.helm)
	$(call part,kstatus,$(BIN)/python -m tools.kstatus)
	$(call part,nodes,$(BIN)/python -m tools.nodes)
	$(call part,promtool,$(BIN)/python -m tools.promtool)

programs-servers: $(READY)
	$(call part,servers,$(BIN)/python -m tools.servers)

# The checks and the builds run beside each other, and the builds give way (they are niced). Through
# a pipe each says a line now and then; on a terminal their living lines would overwrite each other.
.PHONY: test
test: $(READY) ## Everything: check, tests, end-to-end tests.
	@$(MAKE) -j 4 check programs 2>&1 | cat
	$(call part,tests,$(BIN)/pytest -n 2 --dist loadgroup --durations 15 --durations-min 10 tests)
	$(call part,end-to-end tests,$(BIN)/pytest -n 3 --dist each -v -o console_output_style=classic \
		e2e --ignore=e2e/gitops)
	@echo; echo "== all passed in $$(($$(date +%s) - $(STARTED))) s"

.PHONY: e2e-gitops
e2e-gitops: $(READY) ## Argo CD and Flux, end to end; building them takes half an hour.
	$(call part,programs,$(BIN)/python -m tools.argocd && $(BIN)/python -m tools.flux)
	$(call part,GitOps,$(BIN)/pytest e2e/gitops)

.PHONY: generate
generate: $(READY) ## Write the generated files: CRDs, chart, reference.
	$(BIN)/python -m tools.generate

.PHONY: docs
docs: $(READY) ## Build the documentation site into build/docs/site, strictly.
	$(BIN)/python -m tools.docs

.PHONY: bench
bench: $(READY) ## Measure.
	$(BIN)/python -m bench

.PHONY: clean
clean: ## Remove what was made in the checkout; the cache outside it stays.
	rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
