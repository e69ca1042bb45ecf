"""WSJ0-mix from its lists, against a computation of its own, and from generated folders."""

import errno
import itertools
import logging
import shutil
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from scipy.signal import resample_poly

from data_prep.corpora import wsj0mix
from data_prep.corpora.recognise import recognise
from data_prep.mixing.fixed import FixedMixtures
from data_prep.scan import manifests, scan, scanned
from tests import trees
from tests.shorten import packed_sphere
from tests.trees import RATE

NUM_SPKS, RATES, MODES = (2, 3), (8000, 16000), ("min", "max")
COMBINATIONS = [(n, rate, mode) for n in NUM_SPKS for rate in RATES for mode in MODES]
NUM_ITEMS = 26  # of the published test list for each combination: 208 in all


# --- The published procedure, step by step ------------------------------------------------------


def read_lines(lists: Path, num_spks: int, part: str) -> list[list[str]]:
    return [line.split() for line in (lists / f"mix_{num_spks}_spk_{part}.txt").open()]


def read_activity(lists: Path) -> dict[str, float]:
    lines = [line.split() for path in lists.glob("activlev_*.txt") for line in path.open()]
    return {name: float(level) for name, level in lines}


def mix_line(line: list[str], root: Path, activity: dict, rate: int, mode: str):
    """Name of a mixture, mixture [T] and sources [C, T] of a line of a list."""
    paths, gains_db = line[::2], [float(text) for text in line[1::2]]
    stems = [Path(path).stem for path in paths]
    files = [sf.read(root / path, dtype="float32")[0] for path in paths]
    resampled = [resample_poly(file, rate, 16000) for file in files]
    sources = np.zeros((len(paths), max(map(len, resampled))))
    for row, signal_, stem, db in zip(sources, resampled, stems, gains_db, strict=True):
        row[: len(signal_)] = signal_
        row[:] = row / np.sqrt(activity[stem]) * 10 ** (db / 20)
    if mode == "min":
        sources = sources[:, : min(map(len, resampled))]
    mixture = np.sum(sources, axis=0)
    gain = max(1, np.max(np.abs(mixture)), np.max(np.abs(sources))) / 0.9
    pairs = zip(stems, gains_db, strict=True)
    name = "_".join(f"{stem}_{f'{db:12.8g}'.strip()}" for stem, db in pairs)
    return name, mixture / gain, sources / gain


# --- Trees --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Path, Path]:
    """A small WSJ0 with made-up speech, and its lists; not to be changed."""
    return trees.small_wsj0(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Path, Path]:
    """WSJ0's names with other real speech, and some lines of the published lists."""
    trees.need_published()
    folder = tmp_path_factory.mktemp("published")
    lists = trees.wsj0_lists(folder / "lists", tr=4, cv=3, tt=NUM_ITEMS)
    return _filled(lists, folder / "wsj0", seconds=3.0), lists


@pytest.fixture(params=["small", "published"])
def tree(request) -> tuple[Path, Path]:
    return request.getfixturevalue(request.param)


@pytest.fixture
def wsj0(tmp_path) -> tuple[Path, Path]:
    """A small WSJ0 of one's own to change, and its lists."""
    return trees.small_wsj0(tmp_path / "small")


@pytest.fixture(scope="module")
def generated(small, tmp_path_factory) -> Path:
    """The small WSJ0's mixtures as files; not to be changed."""
    root, lists = small
    folder = tmp_path_factory.mktemp("generated")
    wsj0mix.write(root, lists, folder)
    return folder


def _filled(lists: Path, root: Path, seconds: float) -> Path:
    speech = trees.recordings(trees.SPEECH, 40, seconds)
    return trees.fill(trees.wsj0_names(lists), root, speech)


def prepared(root: Path, output: Path, rate: int, num_spks: int, mode: str, lists: Path | None):
    wsj0mix.prepare(root, output, rate, num_spks, mode, lists)
    names = ("train.csv", "valid.csv", "test.csv")
    return [FixedMixtures(output / name, rate, num_spks, root) for name in names]


def check_item(item: dict, expected: tuple, atol: float = 1e-6) -> None:
    name, mixture, sources = expected
    assert item["id"] == name
    np.testing.assert_allclose(item["mixture"], mixture, rtol=0, atol=atol)
    np.testing.assert_allclose(item["sources"], sources.T, rtol=0, atol=atol)


