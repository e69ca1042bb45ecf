"""A pool of recordings by speaker, from which dynamic mixing draws."""

import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from speechbrain.utils.logger import get_logger

from data_prep.mixing.levels import from_db
from data_prep.mixing.packed import find_pack
from data_prep.mixing.recordings import Files, num_samples, read_pool
from data_prep.mixing.speed import change_speed
from sfsrnet_modules.common.crops import last_frame, rate_ratio

logger = get_logger(__name__)

ATTEMPTS = 5  # recordings of a speaker tried before the speaker is taken for unreadable


class Pool:
    """Recordings, from which segments of one speaker are drawn.

    A speaker's recording is drawn in proportion to its duration, so that every second of a
    speaker's speech is as likely. One that is shorter than the segment is followed by further ones
    of the speaker. A file that cannot be read is named in a warning, once, and another one is
    drawn.

    Arguments
    ---------
    manifest : str or os.PathLike
        A csv with ``ID``, ``duration`` (s), ``sample_rate`` (Hz, the file's), ``level_db``,
        ``measure`` (of the level, see ``data_prep.mixing.levels``), ``speaker`` and ``wav``; maybe
        ``source``, the collection that the speaker belongs to.
    sample_rate : int
        Wanted sampling rate in Hz.
    gap : float
        Silence between recordings that fill a segment, in seconds.
    packed : str or os.PathLike, optional
        Folder of packs, see ``data_prep.mixing.packed``; where it has none of this pool, and by
        default, the files are read.
    source_weights : mapping, optional
        Of a source's name: how much more often its speakers are drawn than those of other sources.
        A source that is not named has 1, one of weight 0 is left out.
    **roots : str or os.PathLike
        Each replaces its name, after a ``$``, in the manifest's paths.

    Raises
    ------
    ValueError
        No such manifest, no file of it, or one below the sampling rate; a weight below 0.
    """

    def __init__(
        self,
        manifest: str | os.PathLike,
        sample_rate: int,
        gap: float = 0.0,
        packed: str | os.PathLike | None = None,
        source_weights: Mapping[str, float] | None = None,
        **roots: str | os.PathLike | None,
    ):
        self.manifest = os.fspath(manifest)
        self.sample_rate = sample_rate
        self.gap = round(gap * sample_rate)  # samples
        table = read_pool(manifest, **roots)
        pack = None if packed is None else find_pack(table, sample_rate, Path(packed))
        self._recordings = pack or Files(table, sample_rate)
        self._check_rates(table)
        if pack is None:
            self._check_files(table, roots)
        self._keep(table)
        self._weigh(table, source_weights or {})
        # Shared, so that the main process sees what the workers could not read.
        self._unreadable = torch.zeros(len(table), dtype=torch.bool).share_memory_()

    @property
    def num_speakers(self) -> int:
        """Number of speakers, who are numbered from 0."""
        return len(self._bounds) - 1

    @property
    def num_drawn(self) -> int:
        """Number of speakers whose source has a weight above 0."""
        return sum(map(len, self._members))

    @property
    def num_unreadable(self) -> int:
        """Number of files that could not be read so far, in all workers."""
        return int(self._unreadable.sum())

    def draw_speakers(self, rng: np.random.Generator) -> Iterator[int]:
        """Draw all speakers, one after another: first those of one source, then the others.

        Speakers of one mixture come from one source, so that a separator cannot tell them apart by
        their microphones. A source is drawn in proportion to its speakers, times its weight.
        """
        source = self._share_bounds.searchsorted(rng.random(), side="right")
        yield from _in_random_order(rng, self._members[source])
        yield from rng.permutation(
            np.setdiff1d(np.concatenate(self._members), self._members[source])
        )

    def draw(
        self,
        rng: np.random.Generator,
        speaker: int,
        num_samples: int,
        level_db: float,
        speed: Fraction = Fraction(1),
    ) -> np.ndarray:
        """Draw a segment of one speaker; what cannot be read stays silent.

        Arguments
        ---------
        rng : np.random.Generator
        speaker : int
            Number of the speaker.
        num_samples : int
            Length of the segment, T.
        level_db : float
            Level that each recording, as a whole, is brought to.
        speed : Fraction
            See ``data_prep.mixing.speed``.

        Returns
        -------
        np.ndarray [T]
            float32.
        """
        segment = np.zeros(last_frame(num_samples, speed), np.float32)  # [T * speed]
        begin = 0
        while begin < len(segment):
            length = self._draw_piece(rng, speaker, segment[begin:], level_db)
            if length == 0:
                break
            begin += length + self.gap
        return change_speed(segment, speed)[:num_samples]

    def _draw_piece(
        self, rng: np.random.Generator, speaker: int, out: np.ndarray, level_db: float
    ) -> int:
        """Write a crop of a recording, or a whole shorter one; its length, 0 if none is read."""
        for _ in range(ATTEMPTS):
            i = self._draw_recording(rng, speaker)
            length, grid = int(self._lengths[i]), int(self._grids[i])
            num_samples = min(len(out), length)
            start = grid * int(rng.integers((length - num_samples) // grid + 1))
            gain = from_db(level_db - self._levels_db[i])
            try:
                self._recordings.read(i, start, out[:num_samples], gain)
            except OSError as error:
                self._report(i, error)
            else:
                return num_samples
        return 0

    def _draw_recording(self, rng: np.random.Generator, speaker: int) -> int:
        first, last = self._bounds[speaker : speaker + 2]
        begins = self._begins[first : last + 1]
        second = rng.uniform(begins[0], begins[-1])
        return int(first + begins[1:-1].searchsorted(second, side="right"))

    def _report(self, i: int, error: OSError) -> None:
        if not self._unreadable[i]:
            self._unreadable[i] = True
            message = "Dynamic mixing draws another recording: %s"
            logger.warning(message, error, main_process_only=False)

    def _check_rates(self, table: pd.DataFrame) -> None:
        rate = table["sample_rate"].min()
        if rate < self.sample_rate:
            raise ValueError(
                f"{self.manifest} lists files of {rate} Hz, sample_rate is "
                f"{self.sample_rate} Hz: prepare the data again at that rate"
            )

    def _check_files(self, table: pd.DataFrame, roots: dict) -> None:
        if not any(os.path.exists(path) for path in table["path"]):
            places = " or ".join(str(root) for root in roots.values() if root is not None)
            raise ValueError(
                f"No file of {self.manifest} is found in {places}: "
                "set data_folder to where the corpus is"
            )

    def _keep(self, table: pd.DataFrame) -> None:
        """Keep the pool as arrays: workers share their memory, which python objects would not."""
        self.measure = table["measure"].iloc[0]
        self._levels_db = table["level_db"].to_numpy(np.float64)
        self._lengths = num_samples(table, self.sample_rate)
        self._begins = np.concatenate([[0], table["duration"].cumsum()])  # s, in the joined pool
        # A crop begins at a whole frame of the file: after a multiple of so many samples.
        ratios = [rate_ratio(rate, self.sample_rate) for rate in table["sample_rate"]]
        self._grids = np.array([ratio.denominator for ratio in ratios])
        # Speaker s has the rows from bounds[s] up to bounds[s + 1].
        firsts = np.unique(table["speaker"].to_numpy(str), return_index=True)[1]
        self._bounds = np.append(firsts, len(table))

    def _weigh(self, table: pd.DataFrame, weights: Mapping[str, float]) -> None:
        """Sort the speakers by source, and weigh the sources."""
        sources = table.get("source", pd.Series("", table.index)).iloc[self._bounds[:-1]]
        speakers = pd.Series(np.arange(len(sources))).groupby(sources.to_numpy())
        members = {name: group.to_numpy() for name, group in speakers}
        shares = {name: weights.get(name, 1.0) * len(group) for name, group in members.items()}
        if min(weights.values(), default=0) < 0 or not any(shares.values()):
            raise ValueError(
                f"source_weights are {dict(weights)}: none may be below 0, and one of "
                f"{', '.join(members)} must be above"
            )
        self._members = [members[name] for name, share in shares.items() if share]
        drawn = np.array([share for share in shares.values() if share])
        self._share_bounds = np.cumsum(drawn)[:-1] / drawn.sum()  # of sources, in the mixtures
        if "source" in table:
            self._log_shares(shares, sorted(set(weights) - set(members)))

    def _log_shares(self, shares: dict[str, float], unknown: list[str]) -> None:
        total = sum(shares.values())
        named = ", ".join(f"{name} {share / total:.1%}" for name, share in shares.items())
        logger.info("Mixtures of %s by source: %s", self.manifest, named)
        if unknown:
            message = "source_weights name %s, which %s does not have"
            logger.warning(message, ", ".join(unknown), self.manifest)


def _in_random_order(rng: np.random.Generator, members: np.ndarray) -> Iterator[int]:
    """Draw all members, one after another; cheap where only the first few are taken."""
    drawn = set()
    while len(drawn) < len(members):
        member = members[rng.integers(len(members))]
        if member not in drawn:
            drawn.add(member)
            yield member
