"""Dynamic mixing."""

import logging

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

# data_prep first: it makes speechbrain importable on a CPU build of torch
from conftest import ROOT
from data_prep.mixing.dynamic import DynamicMixing
from data_prep.mixing.levels import GAIN_DB, LEVEL_DB, PEAK, rms_db
from data_prep.mixing.noise import Noise
from data_prep.mixing.pool import Pool
from data_prep.mixing.rooms import Rooms, make_bank
from data_prep.mixing.turns import Turns
from data_prep.scan.scan import scan, usable

# isort: split
from speechbrain.dataio.batch import PaddedBatch

SPEECH = ROOT.parent / "shared" / "speech"


@pytest.fixture
def corpus(tmp_path):
    """Five speakers, each a sine of its own frequency: 200, 300, ... Hz, at different levels."""
    for s in range(5):
        (tmp_path / f"s{s}").mkdir()
        for u, seconds in enumerate((0.3, 0.7, 2.5)):
            t = np.arange(round(seconds * 16000)) / 16000
            sine = 0.01 * (1 + s + u) * np.sin(2 * np.pi * 100 * (s + 2) * t)
            sf.write(tmp_path / f"s{s}" / f"{u}.wav", sine, 16000)
    return write_pool(tmp_path)


def write_pool(root, name="pool.csv", root_name="data_root"):
    names = sorted(str(path.relative_to(root)) for path in root.glob("*/*.wav"))
    speaker_of = lambda name: name.split("/")[0]  # noqa: E731
    files = scan(root, names, 8000, speaker_of, root_name=root_name)
    usable(files).to_csv(root / name, index=False)
    return root


def make(corpus, num_items=20, **arguments):
    arguments = {"segment": 1.0, "sample_rate": 8000, **arguments}
    return DynamicMixing(corpus / "pool.csv", corpus, num_items, **arguments)


def speaker_of(source):
    """By the frequency of a source, [T]."""
    spectrum = np.abs(np.fft.rfft(source.numpy(), 8000))
    return round(spectrum.argmax() / 100) - 2


@pytest.mark.parametrize("num_spks", [2, 3])
def test_items_keep_the_contract(corpus, num_spks):
    dataset = make(corpus, num_spks=num_spks, segment=0.987)
    assert len(dataset) == len(list(dataset)) == 20
    for item in dataset:
        assert item["mixture"].shape == (7896,) and item["sources"].shape == (7896, num_spks)
        assert item["mixture"].dtype == item["sources"].dtype == torch.float32
        assert torch.equal(item["mixture"], item["sources"].sum(-1))
        assert item["mixture"].abs().max() <= PEAK + 1e-6
        assert len({speaker_of(source) for source in item["sources"].T}) == num_spks


def test_all_speakers_are_drawn_alike(corpus):
    speakers = [speaker_of(s) for item in make(corpus, 200) for s in item["sources"].T]
    counts = np.bincount(speakers, minlength=5)
    assert len(counts) == 5 and counts.min() > 50 and counts.max() < 110  # 80 expected


def test_levels_are_those_of_the_convention(corpus):
    items = make(corpus, 100, segment=0.2)  # shorter than all: no gaps
    levels = np.array([[rms_db(s) for s in item["sources"].numpy().T] for item in items])
    assert np.abs(levels - LEVEL_DB).max() < GAIN_DB + 0.1
    assert 3.5 < np.abs(levels[:, 0] - levels[:, 1]).max() < 2 * GAIN_DB + 0.2


def test_short_utterances_fill_the_segment(tmp_path):
    for s in range(2):
        (tmp_path / f"s{s}").mkdir()
        sf.write(tmp_path / f"s{s}" / "a.wav", np.full(2400, 0.1), 8000)  # 0.3 s
    sources = make(write_pool(tmp_path))[0]["sources"]  # [8000, 2]
    sound = (sources[:, 0] != 0).numpy()
    expected = np.concatenate([([True] * 2400 + [False] * 800) * 3])[:8000]
    np.testing.assert_array_equal(sound, expected)


