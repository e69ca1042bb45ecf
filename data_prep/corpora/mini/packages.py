"""Debian packages in a folder of their own: no root, no install, the system's lists untouched."""

import csv
import hashlib
import logging
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from data_prep.corpora.mini.clips import GAP_S, LEVEL_DB, MIN_UTTERANCE_S, PEAK, RUMBLE_HZ
from data_prep.corpora.mini.speakers import MIN_SPEAKERS, SPEAKERS

logger = logging.getLogger(__name__)

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


class Package(NamedTuple):
    """What the signed package index says of one package."""

    name: str
    file: str
    size: int  # bytes
    sha256: str


def fetch_packages(sources: Path) -> list[Package]:
    """Download the packages and writes what they are beside the corpus.

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
            raise failure(f"its speech comes out of Debian's packages, and there is no {tool} here")
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
    """Give apt lists and a cache of its own; sources, keys and proxy stay the system's.

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
    """Refresh apt's lists and looks up the packages of `SPEAKERS`.

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
        raise failure(f"apt-get offers {len(names)} of its packages ({said})")
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
    """Download one package; under its own name only once it is whole.

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
            raise failure(f"apt-get download {package.name} failed ({_complaint(done)})")
        os.replace(Path(part) / package.file, debs / package.file)


def write_sources(packages: list[Package], sources: Path) -> None:
    """Write README.txt and packages.csv.

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


def unpack_package(package: Package, sources: Path) -> None:
    """Unpack one package and keeps its licence.

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


def _apt_get(config: Path, *arguments: str, cwd: str | None = None) -> subprocess.CompletedProcess:
    command = ["apt-get", "-q", "-c", str(config), *arguments]
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def _complaint(process: subprocess.CompletedProcess) -> str:
    return process.stderr.strip().partition("\n")[0]


def failure(reason: str) -> ValueError:
    return ValueError(f"The mini corpus could not be built: {reason}. {WAY_OUT}")
