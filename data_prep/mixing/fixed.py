"""Reading fixed mixtures.

A manifest of mixtures has one row a mixture: ``ID``, ``duration`` in seconds, and for each source
i from 1 its ``speaker_i`` and ``wav_i``. A row says all: reading it again gives the same samples.
Further columns, as a corpus needs them:

``start_i``     where the source begins in its file, in seconds; 0 if absent
``duration_i``  of the source in seconds, where it is shorter than the mixture: silence follows
``gain_i``      factor of the file's samples; 1 if absent
``at_i``        where in the mixture each of several turns begins, in seconds; then it, ``wav_i``,
                ``start_i``, ``duration_i`` and ``gain_i`` have a value a turn, ``|`` between them
``wav_noise``   noise, with ``start_noise``, ``duration_noise`` and ``gain_noise`` as above;
                ``end_noise`` is the frame where it is cut, or up to which it is repeated
              several files with ``|`` between them are babble, their sum at one level;
              without a file ``seed_noise`` makes coloured noise
``wav_mix``     the mixture; the sum of sources and noise if absent
``bank``        bank of rooms (``data_prep.mixing.rooms``), with the number of the ``room`` in it
              and the ``place_i`` of each source there, which keeps its level
``t60``, ``snr``  of the room in seconds, of the noise in dB: for plots

An empty cell is as good as none; without ``wav_i`` source i is silent.
"""

import os
from collections.abc import Mapping
from functools import lru_cache, partial

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from data_prep.mixing.epoch import EpochDataset
from data_prep.mixing.mixture_lists import read_mixtures, with_durations
from data_prep.mixing.noise import coloured, read_noise
from data_prep.mixing.rooms import Rooms
from sfsrnet_modules.common.audio_io import open_audio
from sfsrnet_modules.common.crops import last_frame, rate_ratio, read_audio


class FixedMixtures(Dataset):
    """The mixtures of a manifest, in its order.

    Arguments
    ---------
    manifest : str or os.PathLike
        Made by ``data_prep.corpora.recognise.prepare`` or in the same format; also a list of
        SpeechBrain's or Asteroid's, see ``data_prep.mixing.mixture_lists``.
    sample_rate : int
        Wanted sampling rate in Hz.
    num_spks : int
        Number of sources, C; those that the manifest does not have are silent.
    data_root : str or os.PathLike
        Replaces ``$data_root`` in the manifest's paths.
    noise_root : str or os.PathLike, optional
        Replaces ``$noise_root``.
    rooms_root : str or os.PathLike, optional
        Replaces ``$rooms_root``, where the banks of rooms are.
    target : str
        What a source in a room is, see ``data_prep.mixing.rooms.Rooms``.

    Raises
    ------
    ValueError
        No manifest, or one of mixtures of more than ``num_spks`` sources.
    """

    def __init__(
        self,
        manifest: str | os.PathLike,
        sample_rate: int,
        num_spks: int,
        data_root: str | os.PathLike,
        noise_root: str | os.PathLike | None = None,
        rooms_root: str | os.PathLike | None = None,
        target: str = "reverberant",
    ):
        self.target = target
        self.manifest = os.fspath(manifest)
        self.sample_rate = sample_rate
        self.num_spks = num_spks
        rows = located(read_manifest(self.manifest), data_root, noise_root, rooms_root)
        self.rows = with_durations(rows, self.manifest)
        found = self.rows.columns.str.fullmatch(r"wav_\d+").sum()
        if not 0 < found <= num_spks:
            raise ValueError(
                f"{self.manifest} lists mixtures of {found} sources, num_spks is {num_spks}: "
                "set num_spks to that, or prepare the data again"
            )
        for c in range(found + 1, num_spks + 1):
            self.rows[f"wav_{c}"] = ""
            self.rows[f"place_{c}"] = self.rows.get("place_1", "")  # anywhere: it is silent

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        """Read one mixture.

        Arguments
        ---------
        index : int
            Row of the manifest.

        Returns
        -------
        dict
            ``id``, ``mixture`` [T] and ``sources`` [T, C], float32.

        Raises
        ------
        OSError
            A file is missing or broken.
        """
        return self.read(self.rows.iloc[index])

    def num_samples(self, row: Mapping) -> int:
        """Length of a mixture, T."""
        return round(float(row["duration"]) * self.sample_rate)

    def read(self, row: Mapping, begin: int = 0, num_samples: int | None = None) -> dict:
        """Read a piece of one mixture, all of it by default; else as ``__getitem__``."""
        num_samples = self.num_samples(row) if num_samples is None else num_samples
        try:
            mixture, sources = read_mixture(
                row, self.sample_rate, self.num_spks, begin, num_samples, self.target
            )
        except OSError as error:
            raise OSError(
                f"{error} (listed in {self.manifest}): check data_folder, or prepare it again"
            ) from error
        sources = torch.from_numpy(np.ascontiguousarray(sources))  # [T, C]
        return {"id": row["ID"], "mixture": torch.from_numpy(mixture), "sources": sources}


