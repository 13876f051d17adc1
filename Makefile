# The one place where commands live: `make help` lists them. Python's side of it is lib/bipartition/pipeline.py.

PROFILE ?= demo
SEEDS ?=
ROWS ?=
DATASETS ?=
JOBS ?=
PYTHON ?= python3
TESTS ?= tests

places := VOC_ROOT DOGS_VS_CATS_ROOT OXFORD_PETS_ROOT RESNET18_WEIGHTS BIPARTITION_DATA BIPARTITION_RESULTS
known := PROFILE SEEDS ROWS DATASETS JOBS PYTHON TESTS $(places)
given := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
mistyped := $(filter-out $(known) MAKE% SHELL -%,$(given))
ifneq ($(mistyped),)
$(error unknown variable $(mistyped); the variables are $(known))
endif

# recipes read these from their environment: a value in the text of a recipe could end its quotes
export PROFILE SEEDS ROWS DATASETS JOBS PYTHON TESTS
# paths stay relative and scripts of .venv are run as modules, so that the folder's name may hold spaces
RUN := .venv/bin/python
PIPELINE = $(RUN) -m bipartition.pipeline --profile "$$PROFILE" --seeds "$$SEEDS" --rows "$$ROWS" --datasets "$$DATASETS" --jobs "$$JOBS"
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help env data train figures table report pets lessons reproduce smoke test bench torture lab lock clean
.SUFFIXES:
.NOTPARALLEL: # table must not begin before train has ended; JOBS is what shares out the cores

help: ## this list
	@echo 'Split a picture into foreground and background, told only its name: a companion to Choi & Hong 2021.'
	@echo
	@echo 'make TARGET [VARIABLE=value ...]'
	@awk -F ' ## ' '/^[a-z]+:.* ## / { sub(/:.*/, "", $$1); printf "  %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Variables'
	@echo '  PROFILE    smoke, demo (default), laptop, paper: how large; or the path of a .yaml file'
	@echo '  SEEDS      which seeds to train, as SEEDS="0 1 2"'
	@echo '  ROWS       which experiments to train, as ROWS="chan_vese mumford_shah"'
	@echo '  DATASETS   which data sets of the profile, as DATASETS=voc2012'
	@echo '  JOBS       how many trainings or drawings at a time, as JOBS=1; two on a CPU and one on a GPU if not said'
	@echo '  PYTHON     the Python that makes .venv, as PYTHON=python3.12'
	@echo '  VOC_ROOT, DOGS_VS_CATS_ROOT, OXFORD_PETS_ROOT, RESNET18_WEIGHTS: data and weights that are on this disk already'
	@echo '  BIPARTITION_DATA, BIPARTITION_RESULTS: other places for data/ and results/'
	@echo
	@echo 'Examples'
	@echo '  make reproduce                        all six rows on cartoons drawn here: no photographs to download, no GPU'
	@echo '  make reproduce PROFILE=smoke          the same in miniature: does everything run?'
	@echo '  make reproduce PROFILE=laptop ROWS="casm chan_vese" SEEDS=0 VOC_ROOT=/data/VOCdevkit'

env: $(READY) ## make .venv from requirements.lock (done by the others when it is missing)

data: ## get and decode the data sets of a profile, or DATASETS="voc2012 oxford-pets"

train: $(READY) ## train the rows of a profile; an interrupted run goes on where it stopped
	@exec $(PIPELINE) --steps data,train

figures: ## draw Figures 4, 5 and 6 from the finished runs; trains nothing

table: ## Table 1 from the finished runs; trains nothing

report: ## results/PROFILE/report.html from what is there

pets: ## measure the finished runs on Dogs vs. Cats on Oxford-IIIT Pet, which has masks; trains nothing

lessons: ## run the notebooks to learn from: copies with their pictures in results/PROFILE/notebooks/

data figures table report pets lessons: $(READY)
	@exec $(PIPELINE) --steps $@

