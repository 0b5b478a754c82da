# Every command works on a fresh machine: what it needs is installed into .venv first.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(shell date +%Y%m%d-%H%M%S)
DEMO := --seeds 4
IN_LAB := "torch\.|"sklearn|"pandas|"infobatch
NEED_FRAMEWORKS = tests/integrations tests/lab/explorer $(shell grep -r importorskip tests --include='test_*.py' | grep -vE '$(IN_LAB)' | cut -d: -f1 | sort -u)
KIT_PACKAGES := tyro docstring-parser typeguard
# Many tests wait for processes that they start: half as many workers again as there are cores, at most 8.
WORKERS := $(shell n=$$(( $$(getconf _NPROCESSORS_ONLN) * 3 / 2 )); echo $$(( n < 8 ? n : 8 )))
PYTEST := -n $(WORKERS) --dist worksteal

.PHONY: demo test integrations check docs format bench gpu-kit package clean

demo: export OMP_WAIT_POLICY = passive
demo: $(VENV)/lab  ## Compare pruning with its alternatives on 269,421 flights and on digits; shorter with DEMO="--seeds 2".
	$(BIN)/infobatch contest flights-mlp --policies noise-budget --noise 1.1 $(DEMO) --jobs 2 --out runs/demo-$(STAMP)
	@echo; echo "The counter-example: digits, of which no majority is easy."
	$(BIN)/infobatch compare --data digits --noise 1.1 --epochs 20 $(DEMO) --out runs/demo-digits-$(STAMP)

test: $(VENV)/dev  ## Run the tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST)

integrations: $(VENV)/integrations  ## Run the tests of the frameworks' plug-ins, and others that need them.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(NEED_FRAMEWORKS) $(PYTEST)

check: $(VENV)/dev  ## Lint, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/docs  ## Build the pages of docs/ into site/, with the reference, and run the notebook.
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html: python -m http.server --directory site shows it with its search"

format: $(VENV)/dev  ## Put the code into shape.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/dev  ## Measure the library's overhead.
	$(BIN)/python benchmarks/overhead.py

gpu-kit: $(VENV)/lab  ## What benchmarks/gpu.py needs on a bare machine: DATA is a folder with cifar10/.
	test -d "$(DATA)/cifar10" || { echo "give DATA=DIR, a folder that holds cifar10/" >&2; exit 2; }
	rm -rf gpu-kit && mkdir gpu-kit
	cp -r "$(DATA)/cifar10" gpu-kit/ && chmod -R u+w gpu-kit
	$(BIN)/python -m pip download --quiet --no-deps -c constraints.txt -d gpu-kit $(KIT_PACKAGES)

$(VENV)/%: pyproject.toml constraints.txt
	test -d $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS_$*)]'
	touch $@

EXTRAS_lab := lab
EXTRAS_dev := lab,dev
EXTRAS_docs := lab,docs
EXTRAS_integrations := lab,dev,docs,transformers,lightning,ray,integrations

package: $(VENV)/dev  ## Build the wheel and the sdist, and use the wheel outside of this folder.
	rm -rf dist && $(BIN)/python -m build --outdir dist . > /dev/null
	$(BIN)/python -m venv dist/venv
	dist/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps dist/*.whl
	cd dist && PYTHONPATH=$$(../$(BIN)/python -c "import torch; print(*torch.__path__)")/.. && export PYTHONPATH && \
	venv/bin/python -c "import infobatch; assert '/dist/venv/' in infobatch.__file__, infobatch.__file__" && \
	venv/bin/infobatch --version && \
	venv/bin/infobatch compare --data digits --epochs 4 --seeds 2 --out compared > /dev/null && \
	ls compared/report/report.html venv/lib/python*/site-packages/infobatch/lab/explorer/static/main.js

clean:
	rm -rf $(VENV) dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
