"""The shell as a process of its own: full disks, read-only folders, Ctrl-C; long conversations."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from conftest import ROOT
from sfsrnet_modules.common.permutation import best_order
from sfsrnet_modules.common.si_snr import pairwise_si_snr
from sfsrnet_modules.evaluation.metrics import in_order
from sfsrnet_modules.inference import segments
from sfsrnet_modules.inference.interface import DEFAULT_MODEL, SFSRNetSeparation
from sfsrnet_modules.inference.segments import separate_segments
from tests import scripts
from tests.conversation import RATE, conversation, held_out_speakers
from tests.oracle import Oracle


def noise(path: Path, seconds: float) -> Path:
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(round(seconds)):
            file.write(0.1 * rng.standard_normal(RATE))
    return path


def words(recording: Path, output: Path, model: Path) -> list[str]:
    """What follows ``python`` on the command line."""
    module = ["-m", "sfsrnet_modules.apps.separate"]
    return [*module, *map(str, (recording, "-o", output, "--model", model, "--segment", 2))]


def start(*folders: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *words(*folders)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C reaches it even where these tests run in the background of a shell
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture
def mount(tmp_path):
    """Mount a small disk of its own."""
    mounted = []

    def at(folder: Path, options: str) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("a disk can only be mounted by root")
        mounted.append(folder)
        return folder

    yield at
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


# 20 s of two voices: 1.28 MB in the temporary file, 640 kB as wav
@pytest.mark.parametrize("options", ["size=1M", "size=1500K", "ro"])
def test_a_disk_that_cannot_take_the_voices(model_folder, tmp_path, mount, options):
    disk = mount(tmp_path / "disk", options)
    done = scripts.run(*words(noise(tmp_path / "talk.wav", 20), disk, model_folder))
    assert (done.returncode, done.stdout) == (1, "")
    reason = "Read-only file system" if options == "ro" else "No space left on device|disk full"
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the voices can't be written to")
    assert any(text in line for text in reason.split("|"))
    assert list(disk.iterdir()) == []


def test_ctrl_c_in_the_middle(model_folder, tmp_path):
    output = tmp_path / "out"
    process = start(noise(tmp_path / "talk.wav", 3600), output, model_folder)
    deadline = time.monotonic() + 100
    while not output.is_dir() and time.monotonic() < deadline:  # made when the first voices come
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    try:
        out, err = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:  # Python drops what it is told within a destructor
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted: what is told above is done, the file in work is not\n"
    assert list(output.iterdir()) == []


class Spy(segments.SpeakerOrder):
    """Remembers the segments as they were before and after sorting."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.given, self.sorted = [], []
        Spy.last = self

    def sort(self, voices, start=0):
        self.given.append(voices)
        self.sorted.append(super().sort(voices, start))
        return self.sorted[-1]


class OracleOrder:
    """Sorts each segment like the sources themselves, by what of each source it explains."""

    def __init__(self, sources, starts):
        self.sources, self.starts = sources, iter(starts)

    def sort(self, voices, start=0):
        begin = next(self.starts)
        shares = explained(voices, self.sources[begin : begin + len(voices)])
        return voices[:, best_order(shares[None])[0]]


def explained(voices: torch.Tensor, sources: torch.Tensor) -> torch.Tensor:
    """Energy of each source that each voice explains, [voice, source]."""
    unit = voices / voices.norm(dim=0).clamp_min(1e-9)
    return (unit.mT @ sources).square()


def si_snr(voices: torch.Tensor, sources: torch.Tensor) -> torch.Tensor:
    return pairwise_si_snr(in_order(sources, voices)[None], sources[None])[0].diagonal().mean()