def test_pauses_leave_speakers_enough(tmp_path):
    for s in range(3):  # who listen half of the time
        samples = np.random.default_rng(s).normal(0, 0.1, 8000 * 8)
        samples[: 8000 * 4] *= 1e-4
        (tmp_path / f"s{s}").mkdir()
        sf.write(tmp_path / f"s{s}" / "call.wav", samples, 8000)
    for item in make(write_pool(tmp_path), 100, num_spks=3):
        assert all(rms_db(source) > -60 for source in item["sources"].numpy().T)


def test_items_depend_on_seed_epoch_and_index(corpus):
    dataset = make(corpus)
    first = dataset[3]
    assert torch.equal(first["sources"], make(corpus)[3]["sources"])
    assert not torch.equal(first["sources"], dataset[4]["sources"])
    assert not torch.equal(first["sources"], make(corpus, seed=5)[3]["sources"])
    dataset.set_epoch(1)
    assert not torch.equal(first["sources"], dataset[3]["sources"])
    dataset.set_epoch(0)
    assert torch.equal(first["sources"], dataset[3]["sources"])
    with pytest.raises(IndexError):
        dataset[20]


def epoch_of(loader):
    return {i: s for batch in loader for i, s in zip(batch.id, batch.sources.data, strict=True)}


def test_workers_change_nothing(corpus):
    dataset = make(corpus)
    workers = DataLoader(dataset, 4, num_workers=2, collate_fn=PaddedBatch, persistent_workers=True)
    for epoch in range(2):
        dataset.set_epoch(epoch)
        alone = epoch_of(DataLoader(dataset, 4, collate_fn=PaddedBatch))
        shared = epoch_of(workers)
        assert alone.keys() == shared.keys() and len(alone) == 20
        assert all(torch.equal(alone[name], shared[name]) for name in alone)
        assert all(name.startswith(f"epoch{epoch}-") for name in alone)


def test_ranks_share_what_one_process_would_get(corpus):
    dataset = make(corpus)
    samplers = [DistributedSampler(dataset, num_replicas=2, rank=rank) for rank in range(2)]
    ranks = [epoch_of(DataLoader(dataset, 4, sampler=s, collate_fn=PaddedBatch)) for s in samplers]
    alone = epoch_of(DataLoader(dataset, 4, collate_fn=PaddedBatch))
    assert len(ranks[0]) == len(ranks[1]) == 10 and not ranks[0].keys() & ranks[1].keys()
    union = ranks[0] | ranks[1]
    assert union.keys() == alone.keys()
    assert all(torch.equal(union[name], alone[name]) for name in alone)


def test_speed_changes_the_pitch_within_its_range(corpus):
    sources = [
        s for item in make(corpus, speed=(0.95, 1.05), segment=0.2) for s in item["sources"].T
    ]
    pitches = [np.abs(np.fft.rfft(s.numpy(), 80000)).argmax() / 10 for s in sources]
    speeds = np.array([pitch / (100 * round(pitch / 100)) for pitch in pitches])
    assert speeds.min() > 0.94 and speeds.max() < 1.06 and np.ptp(speeds) > 0.05


def test_unreadable_file_is_survived(corpus, caplog):
    (corpus / "s0" / "2.wav").unlink()
    (corpus / "s1" / "2.wav").write_text("no audio any more")
    sf.write(corpus / "s2" / "2.wav", np.full(100, 0.1), 16000)  # shorter than it was
    dataset = make(corpus, 40)
    with caplog.at_level(logging.WARNING):
        first = [item["sources"] for item in dataset]
    for name in ("s0/2.wav", "s1/2.wav", "s2/2.wav"):
        assert sum(name in record.getMessage() for record in caplog.records) == 1
    assert dataset.num_unreadable == 3
    again = make(corpus, 40)
    epoch_of(DataLoader(again, 4, num_workers=2, collate_fn=PaddedBatch))
    assert again.num_unreadable == 3  # counted in the workers
    assert all(torch.equal(a, b["sources"]) for a, b in zip(first, again, strict=True))


def test_lost_and_silent_speakers_are_replaced(corpus):
    for u in range(3):
        (corpus / "s0" / f"{u}.wav").unlink()
        samples, rate = sf.read(corpus / "s1" / f"{u}.wav")
        sf.write(corpus / "s1" / f"{u}.wav", 0 * samples, rate)
    for item in make(corpus, 30):
        speakers = {speaker_of(source) for source in item["sources"].T}
        assert speakers <= {2, 3, 4} and len(speakers) == 2