# --- Mixtures equal the published procedure's ---------------------------------------------------


@pytest.mark.parametrize(("num_spks", "rate", "mode"), COMBINATIONS)
def test_mixing_on_reading(tree, tmp_path, num_spks, rate, mode):
    root, lists = tree
    sets = prepared(root, tmp_path, rate, num_spks, mode, lists)
    activity = read_activity(lists)
    for dataset, part in zip(sets, ("tr", "cv", "tt"), strict=True):
        lines = read_lines(lists, num_spks, part)
        assert len(dataset) == len(lines)
        for item, line in zip(dataset, lines, strict=True):
            check_item(item, mix_line(line, root, activity, rate, mode))


@pytest.mark.parametrize("num_spks", NUM_SPKS)
def test_written_files_are_equal_sample_for_sample(tree, tmp_path, num_spks):
    root, lists = tree
    wsj0mix.write(root, lists, tmp_path, num_spks, RATES, MODES, parts=["tt"])
    activity, lines = read_activity(lists), read_lines(lists, num_spks, "tt")
    for rate, mode in [(rate, mode) for rate in RATES for mode in MODES]:
        folder = tmp_path / f"{num_spks}speakers/wav{rate // 1000}k/{mode}/tt"
        for line in lines:
            name, mixture, sources = mix_line(line, root, activity, rate, mode)
            for place, audio in zip(("mix", "s1", "s2", "s3"), (mixture, *sources), strict=False):
                path = folder / place / f"{name}.wav"
                assert sf.info(path).subtype == "PCM_16"
                samples, written_rate = sf.read(path, dtype="int16")
                assert written_rate == rate
                np.testing.assert_array_equal(samples, np.int16(np.round(2**15 * audio)))
        assert len(list(folder.glob("*/*"))) == (num_spks + 1) * len(lines)


def test_quiet_mixtures_are_not_turned_up(wsj0, tmp_path):
    root, lists = wsj0
    for path in lists.glob("activlev_*.txt"):
        rows = [line.split() for line in path.open()]
        path.write_text("".join(f"{name} {1e4 * float(level)}\n" for name, level in rows))
    test = prepared(root, tmp_path / "out", 16000, 2, "max", lists)[2]
    activity = read_activity(lists)
    for item, line in zip(test, read_lines(lists, 2, "tt"), strict=True):
        check_item(item, mix_line(line, root, activity, 16000, "max"))
        assert item["mixture"].abs().max() < 0.9 - 1e-3


def test_the_whole_published_test_list(tmp_path, caplog):
    trees.need_published()
    lists = trees.wsj0_lists(tmp_path / "lists", tr=4, cv=3, tt=3000)
    root = _filled(lists, tmp_path / "wsj0", seconds=1.2)
    test = prepared(root, tmp_path / "out", 8000, 2, "min", lists)[2]
    lines, activity = read_lines(lists, 2, "tt"), read_activity(lists)
    assert len(test) == len(lines) == 3000
    for i in range(0, 3000, 75):
        check_item(test[i], mix_line(lines[i], root, activity, 8000, "min"))
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 2  # of the lists that were cut
    assert "train.csv has 4 mixtures, WSJ0-2mix was published with 20000" in warned[0]


@pytest.mark.parametrize("mode", MODES)
def test_generated_folders_hold_the_same_mixtures(small, tmp_path, mode):
    root, lists = small
    wsj0mix.write(root, lists, tmp_path / "files", modes=[mode])
    on_reading = prepared(root, tmp_path / "out", 8000, 2, mode, lists)
    for place in ("", "2speakers", "2speakers/wav8k", f"2speakers/wav8k/{mode}"):
        from_files = prepared(tmp_path / "files" / place, tmp_path / place, 8000, 2, mode, None)
    for files, mixed in zip(from_files, on_reading, strict=True):
        items = {item["id"]: item for item in mixed}
        assert {item["id"] for item in files} == set(items)
        for item in files:  # up to 16-bit rounding
            other = items[item["id"]]
            check_item(item, (item["id"], other["mixture"], other["sources"].T), atol=2**-16 + 1e-6)


