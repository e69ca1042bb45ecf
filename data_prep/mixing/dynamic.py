"""Dynamic mixing: new mixtures in every epoch, drawn from a pool of single-speaker recordings."""

import os
from collections.abc import Mapping
from fractions import Fraction
from itertools import chain

import numpy as np
import torch

from data_prep.mixing.epoch import EpochDataset
from data_prep.mixing.levels import PAUSE_DB, draw_levels_db, peak_scale, rms_db
from data_prep.mixing.noise import Noise, check_range
from data_prep.mixing.pool import Pool
from data_prep.mixing.rooms import Rooms
from data_prep.mixing.speed import speeds
from data_prep.mixing.turns import Turns

ROUNDS = 10  # through all speakers, whose crops may be pauses, until there are enough voices
GAP = 0.1  # s of silence between the short utterances that fill a segment: a short natural pause


class DynamicMixing(EpochDataset):
    """Mixtures of distinct speakers, drawn anew in every epoch.

    Item i of epoch e depends on nothing but ``(seed, e, i)`` (and the files): it is the same with
    any number of workers, after a resumed training, and from packed recordings, to within half a
    step of 16 bits. Processes that share the items out
    (``sfsrnet_modules.training.distributed``) get together those that a single process would get.

    The speakers of a mixture are of one source, where the pool names sources, and drawn uniformly,
    so that one with many recordings does not prevail; of a speaker as ``data_prep.mixing.pool``
    says, with levels as the pool's corpus draws them
    (``data_prep.mixing.levels``).

    Arguments
    ---------
    manifest : str or os.PathLike
        The pool, see ``data_prep.mixing.pool``.
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
        Range of the speed perturbation, e.g. ``(0.95, 1.05)``; for each source one of
        ``data_prep.mixing.speed.speeds`` is drawn. None by default.
    rooms : Rooms, optional
        Where the voices are heard. Levels are those at the microphone, after the room.
    noise : Noise, optional
        What is mixed in.
    turns : Turns, optional
        Who speaks when; by default all throughout. The source of who doesn't is zeros.
    packed, source_weights
        Of ``data_prep.mixing.pool.Pool``.

    Raises
    ------
    ValueError
        The pool cannot make such mixtures.

    Example
    -------
    >>> import soundfile as sf
    >>> folder = getfixture("tmp_path")
    >>> with open(folder / "pool.csv", "w") as file:
    ...     _ = file.write("ID,duration,sample_rate,level_db,measure,speaker,wav\\n")
    ...     for name in "ab":
    ...         sf.write(folder / f"{name}.wav", np.full(16000, 0.1), 8000)
    ...         _ = file.write(f"{name},2.0,8000,-20.0,rms,{name},$data_root/{name}.wav\\n")
    >>> dataset = DynamicMixing(folder / "pool.csv", folder, 10, segment=1.5, sample_rate=8000)
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
        rooms: Rooms | None = None,
        noise: Noise | None = None,
        turns: Turns | None = None,
        packed: str | os.PathLike | None = None,
        source_weights: Mapping[str, float] | None = None,
    ):
        if speed is not None:
            check_range("speed", speed)
        super().__init__(num_items)
        self.num_samples = round(segment * sample_rate)
        self.num_spks = num_spks
        self._rng = np.random.Generator(np.random.Philox(key=seed))
        self._state = self._rng.bit_generator.state
        self.speeds = [Fraction(1)] if speed is None else speeds(*speed)
        self.pool = Pool(manifest, sample_rate, GAP, packed, source_weights, data_root=data_root)
        self.rooms = rooms
        self.noise = noise
        self.turns = turns
        if self.pool.num_drawn < num_spks:
            raise ValueError(
                f"{manifest} has {self.pool.num_drawn} speakers, mixtures of {num_spks} need "
                "as many: add speakers, or lower num_spks"
            )

    @property
    def num_unreadable(self) -> int:
        """Number of files that could not be read so far, in all workers."""
        recordings = None if self.noise is None else self.noise.recordings
        return sum(pool.num_unreadable for pool in (self.pool, recordings) if pool is not None)

    def __getitem__(self, index: int) -> dict:
        """Draw one mixture.

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
            Fewer than ``num_spks`` speakers can be read at all, or nearly all they have are pauses.
        """
        self.check_index(index)
        epoch = self.epoch
        rng = self._generator(epoch, index)
        speakers, voices = self._draw_voices(rng)  # [C, T]
        said = voices if self.turns is None else voices * self.turns.draw(rng, *voices.shape)
        heard = sources = said
        if self.rooms is not None:
            heard, sources = self.rooms.draw(rng, said)
        mixture = heard.sum(axis=0)  # [T]; by numpy: torch would start threads
        noise = np.float32(0)
        if self.noise is not None:
            loudness = mixture if mixture.any() else voices.sum(axis=0)  # if nobody speaks
            noise = self.noise.draw(rng, loudness, self.pool, speakers)  # [T]
        mixture += noise
        scale = np.float32(peak_scale(mixture, sources))
        if scale < 1:
            heard, sources, noise = heard * scale, sources * scale, noise * scale
            mixture = heard.sum(axis=0) + noise  # to the last bit what its parts add up to
        return {
            "id": f"epoch{epoch}-{index}",
            "mixture": torch.from_numpy(mixture),
            "sources": torch.from_numpy(sources.T),
        }

    def _generator(self, epoch: int, index: int) -> np.random.Generator:
        """Set the generator to where an item's draws begin; to make one takes ten times as long."""
        self._state["state"]["counter"][:] = (0, 0, index, epoch)  # 2^128 draws an item
        self._rng.bit_generator.state = self._state
        return self._rng

    def _draw_voices(self, rng: np.random.Generator) -> tuple[list[int], np.ndarray]:
        """Speakers and their voices, [C, T]."""
        levels_db = draw_levels_db(rng, self.num_spks, self.pool.measure)
        speakers = []
        voices = np.empty((self.num_spks, self.num_samples), np.float32)  # [C, T]
        rounds = (self.pool.draw_speakers(rng) for _ in range(ROUNDS))
        for speaker in chain.from_iterable(rounds):
            if speaker in speakers:
                continue
            speed = self.speeds[rng.integers(len(self.speeds))]
            level_db = levels_db[len(speakers)]
            voice = self.pool.draw(rng, speaker, self.num_samples, level_db, speed)  # [T]
            if rms_db(voice) > level_db + PAUSE_DB:  # else unreadable, or a pause
                voices[len(speakers)] = voice
                speakers.append(speaker)
            if len(speakers) == self.num_spks:
                return speakers, voices
        raise OSError(
            f"Fewer than {self.num_spks} speakers of {self.pool.manifest} can be read, or nearly "
            "all they have are pauses: check data_folder, prepare the data again, or raise segment"
        )
