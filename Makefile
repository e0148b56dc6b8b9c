# attriflow: `make` runs the default study, `make test` the tests; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
NAME ?=
ARGUMENTS ?=

INSTALLED := $(VENV)/.installed
FILE = $(if $(NAME),"studies/$$NAME.yaml")
STUDY = $(if $(NAME),--configfile $(FILE))
PYTEST = --numprocesses auto --maxprocesses 4 --dist loadfile
READ = @python workflow/commands/read.py config.yaml
# jobs that would take more together than is free wait for each other; one that alone does is refused by itself
FREE = --resources mem_mb=$$(python workflow/commands/memory.py)

ifneq ($(words $(VENV)),1)
$(error VENV='$(VENV)': the path of the environment must be one word, without spaces)
endif

export PATH := $(abspath $(VENV))/bin:$(PATH)
export NAME

.PHONY: run study cluster test test-all lint format drill bench convergence curves scheduling publish record pull push repro unlock lock help
.DEFAULT_GOAL := run

run: $(INSTALLED) ## the default study (digits): results/evaluation/summary.csv and results/figures/
	$(READ)
	snakemake $(FREE)
	@python workflow/commands/report.py default

study: $(INSTALLED) ## one study: make study NAME=mnist runs studies/mnist.yaml
	@test -f "studies/$$NAME.yaml" || { echo "make study NAME=<name>; studies: $(basename $(notdir $(wildcard studies/*.yaml)))"; exit 2; }
	$(READ) $(FILE)
	snakemake $(STUDY) $(FREE)
	@python workflow/commands/report.py "$$NAME"

cluster: $(INSTALLED) ## the default study, or NAME=..., on a SLURM cluster (docs/cluster.md)
	$(READ) $(FILE)
	python workflow/commands/cluster.py $(STUDY) $(ARGUMENTS)

test: $(INSTALLED) ## the tests that take minutes; those that need a data mirror or a GPU run where there is one
	python -m pytest $(PYTEST) -m "not slow"

test-all: test ## and the rest: whole studies, reruns, DVC, stores, SLURM where there is one, simulations
	python -m pytest $(PYTEST) -m slow

lint: $(INSTALLED) ## ruff, snakefmt, snakemake --lint, and the schema checks of config.yaml and every study
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint
	python workflow/commands/check.py

format: $(INSTALLED) ## put Python and Snakemake files into the project's format
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

drill: $(INSTALLED) ## what can go wrong, brought about: docs/results/drills.csv; or some of it: make drill NAME=disk_full
	python -m drills.run $(NAME:%="$$NAME")

convergence: $(INSTALLED) ## how iterative solvers approach exact influence: docs/results/convergence/
	python benchmarks/convergence.py

curves: $(INSTALLED) ## how the cost of every room grows: docs/results/scale/curves.csv
	python benchmarks/cost_curves.py

scheduling: $(INSTALLED) ## how long 1,000, 10,000 and 100,000 jobs take to plan: docs/results/scale/scheduling.csv
	python benchmarks/scheduling.py

bench: .venv-bench/.installed .venv-bench-pydvl/.installed ## speed against the naive way and other libraries, as ratios: benchmarks/results.csv
	.venv-bench/bin/python benchmarks/run.py

publish: $(INSTALLED) ## copy a study's summary and figures to docs/results/: make publish NAME=mnist
	python workflow/commands/publish.py "$$NAME"

record: $(INSTALLED) ## after snakemake: drop what no study makes any more and let DVC version the results
	python workflow/commands/record.py

push: $(INSTALLED) ## send the recorded results to the DVC remote
	@python workflow/commands/remote.py push $(ARGUMENTS)

pull: $(INSTALLED) ## fetch the results of this commit from the DVC remote; nothing is left to do then
	@python workflow/commands/remote.py pull $(ARGUMENTS)

repro: $(INSTALLED) ## the default study through DVC, a stage a room
	dvc repro

unlock: $(INSTALLED) ## after a kill: free the folder; then run again, finished jobs are kept
	snakemake --unlock

lock: ## pin every dependency anew: requirements.lock from pyproject.toml
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet pip-tools
	.venv-lock/bin/pip-compile --quiet --extra dev --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links \
	  --no-emit-trusted-host --no-header --annotation-style line --output-file requirements.lock pyproject.toml
	sed -i -E 's/^(torch==[0-9.]+)\+[a-z0-9]+/\1/' requirements.lock
	rm -rf .venv-lock

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1|\2/' | column -t -s '|'

.venv-bench/.installed: requirements.lock benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --disable-pip-version-check --quiet --requirement requirements.lock
	.venv-bench/bin/pip install --disable-pip-version-check --quiet --no-deps --requirement benchmarks/requirements.txt
	touch $@

.venv-bench-pydvl/.installed: benchmarks/requirements-pydvl.txt
	$(PYTHON) -m venv .venv-bench-pydvl
	.venv-bench-pydvl/bin/pip install --disable-pip-version-check --quiet --requirement benchmarks/requirements-pydvl.txt
	touch $@

$(INSTALLED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "attriflow needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; give another: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --disable-pip-version-check --quiet --requirement requirements.lock
	touch $@
