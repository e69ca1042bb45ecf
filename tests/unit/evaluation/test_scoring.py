import logging
import os
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch

from conftest import ROOT
from sfsrnet_modules.evaluation import metrics
from sfsrnet_modules.evaluation.metrics import score
from sfsrnet_modules.evaluation.scoring import Scoring, name_estimates


def items(number: int):
    for i in range(number):
        sources = torch.randn(4000 + 10 * i, 2)
        near, far = (sources + level * torch.randn_like(sources) for level in (0.1, 1.0))
        yield f"item{i}", sources.sum(1), sources, {"": near.flip(1), "_before_sr": far}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_rows_come_in_order_with_every_estimates_scores(num_workers, monkeypatch):
    monkeypatch.setattr("sfsrnet_modules.evaluation.scoring.BACKLOG", 1)
    scoring = Scoring(8000, num_workers)
    expected = list(items(5))
    for item in expected:
        scoring.add(*item)
    for row, (id_, mixture, sources, estimates) in zip(scoring.rows(), expected, strict=True):
        assert row["id"] == id_ and row["duration"] == len(mixture) / 8000
        for suffix, estimate in estimates.items():
            scores = score(mixture, sources, estimate)
            assert {name: row[name + suffix] for name in scores} == pytest.approx(scores, abs=1e-4)


KILLED = """
import os, signal
from sfsrnet_modules.evaluation.scoring import Scoring

if __name__ == "__main__":
    scoring = Scoring(8000, 1, measures=())
    print(scoring.pool.submit(os.getpid).result(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_no_process_outlives_a_killed_one(tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    command = [sys.executable, str(tmp_path / "killed.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with open(tmp_path / "worker", "w", encoding="utf-8") as file:
        subprocess.run(command, env=environment, stdout=file, timeout=120)
    worker = int((tmp_path / "worker").read_text())
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{worker}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{worker}")


def test_missing_packages_are_named_once_and_leave_no_column(monkeypatch, caplog):
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        scoring = Scoring(8000)
        for item in items(2):
            scoring.add(*item)
    assert caplog.text.count("Scored without PESQ and STOI") == 1
    assert not {"pesq", "stoi"} & set(scoring.rows()[0])


def test_bands_are_scored_on_request():
    scoring = Scoring(8000, bands=True)
    scoring.add(*next(items(1)))
    row = scoring.rows()[0]
    assert row["band_3_4khz"] > row["band_3_4khz_before_sr"] + 10


def test_estimates_have_names_with_and_without_super_resolution():
    estimates = torch.arange(3.0)
    assert name_estimates(estimates, True) == {"": 2, "_before_sr": 1, "_block1": 0}
    assert name_estimates(estimates, False) == {"": 2, "_block1": 0, "_block2": 1}
    assert name_estimates(estimates[:1], False) == {"": 0}


@pytest.fixture
def own_fork_server(monkeypatch):
    """Not the one that other tests have started, which heeds signals."""
    server = forkserver.ForkServer()
    for name in ("connect_to_new_process", "set_forkserver_preload"):
        monkeypatch.setattr(forkserver, name, getattr(server, name))
    yield
    server._stop()


@pytest.mark.usefixtures("own_fork_server")
def test_a_job_told_to_stop_keeps_its_scoring_processes():
    scoring = Scoring(8000, num_workers=1, measures=())
    first, second = items(2)
    scoring.add(*first)
    scoring.futures[0].result()
    (worker,) = scoring.pool._processes
    parent = int(Path(f"/proc/{worker}/stat").read_text().split()[3])  # the fork server
    for process in (worker, parent):
        os.kill(process, signal.SIGTERM)
        os.kill(process, signal.SIGUSR1)
    scoring.add(*second)
    assert len(scoring.rows()) == 2