def check_long(monkeypatch, sources: torch.Tensor, separate, size: int, overlap: int) -> float:
    """Separate in segments; compare with the best order of each. Returns dB SI-SNR."""
    mixture, blocks = sources.sum(1), sources.sum(1).split(100_000)
    monkeypatch.setattr(segments, "SpeakerOrder", Spy)
    voices = torch.cat(list(separate_segments(separate, blocks, RATE, size, overlap)))
    assert voices.shape == sources.shape
    starts = Oracle(sources, size, overlap).starts
    spy = Spy.last
    monkeypatch.setattr(segments, "SpeakerOrder", lambda *_: OracleOrder(sources, starts))
    given = iter(spy.given)
    best = torch.cat(list(separate_segments(lambda _: next(given), blocks, RATE, size, overlap)))
    score = si_snr(voices, sources)
    assert (score - si_snr(best, sources)).abs() < 0.3  # dB
    assert swapped(spy.sorted, starts, sources) == 0
    assert jumps(voices.sum(1), starts[1:], overlap) < 2 * mixture.diff().abs().max()
    return score.item()


def swapped(parts: list, starts: list[int], sources: torch.Tensor) -> int:
    orders = [
        tuple(best_order(explained(part, sources[start : start + len(part)])[None])[0].tolist())
        for part, start in zip(parts, starts, strict=True)
    ]
    return len(orders) - max(orders.count(order) for order in orders)


def jumps(total: torch.Tensor, starts: list[int], overlap: int) -> torch.Tensor:
    steps = total.diff().abs()
    return max(steps[start - 1 : start + overlap + 1].max() for start in starts)


@pytest.mark.parametrize(("size", "overlap"), [(16.0, 2.0), (4.0, 1.0)])
@pytest.mark.parametrize("roughness", [0.1, 1.0])
def test_ten_minutes_keep_their_voices(speech, monkeypatch, size, overlap, roughness):
    sources = conversation(held_out_speakers(speech)[3:5], seconds=600)
    size, overlap = round(size * RATE), round(overlap * RATE)
    oracle = Oracle(sources, size, overlap, scales=(-0.4, -0.3), roughness=roughness)
    check_long(monkeypatch, sources, oracle, size, overlap)


def test_two_minutes_with_the_default_model(speech, monkeypatch):
    if not DEFAULT_MODEL.is_dir():
        pytest.skip(f"the default model is missing: {DEFAULT_MODEL}")
    separator = SFSRNetSeparation.from_hparams()
    sources = conversation(held_out_speakers(speech)[7:9], seconds=120, pause_every=60)

    def separate(mixture):
        return separator.separate_batch(mixture[None])[0]

    assert check_long(monkeypatch, sources, separate, 16 * RATE, 2 * RATE) > 3  # dB


def test_the_default_model_loses_no_voice_and_seldom_makes_one_up(speech, tmp_path):
    separator = SFSRNetSeparation.from_hparams()
    numbers = []  # of voices that are given of one alone
    for seed, files in enumerate(zip(*[iter(held_out_speakers(speech)[:6])] * 2, strict=True)):
        sources = conversation(list(files), seconds=6, seed=seed)
        soundfile.write(tmp_path / "two.wav", sources.sum(1), RATE, subtype="FLOAT")
        voices = in_order(sources, separator.separate_file(tmp_path / "two.wav")[0])
        change = 20 * (voices.norm(dim=0) / sources.norm(dim=0)).log10()  # dB
        assert si_snr(voices, sources) > 3 and change.abs().max() < 4
        for source in sources.T:
            soundfile.write(tmp_path / "one.wav", source, RATE, subtype="FLOAT")
            alone = separator.separate_file(tmp_path / "one.wav")[0]  # [T, C]
            numbers.append(int(alone.abs().amax(0).count_nonzero()))
    assert numbers.count(1) >= 5 and numbers.count(0) == 0  # 93 % of one, says the card


def test_stereo_of_real_speech_keeps_rate_and_length(speech, model_folder, tmp_path):
    first, second = held_out_speakers(speech)[3:5]
    left, right = (soundfile.read(p)[0][:80_000] for p in (first, second))
    stereo = np.stack([left + 0.5 * right, 0.5 * left + right], axis=1)
    path = tmp_path / "meeting.wav"
    soundfile.write(path, 0.5 * np.repeat(stereo, 3, axis=0)[:220_507], 44100)
    separator = SFSRNetSeparation.from_hparams(model_folder)
    for voice in separator.separate_long(path, tmp_path / "out"):
        info = soundfile.info(voice)
        assert (info.samplerate, info.frames) == (44100, 220_507)