def test_manifests_tell_speakers_durations_and_levels(small, generated, tmp_path):
    root, lists = small
    prepared(root, tmp_path / "mixed", 8000, 2, "max", lists)
    prepared(generated, tmp_path / "files", 8000, 2, "min", None)
    lines, activity = read_lines(lists, 2, "tr"), read_activity(lists)
    train = pd.read_csv(tmp_path / "mixed/train.csv")
    utterances = [Path(path) for line in lines for path in line[::2]]
    columns = train[["speaker_1", "speaker_2"]].to_numpy().ravel().tolist()
    assert columns == [path.name[:3] for path in utterances]
    longest = [max(sf.info(root / path).duration for path in line[::2]) for line in lines]
    np.testing.assert_allclose(train["duration"], longest, atol=1 / 8000)
    pool = pd.read_csv(tmp_path / "mixed/pool.csv").set_index("ID")
    assert set(pool.index) == {path.stem for path in utterances}
    for path in utterances:
        row = pool.loc[path.stem]
        assert row["duration"] == sf.info(root / path).duration and row["sample_rate"] == RATE
        assert row["speaker"] == path.name[:3] and row["measure"] == "active"
        assert row["level_db"] == pytest.approx(10 * np.log10(activity[path.stem]), abs=1e-9)
    cuts = pd.read_csv(tmp_path / "files/pool.csv").set_index("ID")
    assert set(cuts.index) == set(pool.index)
    assert (cuts["sample_rate"] == 8000).all() and (cuts["measure"] == "active").all()


def test_the_longest_cut_of_an_utterance_goes_into_the_pool(generated, tmp_path):
    folder = generated / "2speakers/wav8k/min/tr"
    root = shutil.copytree(generated, tmp_path / "files")
    first = sorted((folder / "mix").glob("*.wav"))[0].stem
    utterance = first.split("_")[0]
    again = "_".join([utterance, "1.5", "99zc0201", "-1.5"])  # in a shorter mixture too
    for place in ("mix", "s1", "s2"):
        samples, rate = sf.read(folder / place / f"{first}.wav")
        sf.write(root / "2speakers/wav8k/min/tr" / place / f"{again}.wav", samples[:4000], rate)
    wsj0mix.prepare(root, tmp_path / "out", 8000)
    pool = pd.read_csv(tmp_path / "out/pool.csv").set_index("ID")
    assert pool.index.is_unique and "99zc0201" in pool.index
    assert pool.loc[utterance, "duration"] == sf.info(folder / f"mix/{first}.wav").duration
    assert pool.loc[utterance, "wav"].endswith(f"s1/{first}.wav")


def test_padding_belongs_to_no_utterance_of_the_pool(small, tmp_path):
    root, lists = small
    wsj0mix.write(root, lists, tmp_path / "files", modes=["max"], parts=["tr", "cv", "tt"])
    wsj0mix.prepare(tmp_path / "files", tmp_path / "out", 8000, mode="max")
    pool = pd.read_csv(tmp_path / "out/pool.csv").set_index("ID")
    train = pd.read_csv(tmp_path / "out/train.csv")
    for line in read_lines(lists, 2, "tr"):
        for path in line[::2]:
            row = pool.loc[Path(path).stem]
            assert row["duration"] == pytest.approx(sf.info(root / path).duration, abs=2e-3)
            samples, _ = sf.read(tmp_path / "files" / row["wav"].removeprefix("$data_root/"))
            own = samples[: round(row["duration"] * 8000)]
            assert row["level_db"] == pytest.approx(10 * np.log10(np.mean(own**2)), abs=1e-3)
            assert not samples[len(own) :].any()
    assert (train["duration"] > pool["duration"].min() + 0.1).all()  # mixtures keep their length


# --- Discs --------------------------------------------------------------------------------------


def test_packed_discs_in_upper_case(small, tmp_path):
    pytest.importorskip("av")
    root, lists = small
    for name in set(trees.wsj0_names(lists)):
        _, subset, speaker, file = Path(name).parts
        packed = tmp_path / "discs/11-1.1/WSJ0" / f"{subset}/{speaker}/{file[:-4]}.wv1".upper()
        packed.parent.mkdir(parents=True, exist_ok=True)
        samples, rate = sf.read(root / name, dtype="int16")
        packed.write_bytes(packed_sphere(samples, rate))
    discs = prepared(tmp_path / "discs", tmp_path / "out", 16000, 2, "max", lists)
    copies = prepared(root, tmp_path / "copy", 16000, 2, "max", lists)
    for packed, plain in zip(discs, copies, strict=True):
        for one, other in zip(packed, plain, strict=True):
            assert one["id"] == other["id"] and one["sources"].equal(other["sources"])


