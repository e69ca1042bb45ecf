"""Recognises a corpus by its folder, prepares it, and makes the sets to train and to test on."""

import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from torch.utils.data import Dataset

from data_prep.corpora import folder, layouts, librimix, listed, shared_speakers, wham, wsj0mix
from data_prep.corpora.acoustics import Acoustics
from data_prep.mixing.dynamic import DynamicMixing
from data_prep.mixing.fixed import CroppedMixtures
from data_prep.mixing.packed import pack
from data_prep.mixing.turns import Turns


def prepare(
    data_folder: str | os.PathLike,
    output_folder: str | os.PathLike,
    sample_rate: int,
    num_spks: int = 2,
    mode: str = "min",
    mixture: str = "clean",
    train_part: str = "train-360",
    lists: str | os.PathLike | None = None,
    noise_folder: str | os.PathLike | None = None,
    seed: int = 1234,
    num_valid: int = 500,
    num_test: int = 1000,
    acoustics: Acoustics | None = None,
    packs: str | os.PathLike | None = None,
    test_only: bool = False,
) -> None:
    """Make the manifests of whatever corpus lies in a folder.

    Arguments
    ---------
    data_folder : str or os.PathLike
        Generated WSJ0-mix or LibriMix folders; WSJ0 or LibriSpeech itself, with ``lists``; speech
        of several sources with a ``manifest.csv``; or any folder with one sub-folder of recordings
        a speaker.
    output_folder : str or os.PathLike
        Where the manifests go; made if missing.
    sample_rate : int
        Rate in Hz that the mixtures will be read at.
    num_spks : int
        Sources in a mixture.
    mode : str
        Length of WSJ0-mix's and LibriMix's mixtures, "min" or "max".
    mixture : str
        LibriMix's and WHAM!'s "clean", "both" or "single"; of WHAMR! with "_anechoic" or "_reverb".
    train_part : str
        LibriMix's "train-360" or "train-100".
    lists : str or os.PathLike, optional
        Folder of the published lists.
    noise_folder : str or os.PathLike, optional
        WHAM's noise, for LibriMix's own noisy mixtures.
    seed : int
        Of the split of any folder of speech, and its mixtures.
    num_valid, num_test : int
        Number of mixtures of any folder of speech; of each source, where they are listed.
    acoustics : Acoustics, optional
        Rooms and noise of the fixed mixtures.
    packs : str or os.PathLike, optional
        Folder where dynamic mixing's recordings are packed, see ``data_prep.mixing.packed``.
    test_only : bool
        Make the manifest of the test alone, its mixtures as the corpus has them. Of WSJ0-mix and
        LibriMix the test's part is enough then.

    Raises
    ------
    ValueError
        The corpus is not complete, or is none; or an argument is none of its values.
    """
    if mode not in ("min", "max"):
        raise ValueError(f"mode is {mode}: set it to min or max")
    corpus = recognise(Path(data_folder), lists)
    common = data_folder, output_folder, sample_rate, num_spks
    if corpus == "wsj0mix":
        if mixture != "clean":
            raise ValueError(
                f"mixture is {mixture}, WSJ0-mix is clean: leave mixture away, or use LibriMix"
            )
        wsj0mix.prepare(*common, mode, lists, test_only)
    elif corpus in ("wham", "whamr"):
        rooms = Acoustics(sample_rate) if acoustics is None else acoustics
        wham.prepare(*common, mode, mixture, rooms.target, rooms.rooms is not None)
    elif corpus == "librimix":
        librimix.prepare(*common, mode, mixture, train_part, lists, noise_folder, test_only)
    else:
        if (mixture, mode) != ("clean", "min"):
            raise ValueError(
                f"mixture is {mixture} and mode {mode}: both are for WSJ0-mix, LibriMix and WHAM!, "
                "leave them away (noise_folder and rooms are for any folder of speech)"
            )
        speech = listed if corpus == "listed" else folder
        numbers = {"num_valid": num_valid, "num_test": num_test}
        speech.prepare(*common, seed, **numbers, test_only=test_only)
    if acoustics is not None and not test_only:
        acoustics.prepare(Path(output_folder), data_folder)
    shared_speakers.warn_of_shared(output_folder)
    if packs is not None:
        noise_root = noise_folder or (acoustics and acoustics.noise_folder)
        _pack_pools(Path(output_folder), sample_rate, packs, data_folder, noise_root)


def recognise(data_folder: Path, lists: str | os.PathLike | None) -> str:
    """Tell a corpus by the lists, or by the names of the folders in it, above it and below it.

    Arguments
    ---------
    data_folder : Path
    lists : str or os.PathLike, optional
        Folder of the published lists.

    Returns
    -------
    str
        "wsj0mix", "librimix", "wham", "whamr" (see ``data_prep.corpora.layouts``), "listed", or
        "folder" of speakers.

    Raises
    ------
    ValueError
        There is no such folder, the lists are of no corpus, a corpus needs its lists, or another
        folder was meant, which is named.
    """
    if not data_folder.is_dir():
        raise ValueError(f"No folder at {data_folder}: set data_folder to where the corpus is")
    if lists is not None:
        return _of_lists(Path(lists))
    if listed.is_listed(data_folder):
        return "listed"
    generated = layouts.generated_corpus(data_folder)
    if generated is not None:
        return generated
    if any(_has(data_folder, f"*/*/{name}/*") for name in ("si_tr_s", "SI_TR_S")):
        raise ValueError(
            f"{data_folder} is WSJ0 itself: set lists to the folder of the published lists of "
            "WSJ0-2mix (mix_2_spk_tr.txt, activlev_si_tr_s.txt and so on)"
        )
    _refuse_librispeech(data_folder.absolute())
    return "folder"


