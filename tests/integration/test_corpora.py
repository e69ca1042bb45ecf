"""train.py on WSJ0 and LibriSpeech: from files and mixed on reading, new mixtures and their own."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from benchmarks.ranks import TINY
from data_prep.corpora import librimix, wsj0mix
from tests import scripts, trees

# Learns enough in two epochs that the figures do not hang on the last bit.
QUICK = {**TINY, "super_resolution": "null", "items_per_epoch": 24, "lr": 0.01}


class Corpus(NamedTuple):
    itself: dict  # keys of train.py that lead to the recordings, mixed on reading
    files: dict  # to its mixtures as files


@pytest.fixture(scope="module")
def wsj0(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("wsj0")
    root, lists = trees.small_wsj0(folder)
    wsj0mix.write(root, lists, folder / "files")
    return Corpus({"data_folder": root, "lists": lists}, {"data_folder": folder / "files"})


@pytest.fixture(scope="module")
def noisy_librimix(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("librimix")
    root, lists, noise = trees.small_librispeech(folder)
    parts = ["train-100", "dev", "test"]
    librimix.write(root, lists, folder / "files", noise, types=["both"], parts=parts)
    keys = {"train_part": "train-100", "mixture": "both"}
    itself = {"data_folder": root, "lists": lists, "noise_folder": noise}
    return Corpus(itself | keys, {"data_folder": folder / "files"} | keys)


def train(output: Path, *flags: str, **keys) -> pd.DataFrame:
    """Run train.py to the end; its figures of the test, a row an item."""
    cache = output.parent / "cache"
    keys = {"output_folder": output, "cache_folder": cache, **QUICK, **keys}
    options = [text for key, value in keys.items() for text in (f"--{key}", str(value))]
    (output / "test_results.csv").unlink(missing_ok=True)
    done = scripts.run("train.py", "hparams/sfsrnet.yaml", *flags, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((output / "train_log.txt").read_text().splitlines()) >= 3  # two epochs, the test
    figures = pd.read_csv(output / "test_results.csv").set_index("id").sort_index()
    assert len(figures) == 2 and figures.notna().all().all()
    return figures


def assert_alike(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Files are rounded to 16 bits: nothing else differs."""
    assert list(one.index) == list(other.index)
    assert one["si_snr_i"].to_numpy() == pytest.approx(other["si_snr_i"], abs=0.01)  # dB
    assert one["sdr_i"].to_numpy() == pytest.approx(other["sdr_i"], abs=0.1)


def train_both(folder: Path, new: dict, own: dict) -> pd.DataFrame:
    """Train on new mixtures and, beside it, on the corpus's own; the figures of the former."""
    with ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(train, folder / name, dynamic_mixing=dynamic, **keys)
            for name, dynamic, keys in (("new", True, new), ("own", False, own))
        ]
        figures, _ = (run.result() for run in runs)
    return figures


def test_wsj0(wsj0, tmp_path):
    on_reading = train_both(tmp_path, new=wsj0.itself, own=wsj0.files)
    from_files = train(tmp_path / "new", "--test_only", **wsj0.files)
    assert_alike(from_files, on_reading)


def test_noisy_librimix(noisy_librimix, tmp_path):
    from_files = train_both(tmp_path, new=noisy_librimix.files, own=noisy_librimix.itself)
    on_reading = train(tmp_path / "new", "--test_only", **noisy_librimix.itself)
    assert_alike(on_reading, from_files)