def test_packed_discs_without_pyav(wsj0, tmp_path, monkeypatch):
    root, lists = wsj0
    path = next(root.glob("wsj0/si_et_05/*/*.wav"))
    trees.own(path).rename(path.with_suffix(".wv1")).write_bytes(packed_sphere(np.arange(9), RATE))
    monkeypatch.setattr("sfsrnet_modules.common.decoding.is_installed", lambda: False)
    with pytest.raises(ValueError, match=r"\.wv1 is packed with Shorten: `pip install av`"):
        wsj0mix.prepare(root, tmp_path / "out", 8000, lists=lists)


def test_copies_are_preferred_to_discs(small, tmp_path):
    root, lists = small
    for name in trees.wsj0_names(lists):
        (tmp_path / "both" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "both" / name).with_suffix(".wv1").write_bytes(b"not looked at")
        (tmp_path / "both" / name).with_suffix(".WV2").write_bytes(b"not looked at either")
    shutil.copytree(root / "wsj0", tmp_path / "both" / "wsj0", dirs_exist_ok=True)
    found = wsj0mix.find_utterances(tmp_path / "both")
    assert len(found) == len(set(trees.wsj0_names(lists)))
    assert all(path.endswith(".wav") for path in found.values())
    wsj0mix.prepare(tmp_path / "both", tmp_path / "out", 8000, lists=lists)


def test_two_files_of_one_utterance_are_refused(wsj0, tmp_path):
    root, lists = wsj0
    path = next(root.glob("wsj0/si_tr_s/*/*.wav"))
    other = root / "other disc" / path.relative_to(root)
    other.parent.mkdir(parents=True)
    shutil.copy(path, other)
    refuse(root, lists, tmp_path, rf"{path.name} and .*{path.name} are two files of one utterance")


# --- Bad input ----------------------------------------------------------------------------------


def refuse(root: Path, lists: Path | None, tmp_path: Path, message: str, **keys) -> str:
    """Neither preparing nor writing does anything but say why, in a sentence."""
    with pytest.raises(ValueError, match=message) as error:
        wsj0mix.prepare(root, tmp_path / "out", 8000, lists=lists, **keys)
    text = str(error.value)
    assert "\n" not in text
    if lists is not None:
        keys.pop("mode", None)
        with pytest.raises(ValueError, match=message):
            wsj0mix.write(root, lists, tmp_path / "files", **keys)
    left = trees.snapshot(tmp_path / "out") | trees.snapshot(tmp_path / "files")
    assert left.keys() <= {"problems.csv"}
    return text


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
        ("truncated", "2 not readable as audio, or truncated"),
        ("empty", "2 not readable as audio, or truncated"),
        ("44.1 kHz", "2 sampled at 44100 Hz instead of 16000 Hz"),
        ("absent", "2 missing"),
    ],
)
def test_bad_files_are_all_named_and_nothing_is_written(wsj0, tmp_path, how, message):
    root, lists = wsj0
    names = sorted(set(trees.wsj0_names(lists)))
    bad = [names[0], names[-1]]
    for name in bad:
        damage(root / name, how)
    text = refuse(root, lists, tmp_path, rf"^2 of the {len(names)} files wanted.*{message}")
    assert all(Path(name).name in text for name in bad)


def test_all_sorts_of_trouble_are_told_at_once(wsj0, tmp_path):
    root, lists = wsj0
    names = sorted(set(trees.wsj0_names(lists)))
    for name, how in zip(names, ("truncated", "44.1 kHz", "absent"), strict=False):
        damage(root / name, how)
    text = refuse(root, lists, tmp_path, "^3 of the ")
    assert all(f"1 {what}" in text for what in ("not readable", "sampled at 44100", "missing"))
    assert all(Path(name).stem in text for name in names[:3])


def test_a_truncated_flac_copy(wsj0, tmp_path):
    root, lists = wsj0
    path = next(root.glob("wsj0/si_tr_s/*/*.wav"))
    flac = path.with_suffix(".flac")
    sf.write(flac, *sf.read(path))
    path.unlink()
    wsj0mix.prepare(root, tmp_path / "whole", 8000, lists=lists)
    damage(flac, "truncated")
    refuse(root, lists, tmp_path, rf"1 not readable as audio, or truncated: \S*{flac.name}")


