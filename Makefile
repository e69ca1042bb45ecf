# make setup | demo | page | test | test-web | bench | lint: each does what it needs on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
RESULTS := results/mini/1234
CHROMIUM ?= /usr/bin/chromium

.PHONY: help setup demo train separate picture page export test test-web bench chaos ablation lint format clean

help:
	@grep -E '^[a-z-]+:.*#' $(MAKEFILE_LIST) | sed -E 's/:[^#]*#/\t/'

setup: .venv/ready  # virtual environment; CPU build of PyTorch where there is no GPU

.venv/ready: setup.cfg constraints.txt setup.sh
	PYTHON=$(PYTHON) ./setup.sh
	touch $@

demo: picture  # corpus, training, two voices as wav files, spectrograms: about 15 minutes on 2 cores
	@echo "Listen to $(RESULTS)/example/*.wav and look at $(RESULTS)/example/spectrograms.png"

train: setup  # the small model on the mini corpus
	$(BIN)/python train.py hparams/mini.yaml

separate: train  # the two voices of a test mixture
	$(BIN)/sfsrnet-separate $(RESULTS)/example/mixture.wav --model $(RESULTS)/model -o $(RESULTS)/example --force

picture: separate  # spectrograms before and after super-resolution
	$(BIN)/python -m sfsrnet_modules.apps.example $(RESULTS)/example --model $(RESULTS)/model

page: setup  # the page in the browser, at http://127.0.0.1:7860
	$(BIN)/sfsrnet-demo

export: train  # the demo's model as a folder to publish, with ONNX beside
	$(BIN)/python export.py $(RESULTS) -o results/sfsrnet-mini --onnx

test: setup  # every test and doctest but those in a browser
	$(BIN)/python -m pytest -rs -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-web: setup $(CHROMIUM)  # the page in a real browser
	CHROMIUM=$(CHROMIUM) $(BIN)/python -m pytest -rs tests/web

/usr/bin/chromium:
	@[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || { \
	    echo "error: no $@: install chromium (Debian: apt-get install chromium), or give another" \
	        "browser of its kind: make test-web CHROMIUM=/usr/bin/google-chrome" >&2; exit 1; }
	apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y chromium

bench: setup  # speed and memory beside SpeechBrain's own code, DATA=folder of speech: benchmarks/speed.md, memory.md
	$(BIN)/python -m benchmarks.speed $(if $(DATA),--data_folder $(DATA))
	$(BIN)/python -m benchmarks.memory

chaos: setup  # trainings killed, starved and damaged at random moments: benchmarks/chaos.md
	$(BIN)/python -m benchmarks.chaos

ablation: setup  # the paper's tables at a small size, DATA=folder of speech: results/ablation.md
	for table in 3 open sr 4 size; do $(BIN)/python -m benchmarks.ablation --table $$table --steps 300 \
	    --seeds 1234 5678 9012 --ema 0.99 --num_workers 0 --data_folder $(DATA) \
	    --folder results/ablation --output results/ablation.md || exit 1; done

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  # what was built; keeps results and the corpus
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache
