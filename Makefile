# The project's commands. `make setup` is behind all of them.
.PHONY: help demo test check format setup load faults bench report clean openapi studio docs

VENV := .venv/bin
STAMP := .venv/.complete

help:  ## list the commands
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml requirements.lock scripts/setup.sh
	@scripts/setup.sh
	@touch $@

setup: $(STAMP)  ## create .venv with pinned dependencies

demo: $(STAMP)  ## generate a graph, train, build, publish and serve it on 127.0.0.1:8000
	@exec $(VENV)/twhin demo --dir .demo

test: $(STAMP)  ## run the tests, with a real Redis server and a real browser
	@scripts/test_tools.sh
	@$(VENV)/pip install -q --disable-pip-version-check -c requirements.lock --group kernels --group deploy --group spark
	@# What failed beside others on two cores runs once more by itself: what fails twice is a fault.
	$(VENV)/pytest -n 2 --dist loadfile --cache-clear || $(VENV)/pytest --last-failed --last-failed-no-failures none

check: $(STAMP)  ## format, lint, types, architecture, the Helm chart
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/lint-imports
	@$(VENV)/pip install -q --disable-pip-version-check -c requirements.lock --group deploy
	$(VENV)/python scripts/check_chart.py

format: $(STAMP)  ## format the code and mend what can be mended
	$(VENV)/ruff format .
	$(VENV)/ruff check --fix .

openapi: $(STAMP)  ## write openapi.json from the service, and the client from it
	$(VENV)/python -m service.openapi > openapi.json
	$(VENV)/python client/generate.py

docs: $(STAMP)  ## build the documentation site into site/, strictly: a broken link fails
	@NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs -q build --strict
	@echo "site/index.html; to search it: python3 -m http.server -d site"

studio:  ## build the studio from its sources; needs Node.js
	npm --prefix studio ci
	npm --prefix studio run build

load: $(STAMP)  ## a short load test against the demo's bundle
	$(VENV)/twhin demo --dir .demo --no-serve
	$(VENV)/python -m loadtests.run --bundles .demo/bundles

faults: $(STAMP)  ## damage, attacks and overload: a table of promises, in under twenty minutes
	@scripts/test_tools.sh
	$(VENV)/python -m faults

bench: $(STAMP)  ## the seeded benchmarks, as tables
	$(VENV)/python -m benchmarks.train
	$(VENV)/python -m benchmarks.index
	$(VENV)/python -m benchmarks.serve

report: $(STAMP)  ## the evaluation report of the demo graph, as one HTML page, in under five minutes
	$(VENV)/twhin demo --dir .demo --no-serve
	$(VENV)/twhin evaluate all --run .demo/run --bundles .demo/bundles --report .demo/report --skip ease

clean:  ## remove the environment and the demo
	rm -rf .venv .demo site