def test_a_hundred_absent_files_are_listed_in_a_file(wsj0, tmp_path):
    root, lists = wsj0
    lines = [f"wsj0/si_et_05/0{i:02}/0{i:02}c0201.wav 1 wsj0/si_et_05/1{i:02}/1{i:02}c0201.wav -1"
             for i in range(50)]  # fmt: skip
    (lists / "mix_2_spk_tt.txt").write_text("\n".join(lines))
    names = [Path(path).stem for line in lines for path in line.split()[::2]]
    with (lists / "activlev_si_et_05.txt").open("a") as file:
        file.writelines(f"{name} 1e-4\n" for name in names)
    text = refuse(root, lists, tmp_path, "^100 of the .* 100 missing")
    listed = pd.read_csv(tmp_path / "out/problems.csv")
    assert {Path(name).stem for name in listed["ID"]} == set(names) and "problems.csv" in text


def test_an_utterance_without_a_level(wsj0, tmp_path):
    root, lists = wsj0
    path = lists / "activlev_si_et_05.txt"
    name, *others = path.read_text().splitlines()
    path.write_text("\n".join(others))
    refuse(root, lists, tmp_path, rf"1 not among the active levels: \S*{name.split()[0]}")


def test_a_mixture_listed_twice(wsj0, tmp_path):
    root, lists = wsj0
    path = lists / "mix_2_spk_cv.txt"
    path.write_text(path.read_text() + path.read_text().splitlines()[0])
    name = mix_line(
        path.read_text().split("\n")[0].split(), root, read_activity(lists), 8000, "min"
    )
    refuse(root, lists, tmp_path, rf"1 .*{name[0]}.* once")


def test_folders_that_are_not_wsj0_or_its_lists(wsj0, generated, tmp_path):
    root, lists = wsj0
    (tmp_path / "else").mkdir()
    refuse(tmp_path / "else", lists, tmp_path, "is not WSJ0: no si_tr_s, si_dt_05, si_et_05 with")
    shutil.rmtree(root / "wsj0/si_dt_05")
    refuse(root, lists, tmp_path, "is not WSJ0: no si_dt_05 with .* set data_folder to")
    root, lists = trees.small_wsj0(tmp_path / "again")
    refuse(root, lists, tmp_path, r"No mix_4_spk_t.\.txt in .*: set lists to", num_spks=4)
    (lists / "mix_2_spk_tt.txt").unlink()
    with pytest.raises(ValueError, match=r"No mix_2_spk_tt\.txt in .*: set lists to the folder"):
        wsj0mix.prepare(root, tmp_path / "out", 8000, lists=lists)
    for path in lists.glob("activlev*"):
        path.unlink()
    refuse(root, lists, tmp_path, r"No activlev_\*\.txt in .*")
    message = r"No 3speakers/wav8k/min/tr/mix in .*: set data_folder to generated"
    refuse(generated, None, tmp_path, message, num_spks=3)
    refuse(generated, None, tmp_path, r"No 2speakers/wav8k/max/tr/mix in", mode="max")


def test_generated_folders_of_another_mode_or_number_of_speakers(small, tmp_path):
    root, lists = small
    wsj0mix.write(root, lists, tmp_path / "files", num_spks=3)
    folder = tmp_path / "files/3speakers"
    for place in (folder, folder / "wav8k", folder / "wav8k/min"):
        message = "holds mixtures of more than 2 sources: set num_spks to their number"
        refuse(place, None, tmp_path / "else", message)
    message = "mode is max, data_folder leads to mixtures of mode min: set mode to min"
    refuse(place, None, tmp_path / "else", message, mode="max", num_spks=3)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "1 not readable"),
        ("44.1 kHz", "1 sampled at 44100 Hz"),
        ("absent", "1 missing"),
    ],
)
def test_incomplete_generated_folders(generated, tmp_path, how, message):
    root = shutil.copytree(generated, tmp_path / "files")
    path = sorted(root.glob("2speakers/wav8k/min/cv/s2/*.wav"))[1]
    damage(path, how)
    with pytest.raises(ValueError, match=rf"{message}.*s2/{path.name}: generate the corpus again"):
        wsj0mix.prepare(root, tmp_path / "out", 8000)
    shutil.rmtree(root / "2speakers/wav8k/min/tt/mix")
    with pytest.raises(ValueError, match=r"1 |No wav files in .*tt/mix: "):
        wsj0mix.prepare(root, tmp_path / "out", 8000)
    assert not trees.snapshot(tmp_path / "out")


