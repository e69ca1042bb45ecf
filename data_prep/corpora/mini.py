"""A small corpus of real speech out of Debian's packages: no licence to sign, no root, no install.

`apt-get` downloads studio prompts, acted dialogue and word recordings into a folder of its own (its
lists and cache too, so the system's stay untouched) and checks them against the signed index. Clips
are cut out of their silence, brought to one level and joined to utterances of 4 to 12 s::

    <cache_folder>/mini-8000/<speaker>/<utterance>.flac   the corpus; manifest.csv, written last
    <cache_folder>/mini-sources/                          README.txt, packages.csv, licences/

It is enough to see a recipe train and separate; figures to publish need WSJ0-2mix or Libri2Mix.

>>> import numpy as np
>>> clip = level(np.sin(np.arange(8000, dtype=np.float32)))
>>> round(float(20 * np.log10(np.sqrt(np.mean(clip**2)))), 2)
-29.0
"""

import argparse
import csv
import functools
import hashlib
import logging
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile as sf
from scipy.signal import butter, resample_poly, sosfilt
from tqdm import tqdm

logger = logging.getLogger(__name__)


class Speaker(NamedTuple):
    """One voice: the package that holds it, and a regular expression for its clips' paths there."""

    name: str
    package: str
    clips: str


class Package(NamedTuple):
    """What the signed package index says of one package."""

    name: str
    file: str
    size: int  # bytes
    sha256: str


def _asterisk(language: str) -> Speaker:
    not_speech = "beep|beeperr|(a|de)scending-2tone|tt-monkeys"
    clips = rf"/sounds/{language}_[^/]+/(?!silence/|({not_speech})\.wav).*\.wav$"
    return Speaker(f"asterisk-{language}", f"asterisk-core-sounds-{language}-wav", clips)


def _fillets(language: str, actor: str) -> Speaker:
    clips = rf"/sound/[^/]+/{language}/[^/-]+-{actor}-[^/]*\.ogg$"
    return Speaker(f"fillets-{language}-{actor}", f"fillets-ng-data-{language}", clips)


def _ktuberling(name: str, clips: str = ".*") -> Speaker:
    clips = rf"/ktuberling/sounds/{name[:2]}/{clips}\.(wav|ogg)$"
    return Speaker(f"ktuberling-{name}", "ktuberling-data", clips)


def _tuxpaint(language: str, folder: str = "") -> Speaker:
    clips = rf"/stamps/{folder}.*_desc_{language}\.ogg$"
    return Speaker(f"tuxpaint-{language}", "tuxpaint-stamps-default", clips)


# One voice each. Where a language was recorded by two people, their median pitch tells the clips
# apart; what stays mixed is left out. Left out as a whole: asterisk es (the person of en); as
# clipped or noisy tuxpaint es, da and ktuberling gl, sl; as shorter than a minute or as two voices
# tuxpaint lt, nl, ml and the other languages of ktuberling.
SPEAKERS = (
    *(_asterisk(language) for language in ("en", "fr", "it", "ru")),
    *(_fillets(language, actor) for language in ("cs", "nl") for actor in "mv"),
    _ktuberling("ca", "(butterflies|egypt|moon|patata|robot|tv|xmas)_.*"),  # woman; the rest a man
    _ktuberling("da", "(tux|xmas)[_-].*"),  # woman; the man's clips rumble
    *(_ktuberling(language) for language in ("de", "el", "en")),
    _ktuberling(
        "fr", "(egypte|lune|noel|papillons|pizzeria|robin|robot|tv)[_-].*"
    ),  # 44.1 kHz only
    _ktuberling("lt"),
    _ktuberling("ru-m", "(egypt|moon|pizzeria)_.*"),
    _ktuberling("ru-f", "(tux|xmas)[_-].*"),  # tv is of both
    *(_ktuberling(language) for language in ("uk", "wa")),
    *(_tuxpaint(language) for language in ("be", "bg", "ca", "el", "ro", "ru")),
    _tuxpaint("fr", "(?!animals/)"),  # animals are by two voices
)
MIN_SPEAKERS = 6  # two each to train, validate and test on