reproduce: $(READY) ## data, training, figures, table, report: whatever is missing or out of date
	@exec $(PIPELINE)

smoke: ## make reproduce PROFILE=smoke
	@$(MAKE) --no-print-directory reproduce PROFILE=smoke

# a process for each core, with one thread: most tests start programs and wait for them, which two threads cannot share
test: $(READY) ## all tests, the quick ones first; TESTS=tests/test_energies.py for some
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses logical --maxprocesses 4 $$TESTS

bench: $(READY) ## a training step against three bare passes of ResNet-18, and against a plain loop
	$(RUN) benchmarks/step.py

torture: $(READY) ## kill the pipeline fifty times at random moments; is anything lost or different? 20 to 30 minutes
	$(RUN) benchmarks/torture.py

# kernels run in notebooks/, where a relative place would be another one
lab: $(READY) ## open JupyterLab on notebook 00_start_here
	@for name in $(places); do value=$$(printenv $$name); case "$$value" in /*|'~'*|'') ;; \
		*) export "$$name=$$PWD/$$value";; esac; done; \
	$(RUN) -m jupyterlab --ServerApp.ip=127.0.0.1 notebooks/00_start_here.ipynb

lock: $(READY) ## choose all versions anew but those of torch and torchvision, fixed here: writes requirements.lock
	@printf 'torch==2.14.1\ntorchvision==0.29.1\n' > .venv/pair.txt
	@uv=$$(command -v uv || echo '$(RUN) -m uv'); $$uv pip compile pyproject.toml --constraint .venv/pair.txt --universal \
		--generate-hashes --no-header --no-annotate --python-version 3.11.4 --quiet --output-file requirements.lock

clean: ## remove results/PROFILE (not published ones, not the data)
	@name="$$PROFILE"; case "$$name" in *.yaml|*.yml) name=$$(basename -- "$${name%.*}");; esac; \
	case "$$name" in ''|published|trials|*[!A-Za-z0-9_-]*) \
		echo "PROFILE=$$PROFILE is no profile with results of its own" >&2; exit 1;; esac; \
	results="$${BIPARTITION_RESULTS:-results}"; case "$$results" in '~/'*) results="$$HOME/$${results#'~/'}";; esac; \
	if ! test -d "$$results/$$name"; then echo "there is no $$results/$$name"; \
	elif flock -n "$$results/.$$name.lock" rm -rf -- "$$results/$$name"; then echo "removed $$results/$$name"; \
	else echo "cannot remove $$results/$$name: a make is at work on it, or something of it may not be removed" >&2; exit 1; fi

# Bytecode is compiled once here: without it each notebook's kernel would compile PyTorch's sources anew.
# uv is used where it is installed, else fetched into .venv; where neither works, pip does the same more slowly.
$(READY): requirements.lock pyproject.toml
	@echo 'making .venv from requirements.lock: a few minutes the first time'
	@test -x .venv/bin/python || "$$PYTHON" -m venv .venv || \
		{ echo "cannot make .venv with PYTHON=$$PYTHON; give a Python from 3.11.4 to 3.13" >&2; exit 1; }
	@.venv/bin/python -c 'import sys; sys.exit(not (3, 11, 4) <= sys.version_info < (3, 14))' || \
		{ echo 'the Python of .venv is not 3.11.4 to 3.13: remove .venv and give one, as PYTHON=python3.12' >&2; exit 1; }
	@if command -v uv > /dev/null; then install='uv pip install --quiet --compile-bytecode --python .venv/bin/python'; \
	elif $(RUN) -m uv --version > /dev/null 2>&1 || $(RUN) -m pip install --quiet uv; then \
		install='$(RUN) -m uv pip install --quiet --compile-bytecode --python .venv/bin/python'; \
	else install='$(RUN) -m pip install --quiet'; fi; \
	$$install --require-hashes -r requirements.lock && $$install --no-deps --no-build-isolation -e .
	@touch $(READY)
