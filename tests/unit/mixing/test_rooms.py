"""Simulated rooms."""

import builtins
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.signal import correlate

from data_prep.mixing import rooms
from data_prep.mixing.levels import rms_db
from data_prep.mixing.rooms import Rooms, absorption, decay_time, make_bank, make_banks, simulate

RATE = 8000
SIZE = np.array([5.0, 4.0, 3.0])  # m


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    pytest.importorskip("pyroomacoustics")
    path = tmp_path_factory.mktemp("rooms") / "bank.npy"
    make_bank(path, RATE, (0.1, 0.7), 12, seed=0)
    return path


@pytest.fixture
def voices():
    """Two voices at different levels, [2, T]."""
    return np.random.default_rng(0).normal(0, [[0.1], [0.03]], (2, 8000)).astype(np.float32)


def test_reverberation_times_are_those_asked_for(bank):
    found = np.load(bank)
    for room in found:
        length = round(float(room["t60"]) * RATE)
        for response in room["responses"]:
            assert decay_time(response[:length], RATE) == pytest.approx(room["t60"], rel=0.15)
            assert not response[length + 1 :].any()
    assert found["t60"].min() < 0.25 and found["t60"].max() > 0.55


@pytest.mark.parametrize("t60", [0.1, 0.3, 0.7])
def test_the_image_sources_alone_decay_about_so(t60):
    """What the tail takes over from: Eyring's absorption and the early reflections agree."""
    pra = pytest.importorskip("pyroomacoustics")
    room = pra.ShoeBox(SIZE, fs=RATE, materials=pra.Material(absorption(SIZE, t60)), max_order=30)
    room.add_source([1.0, 1.0, 1.2])
    room.add_microphone([3.0, 2.5, 1.5])
    room.compute_rir()
    rir = room.rir[0][0]
    first = np.argmax(np.abs(rir))
    found = decay_time(rir[first : first + round(0.15 * RATE)], RATE)
    assert found == pytest.approx(t60, rel=0.5)


def test_reflections_follow_the_direct_sound_as_geometry_has_it():
    pytest.importorskip("pyroomacoustics")
    size, microphone = np.array([8.0, 6.0, 3.5]), np.array([4.0, 3.0, 1.0])  # m
    distance = 40 * rooms.SPEED / RATE  # 40 samples
    voice = microphone + np.array([distance, 0, 0])
    rng = np.random.default_rng(0)
    (response,) = simulate(rng, size, microphone, voice[None], 0.4, RATE)
    by_floor = np.hypot(distance, 2 * microphone[2]) * RATE / rooms.SPEED - 40  # samples later
    assert response[0] == 1 and np.abs(response[1:15]).max() < 0.1
    assert 1 + np.argmax(np.abs(response[1:60])) == pytest.approx(by_floor, abs=0.6)


def test_direct_sound_is_aligned_with_the_dry_voice(bank, voices):
    heard, dry = Rooms(bank, RATE, "dry").place(voices, 0, [1, 2])
    gains = (dry * voices).sum(1) / (voices**2).sum(1)
    assert (gains > 0).all() and np.abs(dry - gains[:, None] * voices).max() < 1e-6
    assert heard.shape == dry.shape == voices.shape and dry.dtype == heard.dtype == np.float32
    for c in range(2):
        before = correlate(heard[c], voices[c], "full", "fft")[: voices.shape[1]]  # lags up to 0
        assert np.argmax(np.abs(before)) == voices.shape[1] - 1  # nothing comes earlier


def test_targets_are_parts_of_what_is_heard_at_the_level_of_the_voice(bank, voices):
    found = {t: Rooms(bank, RATE, t).place(voices, 5, [4, 0]) for t in rooms.TARGETS}
    for heard, _ in found.values():
        np.testing.assert_array_equal(heard, found["dry"][0])
        for voice, h in zip(voices, heard, strict=True):
            assert rms_db(h) == pytest.approx(rms_db(voice), abs=1e-3)
    np.testing.assert_array_equal(found["reverberant"][1], found["reverberant"][0])
    response = np.load(bank)["responses"][5, 4]
    scale = found["dry"][1][0] @ voices[0] / (voices[0] @ voices[0])
    early = np.convolve(voices[0], response[: round(0.05 * RATE)])[: voices.shape[1]]
    assert np.abs(found["early"][1][0] - scale * early).max() < 1e-5
    whole = np.convolve(voices[0], response)[: voices.shape[1]]
    assert np.abs(found["early"][0][0] - scale * whole).max() < 1e-5


