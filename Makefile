# The front door of the book. `make` alone lists what there is.
VENV ?= .venv
BUILD ?= _build/book
JOBS ?= 2
PY = $(VENV)/bin/python
DOIT = $(PY) -m doit -n $(JOBS) -P thread
# Whose environment this is does not matter: all that starts here imports this checkout's library.
PYTHONPATH = $(CURDIR)
export BUILD CHAPTER HEAVY SETTING VENV PYTHONPATH

.DEFAULT_GOAL := help
.PHONY: help env book html test record bench reliability twins mutants search play clean

help:  ## list these targets
	@awk -F ':.*##' '/^[a-z]+:.*##/ {printf "  make %-13s%s\n", $$1, $$2}' Makefile
	@echo "  Options: CHAPTER=data_model (book, record: that chapter only; softmax, mean_field or open: that part; several: a,b), HEAVY=1 (run heavy ones too), JOBS=2, SETTING=L5 (record: take over another setting of that claim)"

env:  ## make .venv, or update it when requirements.lock or the checkout's folder has changed (implied by all others)
	@sh tools/env.sh $(VENV)

book: env  ## run the chapters on this machine and render them (unchanged ones are kept)
	@$(DOIT) book

html: env  ## render the committed outputs, without running anything
	@$(PY) -m tools.render

test: env  ## everything that has to pass before a change is merged
	@$(PY) -m tools.check

record: env  ## run the chapters and rewrite committed outputs whose numbers moved
	@$(DOIT) collect run_reference
	@$(PY) -m tools.record

bench: env  ## time the library against its alternatives, and report what changed since the last release (a quarter of an hour; rewrites benchmarks/results.csv)
	@OMP_NUM_THREADS=1 $(PY) -m benchmarks velocity
	@OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=268435456 MALLOC_TRIM_THRESHOLD_=268435456 $(PY) -m benchmarks
	@OMP_NUM_THREADS=1 $(PY) -m benchmarks.pruned_inference
	@$(PY) -m benchmarks.report

reliability: env  ## kill, edit, provoke, misconfigure and reorder what the library does, on other instruction sets too (three hours; rewrites reliability/results.csv)
	@OMP_NUM_THREADS=1 $(PY) -m reliability

twins: env  ## run every chapter once more with weights that start 1e-7 elsewhere, to see what rounding decides (twice as long as make record; rewrites reliability/twins.csv)
	@$(DOIT) run_chapters run_reference run_twins
	@$(PY) -m reliability.twins

mutants: env  ## plant bugs one at a time in a copy and see which test catches each (half an hour; rewrites benchmarks/mutants.csv)
	@$(PY) -m tools.mutants

search: env  ## search the settings of the models of K10 again (half an hour; rewrites icl_lib/data/search.csv)
	@OMP_NUM_THREADS=1 $(PY) -m tools.search

play: env  ## train the model of the page "Play" again and rewrite _static/play/model.js
	@OMP_NUM_THREADS=1 $(PY) -m tools.play

clean:  ## remove all that was generated: trained models, your runs and sweeps in _build (not .venv)
	rm -rf _build
