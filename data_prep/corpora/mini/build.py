"""A small corpus of real speech out of Debian's packages: no licence to sign, no root, no install.

`apt-get` downloads studio prompts, acted dialogue and word recordings into a folder of its own (its
lists and cache too, so the system's stay untouched) and checks them against the signed index. Clips
are cut out of their silence, brought to one level and joined to utterances of 4 to 12 s::

    <cache_folder>/mini-8000/<speaker>/<utterance>.flac   the corpus; manifest.csv, written last
    <cache_folder>/mini-sources/                          README.txt, packages.csv, licences/

It is enough to see a recipe train and separate; figures to publish need WSJ0-2mix or Libri2Mix.
"""

import argparse
import csv
import functools
import logging
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import soundfile as sf
from tqdm import tqdm

from data_prep.corpora.mini.clips import join, read_clip
from data_prep.corpora.mini.packages import Package, failure, fetch_packages, unpack_package
from data_prep.corpora.mini.speakers import MIN_SPEAKERS, SPEAKERS, Speaker, find_clips

logger = logging.getLogger(__name__)


def build(cache_folder: str, sample_rate: int = 8000) -> Path:
    """Build the mini corpus, or continues a build that was interrupted.

    Call it in one process only. A corpus that is whole is returned at once.

    Arguments
    ---------
    cache_folder : str
        Folder for the corpus and its sources; created where needed.
    sample_rate : int
        Sampling rate of the corpus in Hz. Some speakers are recorded at 8 kHz: above that rate
        their upper band is empty.

    Returns
    -------
    Path
        `<cache_folder>/mini-<sample_rate>`, laid out as `<speaker>/<utterance>.flac`.

    Raises
    ------
    ValueError
        Where the packages cannot be had; the message is one sentence and the way out.
    """
    corpus = corpus_folder(cache_folder, sample_rate)
    sources = corpus.parent / "mini-sources"
    if not is_whole(corpus):
        corpus.mkdir(parents=True, exist_ok=True)
        packages = fetch_packages(sources)
        build_speakers(packages, sources, corpus, sample_rate)
        write_manifest(corpus)
    for leftover in ("debs", "apt", "unpacked", "parts"):
        shutil.rmtree(sources / leftover, ignore_errors=True)
    return corpus


def corpus_folder(cache_folder: str, sample_rate: int) -> Path:
    """Return `<cache_folder>/mini-<sample_rate>`, the folder of the corpus, built or not."""
    return Path(cache_folder).resolve() / f"mini-{sample_rate}"


def fetch(data_folder: str, sample_rate: int, cache_folder: str) -> None:
    """Build the mini corpus where `data_folder` is its folder; any other must be there already.

    Arguments
    ---------
    data_folder : str
        ``<cache_folder>/mini-<sample_rate>``, or another corpus.
    sample_rate : int
        Hz.
    cache_folder : str
        Where the mini corpus is built.

    Raises
    ------
    ValueError
        The corpus cannot be built.
    """
    if Path(data_folder).resolve() == corpus_folder(cache_folder, sample_rate):
        build(cache_folder, sample_rate)


def is_whole(corpus: Path) -> bool:
    """Whether the corpus has its manifest and every file in it.

    Arguments
    ---------
    corpus : Path
        Folder of the corpus.

    Returns
    -------
    bool
        False for a half-made corpus.
    """
    manifest = corpus / "manifest.csv"
    if not manifest.exists():
        return False
    with manifest.open(newline="") as file:
        return all((corpus / row["file"]).exists() for row in csv.DictReader(file))


def build_speakers(packages: list[Package], sources: Path, corpus: Path, sample_rate: int) -> None:
    """Unpack the packages and makes every speaker that is not there yet, on all cores.

    Arguments
    ---------
    packages : list[Package]
        The packages at hand.
    sources : Path
        Folder that holds `debs/` and receives `licences/`.
    corpus : Path
        Folder that receives a folder a speaker.
    sample_rate : int
        Hz.
    """
    names = {package.name for package in packages}
    speakers = [speaker for speaker in SPEAKERS if speaker.package in names]
    unpack = functools.partial(unpack_package, sources=sources)
    make = functools.partial(make_speaker, sources=sources, corpus=corpus, sample_rate=sample_rate)
    with ProcessPoolExecutor() as pool:
        for done, todo, what in ((unpack, packages, "unpack"), (make, speakers, "speakers")):
            bar = tqdm(pool.map(done, todo), total=len(todo), desc=f"mini corpus: {what}")
            found = list(bar)
    if sum(found) < MIN_SPEAKERS:
        raise failure(f"the packages hold only {sum(found)} of its speakers")


def make_speaker(speaker: Speaker, sources: Path, corpus: Path, sample_rate: int) -> bool:
    """Make the utterances of one speaker, unless they are there.

    Arguments
    ---------
    speaker : Speaker
        Whose clips to take.
    sources : Path
        Folder that holds `unpacked/`.
    corpus : Path
        Folder that receives `<speaker>/`, whole or not at all.
    sample_rate : int
        Hz.

    Returns
    -------
    bool
        Whether the corpus has the speaker now.
    """
    folder, part = corpus / speaker.name, sources / "parts" / speaker.name
    if folder.is_dir():
        return True
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    clips = (read_clip(path, sample_rate) for path in find_clips(speaker, sources / "unpacked"))
    for number, utterance in enumerate(join(clips, sample_rate)):
        path = part / f"{speaker.name}-{number:04d}.flac"
        sf.write(path, utterance, sample_rate, subtype="PCM_16")
    if not any(part.iterdir()):
        logger.warning("mini corpus: no speech of %s in %s", speaker.name, speaker.package)
        return False
    os.replace(part, folder)
    return True


def write_manifest(corpus: Path) -> None:
    """List the utterances; its presence says that the corpus is whole.

    Arguments
    ---------
    corpus : Path
        Folder of the corpus.
    """
    rows = [
        (path.relative_to(corpus).as_posix(), sf.info(path).duration)
        for path in sorted(corpus.glob("*/*.flac"))
    ]
    part = corpus / "manifest.csv.part"
    with part.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file", "seconds"))
        table.writerows(rows)
    os.replace(part, corpus / "manifest.csv")


def main() -> None:
    """Build the corpus from the command line."""
    parser = argparse.ArgumentParser(description=build.__doc__.splitlines()[0])
    parser.add_argument("--cache_folder", default="cache")
    parser.add_argument("--sample_rate", type=int, default=8000)
    arguments = parser.parse_args()
    try:
        corpus = build(arguments.cache_folder, arguments.sample_rate)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    with (corpus / "manifest.csv").open(newline="") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    speakers = sum(path.is_dir() for path in corpus.iterdir())
    print(f"{corpus}: {speakers} speakers, {sum(seconds) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
