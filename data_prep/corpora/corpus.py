"""A corpus to train on: its manifests, and the sets that are read by them."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import Dataset

from data_prep.corpora import recognise
from data_prep.corpora.acoustics import Acoustics
from data_prep.mixing.fixed import FixedMixtures
from data_prep.mixing.turns import Turns


@dataclass(frozen=True)
class Corpus:
    """Speech in a folder, and how it is mixed for training, validation and test.

    Arguments
    ---------
    data_folder : str or os.PathLike
        The corpus, see :func:`~data_prep.corpora.recognise.prepare`.
    manifest_folder : str or os.PathLike
        Where its manifests go.
    sample_rate : int
        Rate of the mixtures in Hz.
    num_spks : int
        Sources in a mixture, C.
    mode, mixture, train_part, lists, noise_folder, seed, num_valid, num_test
        See :func:`~data_prep.corpora.recognise.prepare`.
    dynamic_mixing, items_per_epoch, segment, speed
        See :func:`~data_prep.corpora.recognise.train_set`.
    acoustics : Acoustics
        Rooms that the voices are heard in, and noise.
    packed : bool
        Whether dynamic mixing slices recordings that are decoded once, in ``cache_folder``.
    cache_folder : str or os.PathLike
        What runs share.
    source_weights : mapping, optional
        See :class:`~data_prep.mixing.pool.Pool`.
    turns : Turns, optional
        Who speaks when in new mixtures.
    fetch : callable, optional
        Makes the corpus where it is missing: ``fetch(data_folder, sample_rate)``.
    """

    data_folder: str | os.PathLike
    manifest_folder: str | os.PathLike
    sample_rate: int
    num_spks: int
    mode: str
    mixture: str
    train_part: str
    lists: str | os.PathLike | None
    noise_folder: str | os.PathLike | None
    seed: int
    num_valid: int
    num_test: int
    dynamic_mixing: bool
    items_per_epoch: int
    segment: float
    speed: tuple[float, float] | None
    acoustics: Acoustics
    packed: bool = False
    cache_folder: str | os.PathLike = "cache"
    source_weights: Mapping[str, float] | None = None
    turns: Turns | None = None
    fetch: Callable | None = None

    def prepare(self) -> None:
        """Write the manifests; call it in one process only."""
        if self.fetch is not None:
            self.fetch(self.data_folder, self.sample_rate)
        recognise.prepare(
            self.data_folder,
            self.manifest_folder,
            self.sample_rate,
            self.num_spks,
            self.mode,
            self.mixture,
            self.train_part,
            self.lists,
            self.noise_folder,
            self.seed,
            self.num_valid,
            self.num_test,
            acoustics=self.acoustics,
            packs=self._packs,
        )

    def train_set(self) -> Dataset:
        """Return the mixtures to train on: new ones in every epoch, or the corpus's own."""
        return recognise.train_set(
            self.dynamic_mixing,
            self.manifest_folder,
            self.data_folder,
            self.noise_folder,
            self.items_per_epoch,
            self.segment,
            self.sample_rate,
            self.num_spks,
            self.seed,
            self.speed,
            acoustics=self.acoustics,
            packs=self._packs,
            source_weights=self.source_weights,
            turns=self.turns,
        )

    def valid_set(self) -> FixedMixtures:
        """Return the mixtures to validate on."""
        return self._fixed("valid.csv")

    def test_set(self) -> FixedMixtures:
        """Return the mixtures to test on."""
        return self._fixed("test.csv")

    @property
    def _packs(self) -> Path | None:
        return Path(self.cache_folder) / "packed" if self.packed and self.dynamic_mixing else None

    def _fixed(self, name: str) -> FixedMixtures:
        return FixedMixtures(
            Path(self.manifest_folder) / name,
            self.sample_rate,
            self.num_spks,
            self.data_folder,
            self.noise_folder,
            self.acoustics.rooms,
            self.acoustics.target,
        )
