# MedFocus: each target is one line around the console script `medfocus`.
#
#   make demo                       all of it on drawn images, in minutes, then what to type next
#   make masks DATASET=brain        segment the images of data/brain, cache candidate masks
#   make embed                      embed the focused images (of the data set used last)
#   make probe                      fit heads over fractions x seeds, print the table
#   make status                     what is cached, stale, missing, and what each command would do
#   make finetune DATASET=brain     train a network on each subset (of MODEL), beside linear probes
#   make adapt STUDY=pneumonia      from hospital to hospital (of SOURCE, to TARGET), one matrix
#   make gate DATASET=phantom-mixed medical image or not: every method in one table
#   make reproduce                  the paper's table: every method, baseline and ablation
#   make audit                      duplicates, leaks, patients on both sides, class balance
#   make report                     one page to look at: tables, regions, mistakes, leaks, sources
#   make figure                     one picture of what was done with a few test images
#   make export HEAD=fusion         one fitted run in a folder (of FOCUS, FRACTION, SEED; to OUT)
#   make predict IMAGES=scan.png MODEL=folder     classes of new images; make explain: and why
#   make train-adapter              teach a SAM what the annotations outline (SAM-Adapter)
#   make phantom KIND=breast        draw a data set: brain, breast, covid, lungs, chest, pictures, mixed
#   make torture                    kills, flipped bits, hostile files and command lines, counted
#   make bench-flops              operations of every model on one picture, and pictures a second
#   make bench-scale              what a run with nothing to do costs at 10^4, 10^5 images
#   make rehearse                   the paper's profile at full size, random weights, a hub of this machine
#   make profiles                   what PROFILE can be; make doctor says which run here
#
# Variables: DATASET, DATA (default data/<name>), CACHE (default cache), PROFILE (a name or a
# YAML file), KIND (default brain), ARGS (passed on, e.g. ARGS="--points-per-side 16").

CACHE ?= $(or $(MEDFOCUS_CACHE),cache)
KIND ?= brain
PYTHON ?= python3
VENV := .venv
MEDFOCUS := $(VENV)/bin/medfocus
INSTALLED := $(VENV)/.installed
# TORCH_INDEX: where torch comes from, e.g. a CUDA or CPU-only index; default is pip's own.
TORCH_INDEX ?=

RUN = $(1) $(DATASET) --cache "$(CACHE)" $(if $(DATA),--data "$(DATA)") $(if $(PROFILE),--profile "$(PROFILE)") $(ARGS)

# IMAGES: one path with spaces where there is such a file or folder, else paths or patterns.
PATHS = $(if $(shell test -e "$(1)" && echo yes),"$(1)",$(1))

.DEFAULT_GOAL := help
.PHONY: help install demo rehearse phantom profiles heads scan masks embed probe finetune adapt gate reproduce audit report \
	status figure export predict explain train-adapter bench bench-flops bench-scale docs test torture lint doctor clean-venv

help:
	@sed -n '/^#   make/s/^#   //p' Makefile

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt pip setuptools wheel
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch torchvision
	SAM2_BUILD_CUDA=0 $(VENV)/bin/python -m pip install --quiet -c constraints.txt --no-build-isolation sam2
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt --editable '.[dev]'
	@touch $@

install: $(INSTALLED)

scan masks embed probe gate report: $(INSTALLED)
	@$(VENV)/bin/python -m $(call RUN,stages.$@)

reproduce audit status figure train-adapter: $(INSTALLED)
	@$(MEDFOCUS) $(call RUN,$@)

finetune: $(INSTALLED)
	@$(VENV)/bin/python -m $(call RUN,stages.$@) $(if $(MODEL),--model "$(MODEL)")

adapt: $(INSTALLED)
	@$(VENV)/bin/python -m stages.adapt "$(STUDY)" --cache "$(CACHE)" $(if $(PROFILE),--profile "$(PROFILE)") \
		$(if $(SOURCE),--source "$(SOURCE)") $(if $(TARGET),--target "$(TARGET)") \
		$(if $(AUGMENT),--augment "$(AUGMENT)") $(ARGS)

export: $(INSTALLED)
	@$(MEDFOCUS) $(call RUN,$@) $(if $(HEAD),--head "$(HEAD)") $(if $(FOCUS),--focus "$(FOCUS)") \
		$(if $(FRACTION),--fraction "$(FRACTION)") $(if $(SEED),--seed "$(SEED)") $(if $(OUT),--out "$(OUT)")

predict explain: $(INSTALLED)
	@$(MEDFOCUS) $@ $(call PATHS,$(IMAGES)) $(if $(MODEL),--from "$(MODEL)") $(if $(OUT),$(if $(filter predict,$@),--overlay,--out) "$(OUT)") $(ARGS)

heads: $(INSTALLED)
	@$(MEDFOCUS) heads list

demo: $(INSTALLED)
	@$(MEDFOCUS) demo --cache "$(CACHE)" $(if $(DATA),--data "$(DATA)") $(if $(PROFILE),--profile "$(PROFILE)") $(ARGS)

rehearse: $(INSTALLED)
	@$(VENV)/bin/python -m tests.hub.rehearse

phantom: $(INSTALLED)
	@$(MEDFOCUS) phantom $(KIND) $(if $(DATA),--data "$(DATA)") $(ARGS)

profiles: $(INSTALLED)
	@$(MEDFOCUS) profiles $(PROFILE) --cache "$(CACHE)"

bench: $(INSTALLED)
	@$(VENV)/bin/python -m tests.bench $(ARGS)

bench-flops: $(INSTALLED)
	@$(VENV)/bin/python -m tests.bench flops $(ARGS)

bench-scale: $(INSTALLED)
	@$(VENV)/bin/python -m tests.bench scale $(ARGS)

docs: $(INSTALLED)
	@$(VENV)/bin/python -m mkdocs build --strict --quiet

doctor: $(INSTALLED)
	@$(MEDFOCUS) doctor --cache "$(CACHE)"

test: lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

torture: $(INSTALLED)
	@$(VENV)/bin/python -m tests.torture $(ARGS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean-venv:
	rm -rf $(VENV)