LEVEL_DB = -29.0  # dBFS RMS of each clip; two of them mixed stay far from clipping
PEAK = 0.95  # of full scale; a clip with a higher crest factor stays below the level instead
RUMBLE_HZ = 60  # mains hum and microphone rumble; the lowest voice here is above 100 Hz
FRAME_S = 0.02  # s, frame of the silence detector
MARGIN = 2  # frames kept at each end for soft consonants
SILENCE_DB = -30.0  # a frame this far below the clip's loudest is silence
FLOOR_DB = -60.0  # dBFS; a clip whose loudest frame is below holds no speech
MIN_CLIP_S = 0.2  # s; shorter is a click rather than a word
MAX_CLIP_S = 8.0  # s; longer clips are cut into equal pieces
GAP_S = 0.1  # s of silence between two clips
MIN_UTTERANCE_S = 4.0  # s; with MAX_CLIP_S none is longer than 12.1 s

WAY_OUT = (
    "Give any folder of speech instead: python train.py hparams/mini.yaml --data_folder "
    "<folder with one sub-folder a speaker>, LibriSpeech dev-clean for one."
)
README = f"""\
Sources of the mini corpus
==========================

The speech in ../mini-<sample rate> comes from the Debian packages in packages.csv (version, size
and sha256 of each; apt checked them against the signed index). Their licences and authors are in
licences/<package>.txt: keep them with the corpus if you pass it on.

What was done: clips of one voice were chosen by their file names, made mono (the louder channel),
resampled, freed of what lies below {RUMBLE_HZ} Hz and of silence at both ends, brought to
{LEVEL_DB} dBFS RMS (peaks below {PEAK}), and joined with gaps of {GAP_S} s to utterances of at
least {MIN_UTTERANCE_S} s.
"""


def build(cache_folder: str, sample_rate: int = 8000) -> Path:
    """Builds the mini corpus, or continues a build that was interrupted.

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
    """Returns `<cache_folder>/mini-<sample_rate>`, the folder of the corpus, built or not."""
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


# Download


def fetch_packages(sources: Path) -> list[Package]:
    """Downloads the packages and writes what they are beside the corpus.

    Arguments
    ---------
    sources : Path
        Folder that receives `debs/`, `packages.csv` and `README.txt`.

    Returns
    -------
    list[Package]
        The packages at hand; those the system's release lacks are left out with a warning.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise _failure(
                f"its speech comes out of Debian's packages, and there is no {tool} here"
            )
    debs = sources / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    config = write_apt_config(sources / "apt")
    packages = find_packages(config)
    todo = [package for package in packages if not is_intact(package, debs)]
    bar = tqdm(todo, unit="package", disable=not todo)
    for package in bar:
        bar.set_description(f"mini corpus: {package.name}, {package.size / 1e6:.0f} MB")
        download(package, config, debs)
    write_sources(packages, sources)
    return packages


def write_apt_config(folder: Path) -> Path:
    """Gives apt lists and a cache of its own; sources, keys and proxy stay the system's.

    Arguments
    ---------
    folder : Path
        Folder for apt's state.

    Returns
    -------
    Path
        A configuration file for `apt-get -c`.
    """
    for partial in ("state/lists/partial", "cache/archives/partial"):
        (folder / partial).mkdir(parents=True, exist_ok=True)
    config = folder / "apt.conf"
    config.write_text(
        f'Dir::State "{folder}/state";\nDir::Cache "{folder}/cache";\n'
        'APT::Sandbox::User "root";\n'  # do not drop to a user who may not write here
        'Acquire::ForceHash "SHA256";\nAcquire::Retries "3";\n'
        # Hooks that refresh the system's own software catalogue are not ours to run.
        "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n"
    )
    return config