def _pack_pools(
    manifests: Path,
    sample_rate: int,
    packs: str | os.PathLike,
    data_root: str | os.PathLike,
    noise_root: str | os.PathLike | None,
) -> None:
    """Pack what dynamic mixing draws from, as far as there is a pool of it."""
    for manifest in (manifests / "pool.csv", manifests / "noise.csv"):
        if manifest.is_file():
            pack(manifest, sample_rate, packs, data_root=data_root, noise_root=noise_root)


def _refuse_librispeech(data_folder: Path) -> None:
    """Stop at LibriSpeech itself, above it, and where chapters would be taken for speakers."""
    is_subset = layouts.LIBRISPEECH.fullmatch
    for above in data_folder.parents[:2]:
        if is_subset(above.name):
            raise ValueError(
                f"{data_folder} is of one speaker of LibriSpeech: set data_folder to {above}"
            )
    inside = chain(data_folder.glob("*"), data_folder.glob("*/*"))
    subsets = [path for path in inside if is_subset(path.name) and path.is_dir()]
    subsets.sort(reverse=True)  # those to train on first
    if subsets:
        raise ValueError(
            f"{subsets[0].parent} is LibriSpeech itself: set data_folder to one part of it, such "
            f"as {subsets[0]}, or lists to the folder of the published lists of Libri2Mix "
            "(libri2mix_test-clean.csv and so on)"
        )


def train_set(
    dynamic_mixing: bool,
    manifest_folder: str | os.PathLike,
    data_root: str | os.PathLike,
    noise_root: str | os.PathLike | None,
    num_items: int,
    segment: float,
    sample_rate: int,
    num_spks: int,
    seed: int,
    speed: tuple[float, float] | None = None,
    acoustics: Acoustics | None = None,
    turns: Turns | None = None,
    packs: str | os.PathLike | None = None,
    source_weights: Mapping[str, float] | None = None,
) -> Dataset:
    """Make the training set, of new mixtures in every epoch or of the corpus's own.

    Arguments
    ---------
    dynamic_mixing : bool
    manifest_folder : str or os.PathLike
        Of ``prepare``.
    data_root, noise_root, num_items, segment, sample_rate, num_spks, seed, speed
        Of ``data_prep.mixing.dynamic.DynamicMixing``.
    acoustics : Acoustics, optional
        Rooms and noise of new mixtures; by default those of the corpus alone.
    turns : Turns, optional
        Who speaks when in new mixtures; by default all throughout.
    packs : str or os.PathLike, optional
        Of ``prepare``.
    source_weights : mapping, optional
        Of ``data_prep.mixing.pool.Pool``.

    Returns
    -------
    torch.utils.data.Dataset
        With ``set_epoch``; items ``id``, ``mixture`` [T], ``sources`` [T, C].

    Raises
    ------
    ValueError
        The corpus has no training mixtures of its own, or cannot be mixed so.
    """
    manifests = Path(manifest_folder)
    if dynamic_mixing:
        acoustics = acoustics or Acoustics(sample_rate)
        return DynamicMixing(
            manifests / "pool.csv",
            data_root,
            num_items,
            segment,
            sample_rate,
            num_spks,
            seed,
            speed,
            acoustics.train_rooms(),
            acoustics.train_noise(manifests, data_root, noise_root, packs),
            turns,
            packs,
            source_weights,
        )
    own = manifests / "train.csv"
    _check_fixed(own, speed, acoustics, turns)
    if acoustics is not None:
        acoustics.warn_of_silence(manifests)
    return CroppedMixtures(
        own, sample_rate, num_spks, data_root, noise_root, num_items, segment, seed
    )


def _check_fixed(
    manifest: Path,
    speed: tuple[float, float] | None,
    acoustics: Acoustics | None,
    turns: Turns | None,
) -> None:
    """Stop where the corpus's own mixtures can't be trained on, or can't be had as asked for."""
    if acoustics is not None and acoustics.rooms is not None:
        raise ValueError(
            f"rooms is {acoustics.rooms}: they are drawn for new mixtures only, set it to null or "
            "leave dynamic_mixing on"
        )
    if speed is not None:
        raise ValueError(f"speed is {speed}: fixed mixtures keep theirs, set it to null")
    if turns is not None and (len(turns.numbers) or turns.pause_share):
        raise ValueError(
            "fewer_voices and pause_share are for new mixtures only: leave them away, or leave "
            "dynamic_mixing on"
        )
    if not manifest.is_file():
        raise ValueError(
            "This corpus has no training mixtures of its own: leave dynamic_mixing on, or use "
            "WSJ0-mix or LibriMix"
        )


def _of_lists(lists: Path) -> str:
    if not lists.is_dir():
        raise ValueError(f"No folder at {lists}: set lists to the folder of the published lists")
    if any(lists.rglob("mix_*_spk_*.txt")):
        return "wsj0mix"
    if any(lists.rglob("libri*mix_*.csv")):
        return "librimix"
    raise ValueError(
        f"No mix_2_spk_*.txt and no libri2mix_*.csv in {lists}: set lists to the folder of the "
        "published lists of WSJ0-2mix or Libri2Mix"
    )


def _has(data_folder: Path, pattern: str) -> bool:
    """Whether there is such a folder, seen from the data folder or from a folder within it."""
    parts = pattern.split("/")
    tails = ("/".join(parts[i:]) for i in range(len(parts) - 1))
    return any(path.is_dir() for tail in tails for path in data_folder.glob(tail))