class CroppedMixtures(FixedMixtures, EpochDataset):
    """Crops of the mixtures of a manifest, to train on.

    The list is gone through in an order that is drawn anew for every pass. An epoch is the next
    ``num_items`` of it, so that it is as long as one of dynamic mixing. Item i of epoch e depends
    on nothing but ``(seed, e, i)``. A mixture shorter than the segment is taken whole.

    Arguments
    ---------
    manifest, sample_rate, num_spks, data_root, noise_root
        Of ``FixedMixtures``.
    num_items : int
        Mixtures an epoch.
    segment : float
        Duration of a crop in seconds.
    seed : int
        Seed of the order and of the crops.
    """

    def __init__(
        self,
        manifest: str | os.PathLike,
        sample_rate: int,
        num_spks: int,
        data_root: str | os.PathLike,
        noise_root: str | os.PathLike | None,
        num_items: int,
        segment: float,
        seed: int = 1234,
    ):
        FixedMixtures.__init__(self, manifest, sample_rate, num_spks, data_root, noise_root)
        EpochDataset.__init__(self, num_items)
        self.segment = round(segment * sample_rate)  # samples
        self.seed = seed
        self._orders: dict[int, np.ndarray] = {}  # of the current pass, and the one after it

    def __len__(self) -> int:
        return self.num_items

    def __getitem__(self, index: int) -> dict:
        """Read one crop; arguments, items and errors as of ``FixedMixtures``."""
        self.check_index(index)
        place = max(self.epoch - 1, 0) * self.num_items + index
        turn, position = divmod(place, len(self.rows))
        row = self.rows.iloc[self._order(turn)[position]]
        length = self.num_samples(row)
        rng = np.random.default_rng([self.seed, 1, place])
        begin = int(rng.integers(max(length - self.segment, 0) + 1))
        return self.read(row, begin, min(self.segment, length))

    def _order(self, turn: int) -> np.ndarray:
        if turn not in self._orders:
            self._orders = {t: order for t, order in self._orders.items() if t == turn - 1}
            rng = np.random.default_rng([self.seed, 0, turn])
            self._orders[turn] = rng.permutation(len(self.rows))
        return self._orders[turn]


def read_mixture(
    row: Mapping,
    sample_rate: int,
    num_spks: int,
    begin: int,
    num_samples: int,
    target: str = "reverberant",
) -> tuple[np.ndarray, np.ndarray]:
    """Read a piece of one row of a manifest whose paths are located.

    Arguments
    ---------
    row : Mapping
        See the top of this file.
    sample_rate : int
        Wanted sampling rate in Hz.
    num_spks : int
        Number of sources, C.
    begin, num_samples : int
        The piece, in samples at ``sample_rate``.
    target : str
        What a source in a room is, see ``data_prep.mixing.rooms.Rooms``.

    Returns
    -------
    mixture : np.ndarray [T]
        float32.
    sources : np.ndarray [T, C]
        float32.

    Raises
    ------
    OSError
        A file cannot be read.
    """
    if row.get("bank"):  # what is heard depends on all that was said before
        heard, sources = _read_in_room(row, sample_rate, num_spks, target)  # [T'], [T', C]
        mixture = heard[begin : begin + num_samples]  # [T]
        sources = sources[begin : begin + num_samples]  # [T, C]
    else:
        read = partial(_read_part, row, sample_rate, begin, num_samples)
        sources = np.stack([read(str(c + 1)) for c in range(num_spks)], axis=-1)  # [T, C]
        if row.get("wav_mix"):
            return read("mix"), sources
        mixture = sources.sum(axis=-1)  # [T]
    if row.get("wav_noise") or row.get("seed_noise"):
        mixture = mixture + read_row_noise(row, sample_rate, begin, num_samples)
    return mixture, sources


def _read_in_room(
    row: Mapping, sample_rate: int, num_spks: int, target: str
) -> tuple[np.ndarray, np.ndarray]:
    """What is heard of all voices [T] and the sources [T, C] of a whole mixture in its room."""
    num_samples = round(float(row["duration"]) * sample_rate)
    numbers = range(1, num_spks + 1)
    voices = [_read_part(row, sample_rate, 0, num_samples, str(c)) for c in numbers]
    places = [int(row[f"place_{c}"]) for c in numbers]
    rooms = _open_rooms(row["bank"], sample_rate, target)
    heard, sources = rooms.place(np.stack(voices), int(row["room"]), places)  # [C, T]
    return heard.sum(axis=0), sources.T