def test_silence_stays_silent(bank, voices):
    voices[1] = 0
    heard, sources = Rooms(bank, RATE, "early").place(voices, 0, [0, 1])
    assert not heard[1].any() and not sources[1].any() and heard[0].any()


def test_banks_are_made_once_are_disjoint_and_depend_on_nothing_else(tmp_path):
    pytest.importorskip("pyroomacoustics")
    numbers = {"train": 3, "valid": 2, "test": 2}
    paths = make_banks(tmp_path / "a", RATE, (0.15, 0.3), numbers)
    times = [path.stat().st_mtime_ns for path in paths.values()]
    make_banks(tmp_path / "a", RATE, (0.15, 0.3), numbers)
    assert times == [path.stat().st_mtime_ns for path in paths.values()]
    again = make_banks(tmp_path / "b", RATE, (0.15, 0.3), numbers)
    for part, path in paths.items():
        assert path.read_bytes() == again[part].read_bytes()
    sizes = np.concatenate([np.load(path)["size"] for path in paths.values()])
    assert len(np.unique(sizes, axis=0)) == 7
    names = {path.suffix for path in (tmp_path / "a").iterdir() if path not in paths.values()}
    assert names == {".lock"}  # nothing unfinished is left


def test_voices_are_in_the_room_and_whole_samples_away(bank):
    for room in np.load(bank):
        distances = np.linalg.norm(room["voices"] - room["microphone"], axis=-1)
        samples = distances / rooms.SPEED * RATE
        assert np.abs(samples - np.rint(samples)).max() < 1e-3
        places = np.vstack([room["microphone"], room["voices"]])
        assert (places > rooms.WALL - 1e-5).all()
        assert (places < room["size"] - rooms.WALL + 1e-5).all()
        assert (distances > 0.45).all() and (distances < 2.55).all()


def test_two_runs_that_share_a_folder_make_a_bank_once(tmp_path, monkeypatch):
    made = []

    def make(path, *_):
        made.append(path)
        time.sleep(0.1)
        path.touch()

    monkeypatch.setattr("data_prep.mixing.rooms.make_bank", make)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(make_banks, tmp_path, RATE, (0.15, 0.3), {"train": 1}) for _ in "ab"]
    assert runs[0].result() == runs[1].result() == {"train": made[0]} and len(made) == 1


def test_what_cannot_be_is_told_in_a_sentence(bank, tmp_path, voices, monkeypatch):
    with pytest.raises(ValueError, match="target is wet: set it to one of reverberant, early"):
        Rooms(bank, RATE, "wet")
    with pytest.raises(ValueError, match=r"are of 8000 Hz, sample_rate is 16000 Hz: prepare"):
        Rooms(bank, 16000)
    with pytest.raises(ValueError, match=r"No bank of rooms at .*none\.npy: prepare"):
        Rooms(tmp_path / "none.npy", RATE)
    with pytest.raises(ValueError, match=r"num_spks is 7: a room has 6 places"):
        Rooms(bank, RATE).draw_places(np.random.default_rng(0), 7)
    with pytest.raises(ValueError, match=r"5\.0 by 4\.0 by 3\.0 m cannot have a T60 of 0\.02 s"):
        absorption(SIZE, 0.02)
    with pytest.raises(ValueError, match=r"t60 is \[0\.7, 0\.1\]: give the lowest and the highest"):
        make_banks(tmp_path, RATE, (0.7, 0.1))
    real = builtins.__import__

    def without_it(name, *args, **keys):
        if name == "pyroomacoustics":
            raise ImportError(name)
        return real(name, *args, **keys)

    monkeypatch.setattr(builtins, "__import__", without_it)
    with pytest.raises(ValueError, match=r"not installed: pip install \.\[rooms\]"):
        simulate(None, SIZE, SIZE / 2, SIZE[None] / 3, 0.3, RATE)
