"""A pool of recordings by speaker, from which dynamic mixing draws."""

import os

import numpy as np
import pandas as pd
import torch
from speechbrain.utils.logger import get_logger

from data_prep.mixing.levels import from_db
from sfsrnet_modules.common.crops import draw_start, num_resampled, rate_ratio, read_audio

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
    **roots : str or os.PathLike
        Each replaces its name, after a ``$``, in the manifest's paths.

    Raises
    ------
    ValueError
        No such manifest, no file of it, or one below the sampling rate.
    """

    def __init__(
        self,
        manifest: str | os.PathLike,
        sample_rate: int,
        gap: float = 0.0,
        **roots: str | os.PathLike | None,
    ):
        self.manifest = os.fspath(manifest)
        self.sample_rate = sample_rate
        self.gap = round(gap * sample_rate)  # samples
        if not os.path.isfile(self.manifest):
            raise ValueError(f"No manifest at {self.manifest}: prepare the data first")
        table = pd.read_csv(self.manifest, dtype={"ID": str, "speaker": str}, keep_default_na=False)
        self._keep(table.sort_values("speaker", kind="stable"), roots)
        self._check(roots)
        # Shared, so that the main process sees what the workers could not read.
        self._unreadable = torch.zeros(len(self._paths), dtype=torch.bool).share_memory_()

    @property
    def num_speakers(self) -> int:
        """Number of speakers, who are numbered from 0."""
        return len(self._bounds) - 1

    @property
    def num_unreadable(self) -> int:
        """Number of files that could not be read so far, in all workers."""
        return int(self._unreadable.sum())

    def draw_speakers(self, rng: np.random.Generator) -> np.ndarray:
        """Draws all speakers in random order, those of the first one's source before the others.

        Speakers of one mixture come from one source, so that a separator cannot tell them apart by
        their microphones.
        """
        speakers = rng.permutation(self.num_speakers)
        is_other = self._sources[speakers] != self._sources[speakers[0]]
        return speakers[np.argsort(is_other, kind="stable")]

    def draw(
        self,
        rng: np.random.Generator,
        speaker: int,
        num_samples: int,
        level_db: float,
        speed: float = 1.0,
    ) -> np.ndarray:
        """Draws a segment of one speaker; what cannot be read stays silent.

        Arguments
        ---------
        rng : np.random.Generator
        speaker : int
            Number of the speaker.
        num_samples : int
            Length of the segment, T.
        level_db : float
            Level that each recording, as a whole, is brought to.
        speed : float
            See ``sfsrnet_modules.common.crops.rate_ratio``.

        Returns
        -------
        np.ndarray [T]
            float32.
        """
        segment = np.zeros(num_samples, np.float32)  # [T]
        begin = 0
        while begin < num_samples:
            piece = self._draw_piece(rng, speaker, num_samples - begin, level_db, speed)
            segment[begin : begin + len(piece)] = piece
            begin += len(piece) + self.gap
            if len(piece) == 0:
                break
        return segment

    def _draw_piece(
        self,
        rng: np.random.Generator,
        speaker: int,
        max_samples: int,
        level_db: float,
        speed: float,
    ) -> np.ndarray:
        """A crop of a recording, or a whole shorter one; empty when none can be read."""
        for _ in range(ATTEMPTS):
            i = self._draw_recording(rng, speaker)
            ratio = rate_ratio(self._rates[i], self.sample_rate, speed)
            num_samples = min(max_samples, num_resampled(int(self._frames[i]), ratio))
            start = draw_start(rng, self._frames[i], num_samples, ratio) / self._rates[i]
            try:
                path = os.fsdecode(self._paths[i])
                audio = read_audio(path, self.sample_rate, start, num_samples, speed)
            except OSError as error:
                self._report(i, error)
            else:
                return audio * np.float32(from_db(level_db - self._levels_db[i]))
        return np.zeros(0, np.float32)

    def _draw_recording(self, rng: np.random.Generator, speaker: int) -> int:
        first, last = self._bounds[speaker], self._bounds[speaker + 1] - 1
        second = rng.uniform(self._begins[first], self._begins[last + 1])
        i = np.searchsorted(self._begins, second, side="right") - 1
        return int(min(max(i, first), last))  # rounding could lead to a neighbour's

    def _report(self, i: int, error: OSError) -> None:
        if not self._unreadable[i]:
            self._unreadable[i] = True
            message = "Dynamic mixing draws another recording: %s"
            logger.warning(message, error, main_process_only=False)

    def _keep(self, table: pd.DataFrame, roots: dict) -> None:
        """Keeps the pool as arrays: workers share their memory, which python objects would not."""
        paths = table["wav"]
        for name, root in roots.items():
            paths = [path.replace(f"${name}", str(root), 1) for path in paths]
        self.measure = table["measure"].iloc[0]
        self._paths = np.array([os.fsencode(path) for path in paths])
        self._rates = table["sample_rate"].to_numpy(np.int64)  # Hz
        self._frames = np.rint(table["duration"] * self._rates).to_numpy(np.int64)
        self._levels_db = table["level_db"].to_numpy(np.float64)
        self._begins = np.concatenate([[0], table["duration"].cumsum()])  # s, in the joined pool
        # Speaker s has the rows from bounds[s] up to bounds[s + 1].
        firsts = np.unique(table["speaker"].to_numpy(str), return_index=True)[1]
        self._bounds = np.append(firsts, len(table))
        sources = table["source"] if "source" in table else pd.Series("", table.index)
        self._sources = pd.factorize(sources)[0][firsts]  # of each speaker, as a number

    def _check(self, roots: dict) -> None:
        if self._rates.min() < self.sample_rate:
            raise ValueError(
                f"{self.manifest} lists files of {self._rates.min()} Hz, sample_rate is "
                f"{self.sample_rate} Hz: prepare the data again at that rate"
            )
        if not any(os.path.exists(path) for path in self._paths):
            places = " or ".join(str(root) for root in roots.values() if root is not None)
            raise ValueError(
                f"No file of {self.manifest} is found in {places}: "
                "set data_folder to where the corpus is"
            )