# --- Accidents ----------------------------------------------------------------------------------

NUM_FILES = 8 * 3  # that `write` makes of the small lists
MANIFESTS = {"pool.csv", "train.csv", "valid.csv", "test.csv", "prepared.json"}


@pytest.mark.parametrize("nth", [1, 8, NUM_FILES])
def test_writing_to_a_full_disk(small, generated, tmp_path, monkeypatch, capsys, nth):
    root, lists = small
    arguments = [str(root), "--lists", str(lists), "--output_folder", str(tmp_path)]
    with monkeypatch.context() as patch:
        trees.fill_disk_at(patch, nth)
        assert wsj0mix.main(arguments) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and last.endswith(
        ".wav cannot be written: No space left on device"
    )
    whole, left = trees.snapshot(generated), trees.snapshot(tmp_path)
    assert len(left) < NUM_FILES and left.items() <= whole.items()  # no half file
    assert wsj0mix.main(arguments) == 0
    assert trees.snapshot(tmp_path) == whole


@pytest.mark.parametrize("nth", range(1, len(MANIFESTS) + 1))
def test_preparing_on_a_full_disk(small, tmp_path, monkeypatch, nth):
    root, lists = small
    prepare = partial(wsj0mix.prepare, root, sample_rate=8000, lists=lists)
    prepare(tmp_path / "undisturbed")
    prepare(tmp_path / "out", mode="max")
    with monkeypatch.context() as patch:
        trees.fill_disk_at(patch, nth)
        with pytest.raises(OSError, match=r"cannot be written: No space left on device"):
            prepare(tmp_path / "out")
    assert trees.snapshot(tmp_path / "out").keys() <= MANIFESTS - {"prepared.json"}
    prepare(tmp_path / "out")
    assert trees.snapshot(tmp_path / "out") == trees.snapshot(tmp_path / "undisturbed")


def fail(*_) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_scanning_on_a_full_disk_blames_no_recording(small, tmp_path, monkeypatch):
    root, lists = small
    with monkeypatch.context() as patch:  # full after some recordings
        write = itertools.chain([scanned.Scanned._write] * 5, itertools.repeat(fail))
        patch.setattr(scanned.Scanned, "_write", lambda *given: next(write)(*given))
        with pytest.raises(OSError, match="No space left on device"):
            wsj0mix.prepare(root, tmp_path / "out", 8000, lists=lists)
    (tmp_path / scanned.FILE).symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"scanned\.jsonl cannot be written: No space left on device"):
        wsj0mix.prepare(root, tmp_path, 8000, lists=lists)
    (tmp_path / scanned.FILE).unlink()
    wsj0mix.prepare(root, tmp_path, 8000, lists=lists)


def test_a_killed_writing_is_completed(small, generated, tmp_path):
    root, lists = small
    arguments = f"{str(root)!r}, {str(lists)!r}, {str(tmp_path)!r}"
    code = f"from data_prep.corpora import wsj0mix; wsj0mix.write({arguments})"
    assert trees.killed_at(11, code) == -signal.SIGKILL
    whole, left = trees.snapshot(generated), trees.snapshot(tmp_path)
    taken = {name: data for name, data in left.items() if name.endswith(".wav")}
    assert 0 < len(taken) < NUM_FILES and taken.items() <= whole.items()
    assert len(left) > len(taken)  # a half file has another name
    wsj0mix.write(root, lists, tmp_path)
    assert trees.snapshot(tmp_path) == whole


def test_a_killed_preparation_is_made_again(small, tmp_path, caplog):
    root, lists = small
    arguments = f"{str(root)!r}, {str(tmp_path / 'out')!r}, 8000, lists={str(lists)!r}"
    code = f"from data_prep.corpora import wsj0mix; wsj0mix.prepare({arguments})"
    assert trees.killed_at(4, code) == -signal.SIGKILL
    left = set(trees.snapshot(tmp_path / "out"))
    assert "train.csv" in left and "test.csv" not in left and "prepared.json" not in left
    for output in ("out", "undisturbed"):
        wsj0mix.prepare(root, tmp_path / output, 8000, lists=lists)
    assert trees.snapshot(tmp_path / "out") == trees.snapshot(tmp_path / "undisturbed")


