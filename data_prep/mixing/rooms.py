"""Simulated rooms: banks of impulse responses, and voices as they are heard in one of them.

A bank is one file, mapped into memory, of rooms with a microphone and several places of voices.
The early reflections come from pyroomacoustics' image sources; behind ``MIXING_TIME``, where they
are too dense to be told apart and too many to be computed, a tail of noise decays instead. The
whole is then bent to decay by 60 dB in exactly the time asked for.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.signal import butter, sosfilt
from torch.nn.functional import pad
from tqdm import tqdm

from data_prep.mixing.levels import from_db, rms_db
from data_prep.mixing.noise import check_range
from sfsrnet_modules.common.writing import alone, whole_or_not_at_all

TARGETS = ("reverberant", "early", "dry")
EARLY = 0.05  # s behind the direct sound: reflections that the ear takes for part of it
NUMBERS = {"train": 300, "valid": 50, "test": 50}  # rooms of each part
PLACES = 6  # of voices in a room
SMALLEST, LARGEST = (3.0, 3.0, 2.4), (8.0, 6.0, 3.5)  # m
WALL = 0.4  # m between a wall and a voice or the microphone, at least
DISTANCE = (0.5, 2.5)  # m between a voice and the microphone
HIGHEST_ABSORPTION = 0.95  # of the sound's energy, by a wall
ORDER = 12  # of the image sources: complete up to MIXING_TIME in a room 2.4 m high
MIXING_TIME = 0.08  # s behind the direct sound
FADE = 0.02  # s, from image sources to noise
LOWEST = 50.0  # Hz: image sources pile up below, as no wall turns their phase
SPEED = 343.0  # m/s, of sound; pyroomacoustics' own


class Rooms:
    """A bank of rooms, from which places are drawn.

    Arguments
    ---------
    path : str or os.PathLike
        A bank of ``make_bank``.
    sample_rate : int
        Wanted sampling rate in Hz.
    target : str
        What a source is, one of ``TARGETS``: the voice as the room returns it; its direct sound
        and the reflections of the first ``EARLY`` seconds; or the direct sound alone.
    share : float
        Of the mixtures that are heard in a room.

    Raises
    ------
    ValueError
        No such bank, one of another rate, or another target.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        sample_rate: int,
        target: str = "reverberant",
        share: float = 1.0,
    ):
        check_target(target)
        if not os.path.isfile(path):
            raise ValueError(f"No bank of rooms at {path}: prepare the data again, with rooms set")
        self.path = os.fspath(path)
        self.bank = np.load(path, mmap_mode="r")  # [R]; processes share its memory
        if self.bank["sample_rate"][0] != sample_rate:
            raise ValueError(
                f"The rooms of {path} are of {self.bank['sample_rate'][0]} Hz, sample_rate is "
                f"{sample_rate} Hz: prepare the data again at that rate"
            )
        self.sample_rate = sample_rate
        self.share = share
        self.num_early = {"reverberant": None, "early": round(EARLY * sample_rate), "dry": 1}[
            target
        ]

    def draw(self, rng: np.random.Generator, voices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return voices in a room that is drawn, or as they are: see ``place``."""
        if rng.random() >= self.share:
            return voices, voices
        return self.place(voices, *self.draw_places(rng, len(voices)))

    def draw_places(self, rng: np.random.Generator, num_spks: int) -> tuple[int, np.ndarray]:
        """Draw a room, and a place in it for each voice."""
        places = self.bank["responses"].shape[1]
        if num_spks > places:
            raise ValueError(f"num_spks is {num_spks}: a room has {places} places of voices")
        return int(rng.integers(len(self.bank))), rng.permutation(places)[:num_spks]

    def place(
        self, voices: np.ndarray, room: int, places: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return voices as they are heard at the microphone, and what is to be separated.

        The direct sound comes undelayed, and each voice is heard at the level that it had.

        Arguments
        ---------
        voices : np.ndarray [C, T]
        room : int
        places : sequence of int
            Of each voice.

        Returns
        -------
        heard : np.ndarray [C, T]
            float32.
        targets : np.ndarray [C, T]
            float32; part of what is heard.
        """
        responses = self.bank["responses"][room, list(places)]  # [C, L]
        length = round(float(self.bank["t60"][room]) * self.sample_rate)
        parts = [responses[:, :length]]
        if self.num_early is not None:
            parts.append(responses[:, : min(self.num_early, length)])
        heard, *targets = convolve(voices, *parts)  # [C, T] each
        gains = np.array([_level_gain(v, h) for v, h in zip(voices, heard, strict=True)])
        heard *= gains[:, None]
        return heard, targets[0] * gains[:, None] if targets else heard


def _level_gain(voice: np.ndarray, heard: np.ndarray) -> np.float32:
    """Factor that brings what is heard to the level of the voice; 1 for silence."""
    gain_db = rms_db(voice) - rms_db(heard)
    return np.float32(from_db(gain_db) if np.isfinite(gain_db) else 1.0)


def convolve(voices: np.ndarray, *responses: np.ndarray) -> list[np.ndarray]:
    """Convolve each voice with its response, and with further ones, up to the voices' end.

    By blocks of the voices (overlap-save), whose transforms stay in the processor's cache; the
    voices' are taken once.

    Arguments
    ---------
    voices : np.ndarray [C, T]
        float32.
    *responses : np.ndarray [C, L]
        float32, the longest first.

    Returns
    -------
    list of np.ndarray [C, T]
    """
    num_samples, past = voices.shape[-1], responses[0].shape[-1] - 1
    size = 2 ** math.ceil(math.log2(2 * past + 2))  # of a transform
    step = size - past  # samples of the result that it gives
    padded = pad(torch.from_numpy(voices), (past, -num_samples % step))
    spectra = torch.fft.rfft(padded.unfold(-1, size, step))  # [C, B, F]
    results = []
    for response in responses:
        product = spectra * torch.fft.rfft(torch.from_numpy(response), size)[:, None]
        heard = torch.fft.irfft(product, size)[..., past:]  # [C, B, step]
        results.append(heard.flatten(1)[:, :num_samples].numpy())
    return results


def make_banks(
    folder: str | os.PathLike,
    sample_rate: int,
    t60: tuple[float, float] = (0.1, 0.7),
    numbers: dict[str, int] | None = None,
) -> dict[str, Path]:
    """Make a bank of rooms for each part of a corpus, unless it is there.

    Arguments
    ---------
    folder : str or os.PathLike
        Where the banks go; made if missing.
    sample_rate : int
        Hz.
    t60 : tuple of float
        Range of the reverberation times in seconds.
    numbers : dict, optional
        Names of the parts and how many rooms each has of its own. Default: ``NUMBERS``.

    Returns
    -------
    dict
        The path of each part's bank.

    Raises
    ------
    ValueError
        No room can have such a reverberation time.
    """
    check_range("t60", t60)
    low, high = t60
    numbers = NUMBERS if numbers is None else numbers
    name = f"{sample_rate}Hz-{low:g}-{high:g}s"
    paths = {part: Path(folder) / f"{part}-{name}-{n}.npy" for part, n in numbers.items()}
    if all(path.is_file() for path in paths.values()):
        return paths
    Path(folder).mkdir(parents=True, exist_ok=True)
    with alone(Path(folder) / name):
        for seed, (part, path) in enumerate(paths.items()):
            if not path.is_file():  # made by another run, or before this one was stopped
                make_bank(path, sample_rate, t60, numbers[part], seed, part)
    return paths


def make_bank(
    path: Path, sample_rate: int, t60: tuple[float, float], number: int, seed: int, part: str = ""
) -> None:
    """Make one bank: a structured array [R], whole or not at all.

    Arguments
    ---------
    path : Path
    sample_rate : int
        Hz.
    t60 : tuple of float
        Range of the reverberation times in seconds, drawn uniformly.
    number : int
        Rooms, R.
    seed : int
    part : str
        For the progress bar.
    """
    num_taps = round(t60[1] * sample_rate)  # L
    fields = [
        ("sample_rate", np.int32),
        ("t60", np.float32),  # s
        ("size", np.float32, 3),  # m
        ("microphone", np.float32, 3),  # m
        ("voices", np.float32, (PLACES, 3)),  # m
        ("responses", np.float32, (PLACES, num_taps)),
    ]
    bank = np.zeros(number, fields)
    bank["sample_rate"] = sample_rate
    for i, room in enumerate(tqdm(bank, desc=f"Rooms {part}".strip(), unit="room", disable=None)):
        rng = np.random.default_rng([seed, i])
        room["t60"] = rng.uniform(*t60)
        room["size"] = rng.uniform(SMALLEST, LARGEST)
        room["microphone"], room["voices"] = draw_positions(rng, room["size"], sample_rate)
        geometry = (room["size"], room["microphone"], room["voices"])
        responses = simulate(rng, *geometry, float(room["t60"]), sample_rate)
        room["responses"][:, : responses.shape[1]] = responses
    with whole_or_not_at_all([path]) as (partial,), open(partial, "wb") as file:
        np.save(file, bank)


def draw_positions(
    rng: np.random.Generator, size: np.ndarray, sample_rate: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw where in a room the microphone [3] and the voices [P, 3] are, in metres.

    The distances are whole numbers of samples: a direct sound is one sample then, and the dry
    voice exactly where it was.
    """
    microphone = rng.uniform(WALL, size - WALL)
    voices = []
    while len(voices) < PLACES:
        direction = rng.normal(size=3)
        distance = round(rng.uniform(*DISTANCE) / SPEED * sample_rate) * SPEED / sample_rate
        voice = microphone + direction * distance / np.linalg.norm(direction)
        if (voice > WALL).all() and (voice < size - WALL).all():
            voices.append(voice)
    return microphone, np.array(voices)


def simulate(
    rng: np.random.Generator,
    size: np.ndarray,
    microphone: np.ndarray,
    voices: np.ndarray,
    t60: float,
    sample_rate: int,
) -> np.ndarray:
    """Simulate the impulse responses of a shoebox room.

    Arguments
    ---------
    rng : np.random.Generator
        Of the tails.
    size, microphone : np.ndarray [3]
        In metres.
    voices : np.ndarray [P, 3]
        In metres.
    t60 : float
        Reverberation time in seconds.
    sample_rate : int
        Hz.

    Returns
    -------
    np.ndarray [P, L]
        float32, from the direct sound on, which is 1; L = t60 * sample_rate.

    Raises
    ------
    ValueError
        The room cannot have that reverberation time.
    """
    pra = _pyroomacoustics()
    material = pra.Material(absorption(size, t60))
    room = pra.ShoeBox(size, fs=sample_rate, materials=material, max_order=ORDER)
    for voice in voices:
        room.add_source(voice)
    room.add_microphone(microphone)
    room.compute_rir()
    lead = pra.constants.get("frac_delay_length") // 2  # what pyroomacoustics puts before all
    distances = np.linalg.norm(voices - microphone, axis=-1)  # [P], m
    begins = lead + np.rint(distances / SPEED * sample_rate).astype(int)
    pairs = zip(room.rir[0], begins, strict=True)
    return np.stack([_response(rng, rir[begin:], t60, sample_rate) for rir, begin in pairs])


def absorption(size: np.ndarray, t60: float) -> float:
    """Share of the energy that the walls of a room absorb, by Eyring's formula.

    Raises
    ------
    ValueError
        More than walls can absorb.

    Example
    -------
    >>> round(absorption(np.array([5.0, 4.0, 3.0]), 0.3), 2)
    0.29
    """
    x, y, z = (float(side) for side in size)  # m
    area = 2 * (x * y + y * z + z * x)  # m^2
    absorbed = 1 - np.exp(-24 * np.log(10) / SPEED * x * y * z / (area * t60))
    if absorbed > HIGHEST_ABSORPTION:
        raise ValueError(
            f"A room of {x:.1f} by {y:.1f} by {z:.1f} m cannot have a T60 of {t60:g} s, its walls "
            f"would have to absorb {absorbed:.1%}: raise t60"
        )
    return float(absorbed)


def _response(rng: np.random.Generator, rir: np.ndarray, t60: float, sample_rate: int):
    """An image-source response from the direct sound on, with a tail, bent to the decay: [L]."""
    reflections = np.zeros(round(t60 * sample_rate))  # [L]
    length = min(len(rir), len(reflections))
    reflections[1:length] = rir[1:length] / rir[0]
    highpass = butter(2, LOWEST, "highpass", fs=sample_rate, output="sos")
    response = _with_tail(rng, sosfilt(highpass, reflections), t60, sample_rate)
    response[0] = 1.0
    time = np.arange(len(response)) / sample_rate
    for _ in range(3):  # the direct sound weighs in as well: it takes more than one step
        rate = np.log(1000) * (1 / decay_time(response, sample_rate) - 1 / t60)  # 1/s
        response *= np.exp(rate * time)
    return response.astype(np.float32)


def _with_tail(
    rng: np.random.Generator, reflections: np.ndarray, t60: float, sample_rate: int
) -> np.ndarray:
    """Let decaying noise take over from `reflections` [L], at the power that they end with."""
    end, fade = round(MIXING_TIME * sample_rate), round(FADE * sample_rate)
    if len(reflections) <= end:
        return reflections
    time = (np.arange(len(reflections)) - (end - fade / 2)) / sample_rate
    power = np.mean(reflections[end - fade : end] ** 2)
    tail = rng.normal(0, np.sqrt(power), len(reflections)) * np.exp(-np.log(1000) * time / t60)
    angle = np.pi / 2 * np.clip((np.arange(len(reflections)) - (end - fade)) / fade, 0, 1)
    return reflections * np.cos(angle) + tail * np.sin(angle)


def decay_time(response: np.ndarray, sample_rate: int) -> float:
    """Reverberation time T60 in seconds, by Schroeder's backward integration from -5 to -25 dB.

    Example
    -------
    >>> t = np.arange(8000) / 8000
    >>> round(decay_time(10 ** (-3 * t / 0.5), 8000), 3)
    0.5
    """
    energy = np.cumsum(np.square(response[::-1]))[::-1]
    decay_db = 10 * np.log10(energy / energy[0] + 1e-12)
    begin, end = np.argmax(decay_db < -5), np.argmax(decay_db < -25)
    slope = np.polyfit(np.arange(begin, end) / sample_rate, decay_db[begin:end], 1)[0]  # dB/s
    return float(-60 / slope)


def check_target(target: str) -> None:
    """Stop where a target is none: a ``ValueError`` says so."""
    if target not in TARGETS:
        raise ValueError(f"target is {target}: set it to one of {', '.join(TARGETS)}")


def _pyroomacoustics():
    try:
        import pyroomacoustics
    except ImportError as error:
        raise ValueError(
            "Rooms are simulated by the package pyroomacoustics, which is not installed: "
            "pip install .[rooms], or leave rooms away"
        ) from error
    return pyroomacoustics