@lru_cache(maxsize=4)
def _open_rooms(path: str, sample_rate: int, target: str) -> Rooms:
    return Rooms(path, sample_rate, target)


def read_row_noise(row: Mapping, sample_rate: int, begin: int, num_samples: int) -> np.ndarray:
    """Read a piece [T] of the noise of a row."""
    if row.get("seed_noise") or "|" in str(row["wav_noise"]):
        length = round(float(row["duration"]) * sample_rate)
        if row.get("seed_noise"):
            noise = coloured(np.random.default_rng(int(row["seed_noise"])), length)
        else:
            noise = _read_babble(row["wav_noise"].split("|"), sample_rate, length)
        return noise[begin : begin + num_samples] * np.float32(_number(row, "gain_noise", 1.0))
    return _read_part(row, sample_rate, begin, num_samples, "noise")


def _read_babble(paths: list[str], sample_rate: int, num_samples: int) -> np.ndarray:
    """The sum [T] of recordings from their beginning on, repeated as noise is, at one level."""
    babble = np.zeros(num_samples, np.float32)
    for path in paths:
        with open_audio(path) as file:
            end = last_frame(num_samples, rate_ratio(file.samplerate, sample_rate))
        voice = read_noise(path, sample_rate, 0.0, num_samples, end)
        babble += voice / max(np.sqrt(np.mean(voice**2)), np.float32(1e-6))
    return babble


def _read_part(
    row: Mapping, sample_rate: int, begin: int, num_samples: int, name: str
) -> np.ndarray:
    """A piece of a source, of the noise or of the mixture, with silence behind its end."""
    if row.get(f"at_{name}"):
        return _read_turns(row, sample_rate, begin, num_samples, name)
    if not row[f"wav_{name}"]:
        return np.zeros(num_samples, np.float32)
    length = round(_number(row, f"duration_{name}", row["duration"]) * sample_rate)
    start = _number(row, f"start_{name}", 0.0) + begin / sample_rate
    wanted = max(min(num_samples, length - begin), 0)
    part = np.zeros(num_samples, np.float32)  # [T]
    if wanted:
        end = row.get(f"end_{name}")
        read = partial(read_noise, end=int(end)) if end else read_audio
        part[:wanted] = read(row[f"wav_{name}"], sample_rate, start, wanted)
    return part * np.float32(_number(row, f"gain_{name}", 1.0))


def _number(row: Mapping, key: str, default: float) -> float:
    """What a cell holds, or `default` where it is empty or not there."""
    value = row.get(key, "")
    return float(default if value == "" else value)


def _read_turns(
    row: Mapping, sample_rate: int, begin: int, num_samples: int, name: str
) -> np.ndarray:
    """A piece [T] of what a speaker says, turn by turn."""
    columns = [f"{key}_{name}" for key in ("wav", "start", "duration", "gain")]
    turns = zip(*(str(row[key]).split("|") for key in (f"at_{name}", *columns)), strict=True)
    part = np.zeros(num_samples, np.float32)  # [T]
    for at, *values in turns:
        place = round(float(at) * sample_rate) - begin  # of the turn in the piece
        if place < num_samples:
            turn = {"duration": row["duration"], **dict(zip(columns, values, strict=True))}
            first = max(place, 0)
            part[first:] += _read_part(turn, sample_rate, first - place, num_samples - first, name)
    return part


def read_manifest(path: str | os.PathLike) -> pd.DataFrame:
    """Read a manifest of mixtures; a ``ValueError`` says where there is none."""
    if not os.path.isfile(path):
        raise ValueError(f"No manifest at {path}: prepare the data first")
    return read_mixtures(path)


def located(
    table: pd.DataFrame,
    data_root: str | os.PathLike,
    noise_root: str | os.PathLike | None,
    rooms_root: str | os.PathLike | None = None,
) -> pd.DataFrame:
    """Replace ``$data_root``, ``$noise_root`` and ``$rooms_root`` in a manifest's paths."""
    table = table.copy()
    roots = {"$data_root": data_root, "$noise_root": noise_root, "$rooms_root": rooms_root}
    for column in table.filter(regex="^wav|^bank$"):
        for name, root in roots.items():
            table[column] = [path.replace(name, str(root)) for path in table[column]]
    return table