def find_packages(config: Path) -> list[Package]:
    """Refreshes apt's lists and looks up the packages of `SPEAKERS`.

    Arguments
    ---------
    config : Path
        apt's configuration file.

    Returns
    -------
    list[Package]
        Those that the release has.
    """
    tqdm.write("mini corpus: apt-get update, about 10 MB")
    updated = _apt_get(config, "update")  # may fail for a source that is not needed here
    packages = []
    for name in dict.fromkeys(speaker.package for speaker in SPEAKERS):
        answer = _apt_get(config, "download", "--print-uris", name)
        if offer := re.search(r"^'\S+' (\S+) (\d+) SHA256:(\w+)$", answer.stdout, re.MULTILINE):
            packages.append(Package(name, offer[1], int(offer[2]), offer[3]))
        else:
            logger.warning("mini corpus: package %s is not to be had; skipped", name)
    names = {package.name for package in packages}
    if sum(speaker.package in names for speaker in SPEAKERS) < MIN_SPEAKERS:
        said = _complaint(updated) or _complaint(answer)
        raise _failure(f"apt-get offers {len(names)} of its packages ({said})")
    return packages


def is_intact(package: Package, debs: Path) -> bool:
    """Whether the package lies in the folder with the checksum of the index.

    Arguments
    ---------
    package : Package
        What the index says of it.
    debs : Path
        Folder of downloads, perhaps from an earlier run.

    Returns
    -------
    bool
        False where it is missing, cut short or altered.
    """
    path = debs / package.file
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == package.sha256


def download(package: Package, config: Path, debs: Path) -> None:
    """Downloads one package; under its own name only once it is whole.

    Arguments
    ---------
    package : Package
        What to download.
    config : Path
        apt's configuration file.
    debs : Path
        Folder that receives the package.
    """
    with tempfile.TemporaryDirectory(dir=debs) as part:
        done = _apt_get(config, "download", package.name, cwd=part)
        if not is_intact(package, Path(part)):
            raise _failure(f"apt-get download {package.name} failed ({_complaint(done)})")
        os.replace(Path(part) / package.file, debs / package.file)


