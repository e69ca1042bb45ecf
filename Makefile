# make setup | demo | test | bench | lint: each does what it needs on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
RESULTS := results/mini/1234

.PHONY: help setup demo train separate picture test bench lint format clean

help:
	@grep -E '^[a-z]+:.*#' $(MAKEFILE_LIST) | sed -E 's/:[^#]*#/\t/'

setup: .venv/ready  # virtual environment; CPU build of PyTorch where there is no GPU

.venv/ready: setup.cfg constraints.txt setup.sh
	PYTHON=$(PYTHON) ./setup.sh
	touch $@

demo: picture  # corpus, training, two voices as wav files, spectrograms: about 15 minutes on 2 cores
	@echo "Listen to $(RESULTS)/example/*.wav and look at $(RESULTS)/example/spectrograms.png"
	@echo "A longer run reaches no more on this corpus (8 epochs: 3.2 dB), see README.md"

train: setup  # the small model on the mini corpus
	$(BIN)/python train.py hparams/mini.yaml

separate: train  # the two voices of a test mixture
	$(BIN)/python -m sfsrnet_modules.separate $(RESULTS)/example/mixture.wav --model $(RESULTS)/model -o $(RESULTS)/example

picture: separate  # spectrograms before and after super-resolution
	$(BIN)/python -m sfsrnet_modules.example $(RESULTS)/example --model $(RESULTS)/model

test: setup  # every test and doctest
	$(BIN)/python -m pytest -rs

bench: setup  # speed and memory beside SpeechBrain's own code: benchmarks/speed.md, about 15 minutes
	$(BIN)/python -m benchmarks.speed

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  # what was built; keeps results and the corpus
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache
