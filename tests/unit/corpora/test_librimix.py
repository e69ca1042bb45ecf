"""LibriMix from its lists, against a computation of its own, and from generated folders."""

import shutil
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyloudnorm
import pytest
import soundfile as sf
from scipy.signal import resample_poly

from data_prep.corpora import librimix
from data_prep.mixing.fixed import FixedMixtures
from data_prep.scan import manifests, scan
from tests import trees
from tests.trees import RATE

RATES, MODES, KINDS = (8000, 16000), ("min", "max"), ("clean", "both", "single")
COMBINATIONS = [
    (listed, rate, mode, kind)
    for listed in (2, 3)
    for rate in RATES
    for mode in MODES
    for kind in KINDS
    if (listed, kind) != (3, "single")  # single mixtures are Libri2Mix's
]
NUM_ITEMS = 11  # of the published test list for each combination: 220 in all


# --- The published procedure, step by step ------------------------------------------------------


def mix_row(row: dict, root: Path, noise_root: Path, rate: int, mode: str) -> dict:
    """All that the published scripts write for a row of a list, by its folder's name."""
    numbers = [i for i in (1, 2, 3) if f"source_{i}_path" in row]
    files = [sf.read(root / row[f"source_{i}_path"], dtype="float32")[0] for i in numbers]
    gains = [row[f"source_{i}_gain"] for i in numbers] + [row["noise_gain"]]
    longest = max(map(len, files))
    noise = sf.read(noise_root / row["noise_path"], frames=longest, dtype="float32")[0][:, 0]
    window = np.hanning(16001)
    rising, falling = window[:8001], window[8000::-1]
    extended = noise
    while len(extended) < longest:
        joint = extended[-8001:] * falling + noise[:8001] * rising
        extended = np.concatenate([extended[:-8001], joint, noise[8001:]])
    files.append(extended[:longest])
    parts = [file * gain for file, gain in zip(files, gains, strict=True)]
    parts = [resample_poly(part, rate, 16000) for part in parts]
    lengths = [len(part) for part in parts]
    if mode == "min":
        parts = [part[: min(lengths)] for part in parts]
    else:
        parts = [np.pad(part, (0, max(lengths) - len(part))) for part in parts]
    *sources, noise = parts
    made = {f"s{i}": source for i, source in zip(numbers, sources, strict=True)} | {"noise": noise}
    mixed = {"clean": sources, "both": parts, "single": [sources[0], noise]}
    for kind, summands in mixed.items():
        made[f"mix_{kind}"] = np.zeros_like(sources[0])
        for summand in summands:
            made[f"mix_{kind}"] += summand
    return made


def read_rows(lists: Path, listed: int, part: str) -> list[dict]:
    table = pd.read_csv(lists / f"libri{listed}mix_{part}.csv", float_precision="round_trip")
    return table.to_dict("records")


# --- Trees --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Small LibriSpeech with made-up speech, lists and noise; not to be changed."""
    return trees.small_librispeech(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Path, Path, Path]:
    """LibriSpeech's and WHAM's names with real speech, some lines of the published lists."""
    trees.need_published()
    folder = tmp_path_factory.mktemp("published")
    lists = trees.librimix_lists(folder / "lists", train=4, dev=3, test=NUM_ITEMS)
    return _filled(lists, folder, seconds=3.0)


@pytest.fixture(params=["small", "published"])
def tree(request) -> tuple[Path, Path, Path]:
    return request.getfixturevalue(request.param)


@pytest.fixture
def librispeech(tmp_path) -> tuple[Path, Path, Path]:
    """Small LibriSpeech of one's own to change, lists and noise."""
    return trees.small_librispeech(tmp_path / "small")


@pytest.fixture(scope="module")
def generated(small, tmp_path_factory) -> Path:
    """The small LibriSpeech's mixtures as files; not to be changed."""
    folder = tmp_path_factory.mktemp("generated")
    write(small, folder)
    return folder


def _filled(lists: Path, folder: Path, seconds: float) -> tuple[Path, Path, Path]:
    """The recordings are turned down, as the gains of the lists are made for quieter ones."""
    speech = [0.2 * recording for recording in trees.recordings(trees.SPEECH, 40, seconds)]
    noise = [sound[: RATE if i % 3 else None] for i, sound in enumerate(speech[::-1])]
    root = trees.fill(trees.librimix_names(lists, "source"), folder / "LibriSpeech", speech)
    names = trees.librimix_names(lists, "noise")
    return root, lists, trees.fill(names, folder / "wham_noise", trees.stereo(noise))


def write(tree: tuple[Path, Path, Path], folder: Path, **keys) -> None:
    root, lists, noise = tree
    keys = {"types": KINDS, "parts": ["train-100", "dev", "test"], **keys}
    librimix.write(root, lists, folder, noise, **keys)


def prepare(tree: tuple[Path, Path, Path], output: Path, rate: int = 8000, **keys) -> None:
    root, lists, noise = tree
    keys = {"train_part": "train-100", "lists": lists, "noise_folder": noise, **keys}
    librimix.prepare(root, output, rate, **keys)


def prepared(tree: tuple, output: Path, rate: int, listed: int, mode: str, kind: str, **keys):
    num_spks = 1 if kind == "single" else listed
    prepare(tree, output, rate, num_spks=num_spks, mode=mode, mixture=kind, **keys)
    names = ("train.csv", "valid.csv", "test.csv")
    return [FixedMixtures(output / name, rate, num_spks, tree[0], tree[2]) for name in names]


def check_item(item: dict, row: dict, made: dict, kind: str, atol: float = 1e-6) -> None:
    assert item["id"] == row["mixture_ID"]
    np.testing.assert_allclose(item["mixture"], made[f"mix_{kind}"], rtol=0, atol=atol)
    assert item["sources"].shape[1] == (1 if kind == "single" else len(made) - 4)
    for c, source in enumerate(item["sources"].T, start=1):
        np.testing.assert_allclose(source, made[f"s{c}"], rtol=0, atol=atol)


# --- Mixtures equal the published procedure's ---------------------------------------------------


@pytest.mark.parametrize(("listed", "rate", "mode", "kind"), COMBINATIONS)
def test_mixing_on_reading(tree, tmp_path, listed, rate, mode, kind):
    root, lists, noise = tree
    sets = prepared(tree, tmp_path, rate, listed, mode, kind)
    for dataset, part in zip(sets, ("train-clean-100", "dev-clean", "test-clean"), strict=True):
        rows = read_rows(lists, listed, part)
        assert len(dataset) == len(rows)
        for item, row in zip(dataset, rows, strict=True):
            check_item(item, row, mix_row(row, root, noise, rate, mode), kind)


@pytest.mark.parametrize("listed", [2, 3])
def test_written_files_are_equal_sample_for_sample(tree, tmp_path, listed):
    root, lists, noise = tree
    write(tree, tmp_path, num_spks=listed, sample_rates=RATES, modes=MODES, parts=["test"])
    rows = read_rows(lists, listed, "test-clean")
    for rate, mode in [(rate, mode) for rate in RATES for mode in MODES]:
        folder = tmp_path / f"Libri{listed}Mix/wav{rate // 1000}k/{mode}/test"
        for row in rows:
            made = mix_row(row, root, noise, rate, mode)
            for place, audio in made.items():
                path = folder / place / f"{row['mixture_ID']}.wav"
                samples, written_rate = sf.read(path, dtype="int16")
                sf.write(tmp_path / "expected.wav", audio, rate)
                expected, _ = sf.read(tmp_path / "expected.wav", dtype="int16")
                assert written_rate == rate and sf.info(path).subtype == "PCM_16"
                np.testing.assert_array_equal(samples, expected)
        assert len(list(folder.glob("*/*"))) == len(made) * len(rows)


def test_clean_mixtures_need_no_noise(small, tmp_path):
    root, lists, _ = small
    librimix.write(root, lists, tmp_path, parts=["test"])
    folders = {path.name for path in tmp_path.glob("Libri2Mix/wav8k/min/test/*")}
    assert folders == {"mix_clean", "s1", "s2"}
    prepare((root, lists, None), tmp_path / "out")
    assert not (tmp_path / "out/noise.csv").exists()


def test_the_whole_published_test_list(tmp_path):
    trees.need_published()
    lists = trees.librimix_lists(tmp_path / "lists", train=4, dev=3, test=3000)
    tree = _filled(lists, tmp_path, seconds=1.2)
    root, _, noise = tree
    test = prepared(tree, tmp_path / "out", 8000, 2, "min", "both")[2]
    rows = read_rows(lists, 2, "test-clean")
    assert len(test) == len(rows) == 3000
    for i in range(0, 3000, 75):
        check_item(test[i], rows[i], mix_row(rows[i], root, noise, 8000, "min"), "both")


@pytest.mark.parametrize(("mode", "kind"), [("min", "clean"), ("max", "both"), ("min", "single")])
def test_generated_folders_hold_the_same_mixtures(small, tmp_path, mode, kind):
    write(small, tmp_path / "files", modes=[mode])
    on_reading = prepared(small, tmp_path / "out", 8000, 2, mode, kind)
    for place in ("", "Libri2Mix", "Libri2Mix/wav8k", f"Libri2Mix/wav8k/{mode}"):
        tree, out = (tmp_path / "files" / place, None, None), tmp_path / "generated" / place
        from_files = prepared(tree, out, 8000, 2, mode, kind)
    for files, mixed in zip(from_files, on_reading, strict=True):
        items = {item["id"]: item for item in mixed}
        assert {item["id"] for item in files} == set(items)
        for item in files:  # up to 16-bit rounding, always down
            other = items[item["id"]]
            for what in ("mixture", "sources"):
                np.testing.assert_allclose(item[what], other[what], rtol=0, atol=2**-15 + 1e-6)


def test_manifests_tell_speakers_durations_and_levels(small, generated, tmp_path):
    root, lists, noise = small
    prepared(small, tmp_path / "mixed", 8000, 2, "max", "both")
    prepared((generated, None, None), tmp_path / "files", 8000, 2, "min", "both")
    rows = read_rows(lists, 2, "train-clean-100")
    paths = [row[f"source_{c}_path"] for row in rows for c in (1, 2)]
    train = pd.read_csv(tmp_path / "mixed/train.csv", dtype=str)
    columns = train[["speaker_1", "speaker_2"]].to_numpy().ravel().tolist()
    assert columns == [Path(path).parts[1] for path in paths]
    pool = pd.read_csv(tmp_path / "mixed/pool.csv", dtype={"speaker": str}).set_index("ID")
    sounds = pd.read_csv(tmp_path / "mixed/noise.csv").set_index("ID")
    assert set(pool.index) == set(paths) and set(sounds.index) == {r["noise_path"] for r in rows}
    meter = pyloudnorm.Meter(RATE)
    for table, folder in ((pool, root), (sounds, noise)):
        assert (table["measure"] == "lufs").all()
        for name, row in table.iterrows():
            audio, _ = sf.read(folder / name, always_2d=True)
            loudness = meter.integrated_loudness(audio[:, 0])
            assert row["duration"] == len(audio) / RATE
            assert row["level_db"] == pytest.approx(loudness, abs=1e-3)
    assert pool.loc[paths[0], "speaker"] == Path(paths[0]).parts[1]
    cuts = pd.read_csv(tmp_path / "files/pool.csv").set_index("ID")
    assert set(cuts.index) == {Path(path).stem for path in paths}
    assert (cuts["sample_rate"] == 8000).all() and (cuts["measure"] == "lufs").all()
    assert len(pd.read_csv(tmp_path / "files/noise.csv")) == len(rows)


def test_single_mixtures_pool_their_first_voices_only(small, tmp_path):
    prepare(small, tmp_path, num_spks=1, mixture="single")
    firsts = {row["source_1_path"] for row in read_rows(small[1], 2, "train-clean-100")}
    assert set(pd.read_csv(tmp_path / "pool.csv")["ID"]) == firsts


# --- Bad input ----------------------------------------------------------------------------------


def refuse(tree: tuple[Path, Path, Path], tmp_path: Path, message: str) -> str:
    """Neither preparing nor writing does anything but say why, in a sentence."""
    with pytest.raises(ValueError, match=message) as error:
        prepare(tree, tmp_path / "out", mixture="both")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=message):
        write(tree, tmp_path / "files")
    left = trees.snapshot(tmp_path / "out") | trees.snapshot(tmp_path / "files")
    assert left.keys() <= {"problems.csv"}
    return str(error.value)


def damage(path: Path, how: str) -> None:
    data, samples = path.read_bytes(), sf.read(path)[0]
    if how == "truncated":
        trees.own(path, data[: len(data) // 2])
    elif how == "empty":
        trees.own(path, b"")
    else:
        path.unlink()
        if how == "44.1 kHz":
            sf.write(path, samples, 44100)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "3 not readable as audio, or truncated"),
        ("empty", "3 not readable as audio, or truncated"),
        ("44.1 kHz", "3 sampled at 44100 Hz instead of 16000 Hz"),
        ("absent", "3 missing"),
    ],
)
def test_bad_files_are_all_named_and_nothing_is_written(librispeech, tmp_path, how, message):
    root, lists, noise = librispeech
    speech = sorted(set(trees.librimix_names(lists, "source")))
    sounds = sorted(set(trees.librimix_names(lists, "noise")))
    for path in (root / speech[0], root / speech[-1], noise / sounds[-1]):
        damage(path, how)
    total = len(speech) + len(sounds)
    text = refuse(librispeech, tmp_path, rf"^3 of the {total} files wanted.*{message}")
    assert all(name in text for name in (speech[0], speech[-1], sounds[-1]))
    assert "complete data_folder and noise_folder" in text


def test_a_list_naming_many_absent_files(librispeech, tmp_path):
    lists = librispeech[1]
    path = lists / "libri2mix_test-clean.csv"
    header, line, _ = path.read_text().splitlines()
    lines = [line.replace("-7-", f"-8{i}-").replace("/7/", f"/8{i}/") for i in range(30)]
    path.write_text("\n".join([header, *lines]))
    text = refuse(librispeech, tmp_path, "^60 of the .* 60 missing: test-clean/")
    listed = pd.read_csv(tmp_path / "out/problems.csv")
    assert len(listed) == 60 and (listed["problem"] == "missing").all() and "problems.csv" in text


def test_a_mixture_listed_twice(librispeech, tmp_path):
    path = librispeech[1] / "libri2mix_dev-clean.csv"
    line = path.read_text().splitlines()[1]
    path.write_text(path.read_text() + line + "\n")
    refuse(librispeech, tmp_path, f"1 .*{line.split(',')[0]}.* once")


def test_missing_lists_and_folders(librispeech, generated, tmp_path):
    root, lists, _ = librispeech
    for folder in (None, tmp_path / "none"):
        refuse((root, lists, folder), tmp_path, "No noise_folder at .*: both mixtures need WHAM's")
    refuse((root, lists, root), tmp_path, "8 of the 24 files wanted.* 8 missing: ../")
    message = r"No libri2mix_train-clean-360\.csv in .*: set lists to"
    with pytest.raises(ValueError, match=message):
        prepare(librispeech, tmp_path / "out", train_part="train-360")
    (lists / "libri2mix_dev-clean.csv").unlink()
    refuse(librispeech, tmp_path, r"No libri2mix_dev-clean\.csv in .*: set lists to")
    message = r"No Libri2Mix/wav8k/max/train-100 in .*: set data_folder to generated LibriMix"
    with pytest.raises(ValueError, match=message):
        prepare((generated, None, None), tmp_path / "out", mode="max")
    assert not trees.snapshot(tmp_path / "out")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"mixture": "noisy"}, "mixture is noisy: set it to one of clean, both, single"),
        ({"mixture": "single"}, "mixture is single and num_spks 2: .* set num_spks to 1"),
        ({"num_spks": 1}, "mixture is clean and num_spks 1: "),
        ({"train_part": "train-500"}, "train_part is train-500: set it to train-360 or train-100"),
    ],
)
def test_arguments_that_make_no_corpus(small, tmp_path, keys, message):
    with pytest.raises(ValueError, match=message):
        prepare(small, tmp_path / "out", **keys)
    assert not trees.snapshot(tmp_path / "out")


def test_unknown_parts_are_told_on_the_command_line(small, tmp_path, capsys):
    root, lists, _ = small
    with pytest.raises(SystemExit):
        librimix.main(
            [str(root), "--lists", str(lists), "--output_folder", str(tmp_path), "--parts", "tt"]
        )
    assert "invalid choice: 'tt'" in capsys.readouterr().err


def test_generated_folders_without_noise_files(generated, tmp_path):
    root = shutil.copytree(generated, tmp_path / "files")
    shutil.rmtree(root / "Libri2Mix/wav8k/min/train-100/noise")
    with pytest.raises(ValueError, match=r"No wav files in .*train-100/noise: "):
        prepare((root, None, None), tmp_path / "out", mixture="both")
    assert not trees.snapshot(tmp_path / "out")


# --- Accidents ----------------------------------------------------------------------------------

NUM_FILES = 8 * 6  # that `write` makes of the small lists
MANIFESTS = {"pool.csv", "noise.csv", "train.csv", "valid.csv", "test.csv", "prepared.json"}


@pytest.mark.parametrize("nth", [1, 20, NUM_FILES])
def test_writing_to_a_full_disk(small, generated, tmp_path, monkeypatch, nth):
    with monkeypatch.context() as patch:
        trees.fill_disk_at(patch, nth)
        with pytest.raises(OSError, match=r"\.wav cannot be written: No space left on device$"):
            write(small, tmp_path)
    whole, left = trees.snapshot(generated), trees.snapshot(tmp_path)
    assert len(left) < NUM_FILES and left.items() <= whole.items()  # no half file
    write(small, tmp_path)
    assert trees.snapshot(tmp_path) == whole


@pytest.mark.parametrize("nth", [1, 2, len(MANIFESTS)])
def test_preparing_on_a_full_disk(small, tmp_path, monkeypatch, nth):
    prepare(small, tmp_path / "undisturbed", mixture="both")
    prepare(small, tmp_path / "out", mixture="both", mode="max")
    with monkeypatch.context() as patch:
        trees.fill_disk_at(patch, nth)
        with pytest.raises(OSError, match="cannot be written: No space left on device"):
            prepare(small, tmp_path / "out", mixture="both")
    assert trees.snapshot(tmp_path / "out").keys() <= MANIFESTS - {"prepared.json"}
    prepare(small, tmp_path / "out", mixture="both")
    assert trees.snapshot(tmp_path / "out") == trees.snapshot(tmp_path / "undisturbed")


def test_a_killed_writing_is_completed(small, generated, tmp_path):
    root, lists, noise = map(str, small)
    arguments = f"{root!r}, {lists!r}, {str(tmp_path)!r}, {noise!r}, types={KINDS}"
    code = (
        f"from data_prep.corpora import librimix; librimix.write({arguments}, parts=['train-100'])"
    )
    assert trees.killed_at(11, code) == -signal.SIGKILL
    whole, left = trees.snapshot(generated), trees.snapshot(tmp_path)
    taken = {name: data for name, data in left.items() if name.endswith(".wav")}
    assert 0 < len(taken) < len(left) and taken.items() <= whole.items()
    write(small, tmp_path)
    assert trees.snapshot(tmp_path) == whole


def test_a_second_preparation_does_nothing_unless_something_changed(
    librispeech, tmp_path, monkeypatch
):
    _, lists, noise = librispeech
    out = tmp_path / "out"
    again = partial(prepare, librispeech, out)
    again(mixture="both")
    made = trees.snapshot(out)
    with monkeypatch.context() as patch:
        patch.setattr(scan, "scan_file", None)  # would fail if called
        patch.setattr(manifests, "write", None)
        again(mixture="both")
    for changed in ({"rate": 16000}, {"mode": "max"}, {"num_spks": 3}, {"mixture": "clean"}):
        again(**{"mixture": "both", **changed})
        left = trees.snapshot(out)
        assert left["test.csv"] != made["test.csv"]
        assert ("noise.csv" in left) == ("mixture" not in changed)
    again(mixture="both")
    assert trees.snapshot(out) == made
    path = noise / read_rows(lists, 2, "train-clean-100")[1]["noise_path"]
    samples, rate = sf.read(path)
    sf.write(trees.own(path), samples[: len(samples) // 2], rate)
    again(mixture="both")
    assert trees.snapshot(out)["noise.csv"] != made["noise.csv"]


def test_the_test_alone_needs_no_other_part(librispeech, tmp_path):
    root, lists, _ = librispeech
    prepare(librispeech, tmp_path / "whole", mixture="both")
    for part in ("train-clean-100", "dev-clean"):
        shutil.rmtree(root / part)
        (lists / f"libri2mix_{part}.csv").unlink()
    prepare(librispeech, tmp_path / "test", mixture="both", test_only=True)
    names = sorted(path.name for path in (tmp_path / "test").glob("*.csv"))
    assert names == ["test.csv"]
    alone, whole = ((tmp_path / name / "test.csv").read_text() for name in ("test", "whole"))
    assert alone == whole
