# make run    set up, then the main job: find data, train, execute the notebooks, write one page (SCALE=quick, or full)
# make test   set up, then unit tests, doctests and the notebooks
# make test-threads   the numerical tests with one thread and with four
# make test-integrations   Lightning, the Trainer, Accelerate, Ignite, optax and Keras, for real (docs/integrations.md)
# make test-floors   the same tests with the oldest versions that pyproject.toml admits, in a folder of their own
# make test-browser   each notebook in JupyterLab and chromium: sliders, an interruption; screenshots in runs/browser/
# make notebooks   execute the notebooks in place and save their pictures to images/; commit only what this writes
# make lab    JupyterLab    make data   download CIFAR-10    make check   lint, format and types
# make readme renew the numbers of README.md and docs/results.md from results/
# make queue  train what the queue of full-length runs lacks, in its order, at low priority; resumable
# make mutate   what no test notices: a sample of small changes (ALL=1 for all of them, MODULES="bounds find" for some)
# make bench  the short benchmarks, best on an otherwise idle machine
# make lock   renew both lock files as pyproject.toml asks; UPGRADE=--upgrade takes the newest versions
# make ci-venv   .venv anew from requirements-ci.lock, with every download's hash compared: what CI tests in
# make audit  look up the locked versions in PyPI's list of known vulnerabilities

PYTHON ?= python3
SCALE ?= quick
BIN := .venv/bin
NUMERICAL := tests/test_nets.py tests/test_optim.py tests/training tests/range_test

.PHONY: run queue test test-threads test-integrations test-floors test-browser lab data readme notebooks check bench lock
.PHONY: ci-venv audit mutate
run: .venv/ready
	@$(BIN)/python -m clr main --scale $(SCALE)

queue: .venv/ready
	@$(BIN)/python -m clr run --queue

test: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist loadscope --cov clr --cov-report term:skip-covered --durations 10

test-threads: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope $(NUMERICAL)
	OMP_NUM_THREADS=4 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest $(NUMERICAL)

test-integrations: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[integrations]'
	$(BIN)/python -m pytest tests/integrations
	KERAS_BACKEND=torch $(BIN)/python -m pytest tests/integrations/test_keras.py

test-floors:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13) and "the oldest versions have wheels for Python 3.11 and 3.12: make test-floors PYTHON=python3.12")'
	$(PYTHON) -m venv .floors
	.floors/bin/python -m pip install --quiet uv
	.floors/bin/uv pip install --quiet --python .floors/bin/python --resolution lowest-direct --editable '.[notebooks,test]'
	.floors/bin/python -m pytest -n 2 --dist loadscope -o filterwarnings=default

test-browser: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[notebooks,test,browser]'
	CLR_BROWSER=1 $(BIN)/python -m pytest tests/browser

lab: .venv/ready
	$(BIN)/jupyter lab notebooks/Experiments.ipynb

notebooks: .venv/ready
	CLR_STATIC=1 TQDM_DISABLE=1 CLR_SCALE=full CLR_RESULTS= CLR_IMAGES=$(CURDIR)/images $(BIN)/python -m nbconvert \
		--to notebook --execute --inplace --ExecutePreprocessor.record_timing=False \
		--ExecutePreprocessor.store_widget_state=False notebooks/*.ipynb
	$(BIN)/python -m tools.pictures

data: .venv/ready
	@$(BIN)/python -m clr data

readme: .venv/ready
	$(BIN)/python -m cogapp -r -p "from tools import readme, sentences" README.md docs/choosing-rates.md
	$(BIN)/python -m tools.results_page

bench: .venv/ready
	for name in small_things range_test_cost range_test_coverage training_speed cost_growth; do $(BIN)/python benchmarks/$$name.py || exit; done

mutate: .venv/ready
	$(BIN)/python -m tools.mutate $(if $(ALL),--all) $(MODULES)

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

LOCK = .tools/bin/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --no-header --no-annotate
lock:
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet uv
	cp requirements.lock .tools/all.lock
	echo setuptools | $(LOCK) $(UPGRADE) --all-extras pyproject.toml - -o .tools/all.lock
	sed 's/ ;.*//' .tools/all.lock > requirements.lock
	echo setuptools | $(LOCK) --generate-hashes --no-strip-extras --upgrade -c requirements.lock --extra notebooks --extra test \
		pyproject.toml - -o requirements-ci.lock

ci-venv:
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-ci.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch .venv/ready

audit:
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet pip-audit
	.tools/bin/pip-audit --strict --disable-pip --require-hashes -r requirements-ci.lock

# The mark is written last, so an interrupted installation is made again.
.venv/ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15) and "Python 3.11 to 3.14 is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[notebooks,test]'
	@touch $@
