# Two commands do all the set-up: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
# Where it is set, each of the hundreds of processes of a test run compiles anew all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-long dev check format helm lab-down clean bench-latency bench-identify bench-match bench-grab bench-sweep bench-sink bench-stream bench-scale bench-rules bench-intel soak

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

demo: ## install what is missing, then watch a lab network from end to end (ARGS=--json: one JSON document)
	@$(PYTHON) -m infra.app.bootstrap demo && exec $(BIN)/driftline demo $(ARGS)

test: dev check ## install what is missing, then check all and test all but the long proofs (ARGS are pytest's)
	$(BIN)/pytest -n 6 --ignore=tests/e2e --ignore=tests/fault $(ARGS)
	$(if $(ARGS),,$(BIN)/pytest -n 3 tests/e2e tests/fault)

test-long: dev ## the long proofs too: kills again and again, a million lines, the machine at rest, 200 examples of each property
	$(BIN)/pytest -m "long or not long" --hypothesis-profile=long $(ARGS)

dev: ## install what is missing for development
	@$(PYTHON) -m infra.app.bootstrap test

check: dev ## formatting, lint, types, import directions
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: dev ## format the code and mend what ruff can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

helm: ## lint the Helm chart and write what it renders to, for the tests to check (builds Helm with Go, once)
	@HELM=$$(command -v helm || echo $${XDG_CACHE_HOME:-$$HOME/.cache}/driftline/helm/bin/helm); \
	test -x "$$HELM" || GOBIN=$$(dirname "$$HELM") go install helm.sh/helm/v3/cmd/helm@v3.18.4; \
	set -- infra/deploy/helm/driftline --set kafka.bootstrap=kafka:9093 --set model.name=openai:gpt-5-mini --set model.secret=driftline-model; \
	"$$HELM" lint --strict "$$@" && "$$HELM" template driftline --kube-version 1.30.0 "$$@" > tests/meta/helm_rendered.yaml

lab-down: ## remove the demo's lab network, whoever started it
	@$(BIN)/python -m infra.local.lab down

clean: ## remove caches and the virtual environment
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

bench-latency: dev ## time from a target event to its finding row (ARGS="--events 150 --rate 5 100")
	@$(BIN)/python -m bench.latency $(ARGS)

bench-identify: dev ## banners a second that the table of rules identifies, and its slowest hostile banner
	@$(BIN)/python -m bench.identify $(ARGS)

bench-match: dev ## verdicts on versions made from 1,200 CVE records, right and wrong, and CVEs a second (ARGS="--rounds 9")
	@$(BIN)/python -m bench.match $(ARGS)

bench-grab: dev ## services a second that the scanner's own grabbers look into, without nmap
	@$(BIN)/python -m bench.grab $(ARGS)

bench-sweep: dev ## the sweep against masscan, zmap, nmap, rustscan, hping3; then its own word, by capture (ARGS="--only race --rounds 5")
	@$(BIN)/python -m bench.sweep $(ARGS)

bench-sink: dev ## rows a second from Kafka into ClickHouse, and milliseconds until a row is visible (ARGS="--only probes --rounds 1")
	@$(BIN)/python -m bench.sink $(ARGS)

bench-stream: dev ## the stream engine against Kafka Streams, quix-streams and Faust; the diff step; a million assets (ARGS="--only engine --rounds 3")
	@$(BIN)/python -m bench.stream $(ARGS)

bench-scale: dev ## records a second over partitions and workers; cost a record as assets grow (ARGS="--only grow")
	@$(BIN)/python -m bench.scale $(ARGS)

bench-intel: dev ## an EPSS day and single news from file to every service, and the memory of it all (ARGS="--only join --services 10000")
	@$(BIN)/python -m bench.intel $(ARGS)

bench-rules: dev ## derived SSVC against CISA's own, and how early the ranking names what is attacked (ARGS="--cve F --kev F --epss F --cut 2024-01-01")
	@$(BIN)/python -m bench.rules $(ARGS)

soak: dev ## the whole pipeline under a steady load for 20 minutes: memory, threads, descriptors flat, lag bounded (ARGS="--seconds 60 --every 1")
	@$(BIN)/python -m bench.soak $(ARGS)