def snr_of(item):
    """Of the voices, [T, C], that are in a mixture of nothing but them and noise."""
    voices = item["sources"].sum(-1)
    return rms_db(voices.numpy()) - rms_db((item["mixture"] - voices).numpy())


@pytest.fixture
def hiss(tmp_path):
    (tmp_path / "sounds" / "hiss").mkdir(parents=True)
    for n in range(3):
        noise = np.random.default_rng(n).normal(0, 0.02 * (n + 1), 4000)  # shorter than a segment
        sf.write(tmp_path / "sounds" / "hiss" / f"{n}.wav", noise, 8000)
    noise = write_pool(tmp_path / "sounds", "noise.csv", "noise_root") / "noise.csv"
    return Pool(noise, 8000, noise_root=tmp_path / "sounds")


@pytest.mark.parametrize("kind", ["recordings", "babble", "coloured"])
def test_noise_is_mixed_in_at_its_ratio_and_share(corpus, hiss, kind):
    noise = Noise(8000, [kind], snr=(5, 15), share=0.7, recordings=hiss)
    items = list(make(corpus, 60, noise=noise))
    clean = [torch.equal(item["mixture"], item["sources"].sum(-1)) for item in items]
    assert 8 < sum(clean) < 30  # 18 expected
    found = np.array([snr_of(item) for item, c in zip(items, clean, strict=True) if not c])
    assert found.min() > 4.99 and found.max() < 15.01 and np.ptp(found) > 7
    assert torch.equal(items[7]["sources"], make(corpus)[7]["sources"])  # noise changes no voice


def test_babble_is_of_other_speakers(corpus):
    for item in make(corpus, 10, noise=Noise(8000, ["babble"], snr=(0, 0))):
        babble = (item["mixture"] - item["sources"].sum(-1)).numpy()
        spectrum = np.abs(np.fft.rfft(babble))[[200, 300, 400, 500, 600]]
        loud = set(np.flatnonzero(spectrum > 0.3 * spectrum.max()))
        assert loud.isdisjoint({speaker_of(source) for source in item["sources"].T}) and loud


def test_all_kinds_of_noise_are_drawn(corpus, hiss):
    every = Noise(8000, ["recordings", "babble", "coloured"], recordings=hiss)
    items = list(make(corpus, 30, noise=every))
    tonal = []  # babble of sines has all its energy in few bins
    for item in items:
        spectrum = np.sort(np.abs(np.fft.rfft(item["mixture"] - item["sources"].sum(-1))) ** 2)
        tonal.append(spectrum[-20:].sum() > 0.9 * spectrum.sum())
    assert 3 < sum(tonal) < 20  # 10 expected


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    pytest.importorskip("pyroomacoustics")
    path = tmp_path_factory.mktemp("rooms") / "bank.npy"
    make_bank(path, 8000, (0.2, 0.5), 4, seed=0)
    return path


@pytest.mark.parametrize("target", ["reverberant", "early", "dry"])
def test_rooms_keep_the_levels_and_add_up(corpus, bank, target):
    options = {"segment": 0.2, "speed": None}
    wet = list(make(corpus, 40, rooms=Rooms(bank, 8000, target, share=0.5), **options))
    whole = list(make(corpus, 40, rooms=Rooms(bank, 8000, share=0.5), **options))
    dry = list(make(corpus, 40, **options))
    in_room = [not torch.equal(a["mixture"], b["mixture"]) for a, b in zip(wet, dry, strict=True)]
    assert 10 < sum(in_room) < 30
    for item, reverberant, plain, is_wet in zip(wet, whole, dry, in_room, strict=True):
        assert torch.equal(item["mixture"], reverberant["mixture"])
        assert torch.equal(reverberant["mixture"], reverberant["sources"].sum(-1))
        for c in range(2):  # the level drawn is that after the room
            level = rms_db(reverberant["sources"][:, c].numpy())
            assert level == pytest.approx(rms_db(plain["sources"][:, c].numpy()), abs=1e-3)
        rest = (item["mixture"] - item["sources"].sum(-1)).abs().max()
        assert (rest > 1e-3) == (is_wet and target != "reverberant")


