# make demo: the main job on real molecules. make test: the whole test suite. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := PIP_CONSTRAINT=$(CURDIR)/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet
DEMO ?= demo

.PHONY: demo test lint test-slow bench bench-gpu records docs clean

demo: $(VENV)/installed
	$(BIN)/graph-pack scan sample:nci
	$(BIN)/graph-pack compare sample:nci --limits auto
	$(BIN)/graph-pack build sample:nci --out $(DEMO) --limits auto --splits train=0.8,valid=0.1,test=0.1
	$(BIN)/graph-pack verify $(DEMO)
	$(BIN)/graph-pack train $(DEMO) --epochs 6 --plot $(DEMO)/loss.png
	@echo "Packs, plans and manifests: $(DEMO)/train $(DEMO)/valid $(DEMO)/test; loss curve: $(DEMO)/loss.png"

# The tests start hundreds of processes: each would compile the sources anew where Python may not keep what it compiled.
test: $(VENV)/installed-test
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test-slow: $(VENV)/installed-test
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/installed
	$(BIN)/python benchmarks/compare.py
	$(BIN)/python benchmarks/format.py
	$(BIN)/python benchmarks/rot.py --out benchmarks/results/rot.md
	$(BIN)/python benchmarks/rot.py --places dask --cases 100 --out benchmarks/results/rot-dask.md
	$(BIN)/python benchmarks/rot.py --places s3 --cases 100 --out benchmarks/results/rot-s3.md
	$(BIN)/python benchmarks/time_limits.py
	$(BIN)/python benchmarks/sampler.py
	$(BIN)/python benchmarks/axes.py
	$(BIN)/python benchmarks/companions.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/atoms.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/training_rounding.py
	$(BIN)/python benchmarks/scaling.py

bench-gpu: $(VENV)/installed
	@$(BIN)/python -c "import torch; torch.cuda.is_available() or exit('make bench-gpu: torch sees no CUDA GPU here')"
	$(BIN)/python -m pytest -n 0 tests/packer/reading/test_device_cuda.py tests/pipelines/training/test_cuda.py
	$(BIN)/python benchmarks/training_gpu.py --rows device --minutes 6 --block-bytes 32768 \
		--out benchmarks/results/training_device.md --cases 64x8 256x8 64x1 64x32 256x1 256x32

records: $(VENV)/installed
	$(BIN)/python benchmarks/records.py verify

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: constraints.txt pyproject.toml | $(VENV)/bin/python
	$(INSTALL) --editable '.[all]'
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(INSTALL) --editable '.[all,test]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(INSTALL) --editable '.[all,docs]'
	touch $@