def test_a_second_preparation_does_nothing_unless_something_changed(wsj0, tmp_path, monkeypatch):
    (root, lists), out = wsj0, tmp_path / "out"
    prepare = partial(wsj0mix.prepare, output_folder=out, lists=lists)
    prepare(root, sample_rate=8000)
    made = trees.snapshot(out)
    moved = root.rename(tmp_path / "moved")
    with monkeypatch.context() as patch:
        patch.setattr(scan, "scan_file", None)  # would fail if called
        patch.setattr(manifests, "write", None)
        prepare(moved, sample_rate=8000)
    assert trees.snapshot(out) == made
    for changed in ({"sample_rate": 16000}, {"mode": "max"}, {"num_spks": 3}):
        prepare(moved, **{"sample_rate": 8000, **changed})
        assert trees.snapshot(out)["test.csv"] != made["test.csv"]
    prepare(moved, sample_rate=8000)
    assert trees.snapshot(out) == made
    path = next(moved.glob("wsj0/si_tr_s/*/*.wav"))
    samples, rate = sf.read(path)
    sf.write(trees.own(path), np.tile(samples, 2), rate)
    prepare(moved, sample_rate=8000)
    assert trees.snapshot(out)["pool.csv"] != made["pool.csv"]


def test_the_summary_tells_items_hours_and_speakers(small, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        wsj0mix.prepare(small[0], tmp_path, 8000, lists=small[1])
    assert "train.csv: 4 items, 0.00 h, 4 speakers" in caplog.text
    assert "test.csv has 2 mixtures, WSJ0-2mix was published with 3000: figures" in caplog.text


def test_lists_are_found_in_a_clone_of_their_repository(tmp_path):
    root, lists = trees.small_wsj0(tmp_path)
    wsj0mix.prepare(root, tmp_path / "flat", RATE, lists=lists)
    clone = tmp_path / "pywsj0-mix"
    (clone / "metadata" / "activlev").mkdir(parents=True)
    for path in lists.iterdir():
        place = "activlev" if path.name.startswith("activlev") else "."
        path.rename(clone / "metadata" / place / path.name)
    for number, folder in enumerate((clone, clone / "metadata")):
        assert recognise(root, folder) == "wsj0mix"
        wsj0mix.prepare(root, tmp_path / f"{number}", RATE, lists=folder)
        for name in ("pool.csv", "train.csv", "valid.csv", "test.csv"):
            made = (tmp_path / f"{number}" / name).read_text()
            assert made == (tmp_path / "flat" / name).read_text()


def test_hidden_files_of_other_systems_are_no_mixtures(generated, tmp_path):
    shutil.copytree(generated, tmp_path / "files")
    for part in (tmp_path / "files").glob("*/*/*/t[rt]/*"):
        (part / "._mixture.wav").write_bytes(b"of another system")
        (part / ".DS_Store").touch()
    prepared(generated, tmp_path / "plain", 8000, 2, "min", None)
    prepared(tmp_path / "files", tmp_path / "hidden", 8000, 2, "min", None)
    for name in ("train.csv", "test.csv"):
        assert (tmp_path / "hidden" / name).read_text() == (tmp_path / "plain" / name).read_text()


def test_the_test_alone_needs_no_other_part(tmp_path):
    root, lists = trees.small_wsj0(tmp_path / "small")
    wsj0mix.prepare(root, tmp_path / "whole", 8000, lists=lists)
    for folder in root.rglob("si_tr_s"):
        shutil.rmtree(folder)
    for part in ("tr", "cv"):
        (lists / f"mix_2_spk_{part}.txt").unlink()
    wsj0mix.prepare(root, tmp_path / "test", 8000, lists=lists, test_only=True)
    names = sorted(path.name for path in (tmp_path / "test").glob("*.csv"))
    assert names == ["test.csv"]
    alone, whole = ((tmp_path / name / "test.csv").read_text() for name in ("test", "whole"))
    assert alone == whole