def write_sources(packages: list[Package], sources: Path) -> None:
    """Writes README.txt and packages.csv.

    Arguments
    ---------
    packages : list[Package]
        The downloaded packages.
    sources : Path
        Folder that holds `debs/`.
    """
    with (sources / "packages.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("package", "version", "file", "bytes", "sha256"))
        for name, deb, size, sha256 in packages:
            version = ["dpkg-deb", "--field", sources / "debs" / deb, "Version"]
            version = subprocess.run(version, check=True, capture_output=True, text=True).stdout
            table.writerow((name, version.strip(), deb, size, sha256))
    (sources / "README.txt").write_text(README)


def _apt_get(config: Path, *arguments: str, cwd: str | None = None) -> subprocess.CompletedProcess:
    command = ["apt-get", "-q", "-c", str(config), *arguments]
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def _complaint(process: subprocess.CompletedProcess) -> str:
    return process.stderr.strip().partition("\n")[0]


def _failure(reason: str) -> ValueError:
    return ValueError(f"The mini corpus could not be built: {reason}. {WAY_OUT}")


# Unpack and decode


def build_speakers(packages: list[Package], sources: Path, corpus: Path, sample_rate: int) -> None:
    """Unpacks the packages and makes every speaker that is not there yet, on all cores.

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
        raise _failure(f"the packages hold only {sum(found)} of its speakers")


def unpack_package(package: Package, sources: Path) -> None:
    """Unpacks one package and keeps its licence.

    Arguments
    ---------
    package : Package
        A package in `debs/`.
    sources : Path
        Folder that receives `unpacked/<package>` and `licences/<package>.txt`.
    """
    folder = sources / "unpacked" / package.name
    licence = sources / "licences" / f"{package.name}.txt"
    shutil.rmtree(folder, ignore_errors=True)  # perhaps half unpacked
    folder.mkdir(parents=True)
    licence.parent.mkdir(exist_ok=True)
    subprocess.run(["dpkg-deb", "-x", sources / "debs" / package.file, folder], check=True)
    shutil.copyfile(folder / "usr/share/doc" / package.name / "copyright", licence)


def make_speaker(speaker: Speaker, sources: Path, corpus: Path, sample_rate: int) -> bool:
    """Makes the utterances of one speaker, unless they are there.

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


def find_clips(speaker: Speaker, unpacked: Path) -> list[Path]:
    """Finds the recordings of one speaker.

    Arguments
    ---------
    speaker : Speaker
        Whose clips to find.
    unpacked : Path
        Folder of the unpacked packages.

    Returns
    -------
    list[Path]
        Files in a fixed order.
    """
    root = unpacked / speaker.package
    found = (path for path in root.rglob("*.*") if path.is_file())
    return sorted(path for path in found if re.search(speaker.clips, path.as_posix()))


def read_clip(path: Path, sample_rate: int) -> np.ndarray:
    """Reads a recording: mono, resampled, without DC and rumble, trimmed and levelled.

    Arguments
    ---------
    path : Path
        Audio file of any rate and number of channels.
    sample_rate : int
        Hz.

    Returns
    -------
    np.ndarray
        [samples], empty where the file holds no speech.
    """
    try:
        clip, rate = sf.read(path, dtype="float32", always_2d=True)  # [samples, channels]
    except sf.LibsndfileError:
        logger.warning("mini corpus: cannot read %s; skipped", path.name)
        return np.zeros(0, np.float32)
    if not len(clip):
        return clip[:, 0]
    clip = clip[:, np.square(clip).sum(axis=0).argmax()]  # [samples]; the other may be silent
    common = math.gcd(rate, sample_rate)
    clip = resample_poly(clip, sample_rate // common, rate // common)
    rumble = butter(4, RUMBLE_HZ, "highpass", fs=sample_rate, output="sos")
    clip = sosfilt(rumble, clip - clip.mean()).astype(np.float32)  # a step of DC would ring
    return level(trim(clip, sample_rate))


def trim(clip: np.ndarray, sample_rate: int) -> np.ndarray:
    """Removes the silence before the first and after the last loud frame.

    Arguments
    ---------
    clip : np.ndarray
        [samples]
    sample_rate : int
        Hz.

    Returns
    -------
    np.ndarray
        [samples], with `MARGIN` frames more at each end; empty where too little is left.
    """
    frame = int(FRAME_S * sample_rate)
    frames = len(clip) // frame
    if not frames:
        return clip[:0]
    power = np.square(clip[: frames * frame]).reshape(frames, frame).mean(axis=1)  # [frames]
    loud = np.flatnonzero(power > power.max() * 10 ** (SILENCE_DB / 10))
    if power.max() < 10 ** (FLOOR_DB / 10) or np.ptp(loud) * FRAME_S < MIN_CLIP_S:
        return clip[:0]
    return clip[max(loud[0] - MARGIN, 0) * frame : (loud[-1] + 1 + MARGIN) * frame]


def level(clip: np.ndarray) -> np.ndarray:
    """Brings a clip to `LEVEL_DB`, or below it where its peak would exceed `PEAK`.

    Arguments
    ---------
    clip : np.ndarray
        [samples], empty or not silent.

    Returns
    -------
    np.ndarray
        [samples]
    """
    if not len(clip):
        return clip
    gain = 10 ** (LEVEL_DB / 20) / np.sqrt(np.mean(np.square(clip)))
    return clip * min(gain, PEAK / np.abs(clip).max())


def join(clips: Iterator[np.ndarray], sample_rate: int) -> Iterator[np.ndarray]:
    """Joins clips to utterances of at least `MIN_UTTERANCE_S`; a shorter rest is dropped.

    Arguments
    ---------
    clips : Iterator[np.ndarray]
        [samples] each; empty ones are passed over.
    sample_rate : int
        Hz.

    Yields
    ------
    np.ndarray
        [samples], at most `MIN_UTTERANCE_S` + `GAP_S` + `MAX_CLIP_S` long.
    """
    gap = np.zeros(int(GAP_S * sample_rate), np.float32)
    utterance = gap[:0]
    for clip in clips:
        pieces = math.ceil(len(clip) / (MAX_CLIP_S * sample_rate))
        for piece in np.array_split(clip, pieces) if pieces else ():
            utterance = np.concatenate((utterance, gap, piece)) if len(utterance) else piece
            if len(utterance) >= MIN_UTTERANCE_S * sample_rate:
                yield utterance
                utterance = gap[:0]


def write_manifest(corpus: Path) -> None:
    """Lists the utterances; its presence says that the corpus is whole.

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
    """Builds the corpus from the command line."""
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