def test_rooms_noise_and_turns_are_the_same_with_workers_and_after_a_resume(corpus, bank, hiss):
    noise = Noise(8000, ["recordings", "babble", "coloured"], share=0.7, recordings=hiss)
    turns = Turns(8000, {0: 0.2, 1: 0.3}, pause_share=0.5)
    options = {"rooms": Rooms(bank, 8000, "early", 0.7), "noise": noise, "turns": turns}
    dataset = make(corpus, 12, **options)
    dataset.set_epoch(3)
    alone = epoch_of(DataLoader(dataset, 4, collate_fn=PaddedBatch))
    workers = epoch_of(DataLoader(dataset, 4, num_workers=2, collate_fn=PaddedBatch))
    resumed = make(corpus, 12, **options)
    resumed.set_epoch(3)
    for i in (11, 2):  # in any order
        item = resumed[i]
        assert torch.equal(alone[item["id"]], item["sources"])
        assert torch.equal(dataset[i]["mixture"], item["mixture"])
    assert all(torch.equal(alone[name], workers[name]) for name in alone)


def test_voices_that_do_not_speak_are_zeros_and_noise_stays(corpus, hiss):
    noise = Noise(8000, recordings=hiss)
    whole, turns = make(corpus, noise=noise), Turns(8000, {0: 0.3, 1: 0.4}, pause_share=0.5)
    dataset = make(corpus, noise=noise, turns=turns)
    numbers = [int(item["sources"].any(0).sum()) for item in dataset]
    assert set(numbers) == {0, 1, 2}
    for item, everyone, number in zip(dataset, whole, numbers, strict=True):
        left = item["mixture"] - item["sources"].sum(1)
        assert left.square().mean() > 0
        if number == 0:
            loudness = everyone["sources"].sum(1).square().mean()
            snr = 10 * torch.log10(loudness / left.square().mean())
            assert -1 < snr < 16  # as if they spoke, to the limit of the peak


def test_pools_that_cannot_be_mixed_are_told(corpus, tmp_path):
    with pytest.raises(ValueError, match=r"has 5 speakers, mixtures of 6 need as many"):
        make(corpus, num_spks=6)
    with pytest.raises(ValueError, match="lists files of 16000 Hz, sample_rate is 44100 Hz"):
        make(corpus, sample_rate=44100)
    with pytest.raises(ValueError, match=r"No manifest at .*none\.csv"):
        DynamicMixing(corpus / "none.csv", corpus, 1, 1.0, 8000)
    with pytest.raises(ValueError, match=r"No file of .*pool\.csv is found in .*gone"):
        DynamicMixing(corpus / "pool.csv", corpus / "gone", 1, 1.0, 8000)
    dataset = make(corpus)
    for path in corpus.glob("*/*.wav"):
        path.unlink()
    with pytest.raises(OSError, match=r"Fewer than 2 speakers of .*pool\.csv can be read"):
        dataset[0]


def test_pool_of_one_utterance_a_speaker_with_numeric_names(tmp_path):
    for name in ("007", "NA"):  # must stay strings
        (tmp_path / name).mkdir()
        sf.write(tmp_path / name / "a.wav", np.full(16000, 0.1), 8000)
    assert make(write_pool(tmp_path), 2)[1]["sources"].shape == (8000, 2)
    assert pd.read_csv(tmp_path / "pool.csv", dtype=str)["speaker"][0] == "007"


@pytest.mark.skipif(not SPEECH.is_dir(), reason="no real speech at ../shared/speech")
def test_real_speech_keeps_its_levels(tmp_path):
    root = SPEECH / "librispeech"
    names = sorted(str(path.relative_to(root)) for path in root.glob("*/*.flac"))[:10]
    usable(scan(root, names, 8000, str)).to_csv(tmp_path / "pool.csv", index=False)
    dataset = DynamicMixing(tmp_path / "pool.csv", root, 20, segment=4.0, sample_rate=8000)
    levels = [rms_db(source) for item in dataset for source in item["sources"].numpy().T]
    assert np.mean(levels) == pytest.approx(LEVEL_DB, abs=1.5)
    assert max(item["mixture"].abs().max() for item in dataset) <= PEAK + 1e-6
