# The path without apt's ROS: each target makes or reuses .venv and needs nothing beforehand.
PYTHON ?= python3
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

MINUTES ?= 30
# Whose wheels: jazzy, kilted or none.
ROS ?= jazzy
# Two processes share the test files, those that take long first.
BESIDE = -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo check test test-full test-matrix test-gpu coverage soak docs lint venv-demo venv-test venv-docs venv-gpu

# make demo [SOURCE=<file, directory or webcam>] [CHECKPOINT=<file>] [PLANNING=1] [OUTPUT=<directory>], or make demo DEPTH=1
demo: venv-demo
	.venv/bin/lednet_demo $(if $(SOURCE),--source '$(SOURCE)') $(if $(CHECKPOINT),--checkpoint '$(CHECKPOINT)') $(if $(OUTPUT),--output '$(OUTPUT)') $(if $(filter-out 0,$(PLANNING)),--planning) $(if $(filter-out 0,$(DEPTH)),--depth)

# The quick loop: lint, types, imports, and the tests that need neither a ROS graph nor a training nor a compiler.
check: lint
	.venv/bin/python -m pytest -q $(BESIDE) -m 'not full and not gpu and not slow'

# Under 20 minutes, set-up included: small counts.
test: lint
	.venv/bin/python -m pytest $(BESIDE) -m 'not full and not gpu'

# The full counts and matrices, and the promised times: on a machine with nothing else to do.
test-full: lint
	.venv/bin/python -m pytest -m 'not gpu' --time-limits

# Every pair of Python and ROS that this machine can have, each with a venv of its own: some GB and 10 minutes a pair.
test-matrix:
	$(PYTHON) tools/test_matrix.py $(BESIDE)

# On a machine with a CUDA GPU, in a venv of its own with TensorRT: some GB more.
test-gpu: venv-gpu
	.venv-gpu/bin/python -m pytest -m gpu
	.venv-gpu/bin/lednet_benchmark --device cuda

# Lines and branches that the tests run, child processes included; below 90 % is an error.
coverage: venv-test
	.venv/bin/python -m coverage erase
	.venv/bin/python -m coverage run -m pytest -q $(BESIDE) -m 'not full and not gpu'
	.venv/bin/python -m coverage combine -q
	.venv/bin/python -m coverage report

# make soak [MINUTES=n] [SOURCE=<directory or video>]: the node beside a camera that misbehaves.
soak: venv-demo
	.venv/bin/python benchmarks/soak.py --minutes $(MINUTES) $(if $(SOURCE),--source '$(SOURCE)')

lint: venv-test
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

# HTML of docs/ in build/docs; a warning is an error.
docs: venv-docs
	.venv/bin/python -m sphinx -q -W --keep-going -b html docs build/docs

venv-demo venv-test venv-docs venv-gpu: venv-%:
	@$(PYTHON) tools/make_venv.py $* --ros $(ROS)
