"""Dynamic mixing: new mixtures in every epoch, drawn from a pool of single-speaker recordings."""

import os

import numpy as np
import torch
from speechbrain.dataio.dataio import load_data_csv
from speechbrain.utils.logger import get_logger
from torch.utils.data import Dataset

from data_prep.audio import (
    SILENCE_DB,
    draw_levels_db,
    draw_start,
    peak_scale,
    rate_ratio,
    read_audio,
    rms_db,
)

logger = get_logger(__name__)

GAP = 0.1  # s of silence between the short utterances that fill a segment: a short natural pause
ATTEMPTS = 5  # utterances of a speaker tried before the speaker is taken for unreadable


class DynamicMixing(Dataset):
    """Mixtures of distinct speakers, drawn anew in every epoch.

    Item i of epoch e depends on nothing but ``(seed, e, i)`` (and the files): it is the same with
    any number of workers and after a resumed training. Under a ``DistributedSampler`` every rank
    gets other items, and all ranks together get the items that a single process would get.

    The speakers of a mixture are drawn uniformly, so that one with many recordings does not
    prevail; a speaker's utterance is drawn in proportion to its duration, so that every second of
    a speaker's speech is as likely. An utterance shorter than the segment is followed by further
    ones of the speaker. The levels are those of ``data_prep.audio``.

    A file that cannot be read is named in a warning, once, and another one is drawn.

    Arguments
    ---------
    manifest : str or os.PathLike
        The pool: a csv with ``ID``, ``duration`` (s), ``sample_rate`` (Hz, the file's),
        ``level_db`` (dBFS RMS of the file), ``speaker`` and ``wav``.
    data_root : str or os.PathLike
        Replaces ``$data_root`` in the manifest's paths.
    num_items : int
        Mixtures an epoch.
    segment : float
        Duration of every mixture in seconds.
    sample_rate : int
        Wanted sampling rate in Hz.
    num_spks : int
        Speakers in a mixture, C.
    seed : int
        Seed of all draws.
    speed : tuple of float, optional
        Range of the speed perturbation, drawn for each source, e.g. ``(0.95, 1.05)``; none by
        default.

    Raises
    ------
    ValueError
        The pool cannot make such mixtures.

    Example
    -------
    >>> import soundfile as sf
    >>> folder = getfixture("tmp_path")
    >>> with open(folder / "train.csv", "w") as file:
    ...     _ = file.write("ID,duration,sample_rate,level_db,speaker,wav\\n")
    ...     for name in "ab":
    ...         sf.write(folder / f"{name}.wav", np.full(16000, 0.1), 8000)
    ...         _ = file.write(f"{name},2.0,8000,-20.0,{name},$data_root/{name}.wav\\n")
    >>> dataset = DynamicMixing(folder / "train.csv", folder, 10, segment=1.5, sample_rate=8000)
    >>> dataset.set_epoch(1)
    >>> dataset[0]["mixture"].shape, dataset[0]["sources"].shape
    (torch.Size([12000]), torch.Size([12000, 2]))
    """

    def __init__(
        self,
        manifest: str | os.PathLike,
        data_root: str | os.PathLike,
        num_items: int,
        segment: float,
        sample_rate: int,
        num_spks: int = 2,
        seed: int = 1234,
        speed: tuple[float, float] | None = None,
    ):
        self.manifest = os.fspath(manifest)
        self.num_items = num_items
        self.num_samples = round(segment * sample_rate)
        self.sample_rate = sample_rate
        self.num_spks = num_spks
        self.seed = seed
        self.speed = speed
        self._load_pool(data_root)
        self._check_pool(data_root)
        # Shared, so that workers which outlive an epoch see the next one, and the main process
        # sees what the workers could not read.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._unreadable = torch.zeros(len(self._paths), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return self.num_items

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose items are drawn; call it before iterating.

        Arguments
        ---------
        epoch : int
            At least 0.
        """
        self._epoch.fill_(epoch)

    @property
    def num_unreadable(self) -> int:
        """Number of files that could not be read so far, in all workers."""
        return int(self._unreadable.sum())

    def __getitem__(self, index: int) -> dict:
        """Draws one mixture.

        Arguments
        ---------
        index : int
            Item of the epoch.

        Returns
        -------
        dict
            ``id``, ``mixture`` [T] and ``sources`` [T, C], float32; T = segment * sample_rate.

        Raises
        ------
        OSError
            Fewer than ``num_spks`` speakers can be read at all.
        """
        if not 0 <= index < self.num_items:
            raise IndexError(f"item {index} of {self.num_items}")
        epoch = int(self._epoch)
        rng = np.random.default_rng([self.seed, epoch, index])
        sources = self._draw_sources(rng)  # [T, C]
        sources *= np.float32(peak_scale(sources))
        mixture = sources.sum(axis=-1)  # [T], by numpy: torch would start threads for it
        return {
            "id": f"epoch{epoch}-{index}",
            "mixture": torch.from_numpy(mixture),
            "sources": torch.from_numpy(np.ascontiguousarray(sources)),
        }

    def _draw_sources(self, rng: np.random.Generator) -> np.ndarray:
        levels_db = draw_levels_db(rng, self.num_spks)
        sources = []
        for speaker in rng.permutation(len(self._bounds) - 1):
            source = self._draw_source(speaker, levels_db[len(sources)], rng)  # [T]
            if rms_db(source) > SILENCE_DB:  # else nothing of the speaker can be read, or a pause
                sources.append(source)
            if len(sources) == self.num_spks:
                return np.stack(sources).T  # [T, C], a view: sums over C are quick
        raise OSError(
            f"Fewer than {self.num_spks} speakers of {self.manifest} can be read: "
            "check data_root, or prepare the data again"
        )

    def _draw_source(self, speaker: int, level_db: float, rng: np.random.Generator) -> np.ndarray:
        """A segment of one speaker; what cannot be read stays silent."""
        speed = 1.0 if self.speed is None else rng.uniform(*self.speed)
        source = np.zeros(self.num_samples, np.float32)  # [T]
        begin = 0
        while begin < self.num_samples:
            piece = self._draw_piece(speaker, self.num_samples - begin, level_db, speed, rng)
            source[begin : begin + len(piece)] = piece
            begin += len(piece) + round(GAP * self.sample_rate)
            if len(piece) == 0:
                break
        return source

    def _draw_piece(
        self,
        speaker: int,
        max_samples: int,
        level_db: float,
        speed: float,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """A crop of an utterance, or a whole shorter one; empty when none can be read."""
        for _ in range(ATTEMPTS):
            i = self._draw_utterance(speaker, rng)
            ratio = rate_ratio(self._rates[i], self.sample_rate, speed)
            num_samples = min(max_samples, int(self._frames[i] / ratio))
            start = draw_start(rng, self._frames[i], num_samples, ratio) / self._rates[i]
            try:
                path = os.fsdecode(self._paths[i])
                audio = read_audio(path, self.sample_rate, start, num_samples, speed)
            except OSError as error:
                self._report(i, error)
            else:
                return audio * np.float32(10 ** ((level_db - self._levels_db[i]) / 20))
        return np.zeros(0, np.float32)

    def _draw_utterance(self, speaker: int, rng: np.random.Generator) -> int:
        first, last = self._bounds[speaker], self._bounds[speaker + 1] - 1
        second = rng.uniform(self._begins[first], self._begins[last + 1])
        i = np.searchsorted(self._begins, second, side="right") - 1
        return int(np.clip(i, first, last))  # rounding could lead to a neighbour's

    def _report(self, i: int, error: OSError) -> None:
        if not self._unreadable[i]:
            self._unreadable[i] = True
            message = "Dynamic mixing draws another utterance: %s"
            logger.warning(message, error, main_process_only=False)

    def _load_pool(self, data_root: str | os.PathLike) -> None:
        """Keeps the pool as arrays: workers share their memory, which python objects would not."""
        if not os.path.isfile(self.manifest):
            raise ValueError(f"No manifest at {self.manifest}: prepare the data first")
        rows = load_data_csv(self.manifest, {"data_root": data_root}).values()
        rows = sorted(rows, key=lambda row: row["speaker"])  # stable: the speakers' rows together
        speakers = np.array([row["speaker"] for row in rows])
        durations = np.array([row["duration"] for row in rows])  # s
        self._rates = np.array([int(row["sample_rate"]) for row in rows])  # Hz
        self._frames = np.rint(durations * self._rates).astype(np.int64)
        self._levels_db = np.array([float(row["level_db"]) for row in rows])
        self._paths = np.array([os.fsencode(row["wav"]) for row in rows])
        self._begins = np.concatenate([[0], np.cumsum(durations)])  # s, in the joined pool
        # Speaker s has the rows from bounds[s] up to bounds[s + 1].
        self._bounds = np.append(np.unique(speakers, return_index=True)[1], len(rows))

    def _check_pool(self, data_root: str | os.PathLike) -> None:
        num_speakers = len(self._bounds) - 1
        if num_speakers < self.num_spks:
            raise ValueError(
                f"{self.manifest} has {num_speakers} speakers, mixtures of {self.num_spks} need "
                "as many: add speakers, or lower num_spks"
            )
        if self._rates.min() < self.sample_rate:
            raise ValueError(
                f"{self.manifest} lists files of {self._rates.min()} Hz, sample_rate is "
                f"{self.sample_rate} Hz: prepare the data again at that rate"
            )
        if not any(os.path.exists(path) for path in self._paths):
            raise ValueError(
                f"No file of {self.manifest} is found in {data_root}: "
                "set data_root to where the corpus is"
            )
