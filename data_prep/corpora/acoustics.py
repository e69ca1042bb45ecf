"""Rooms and noise for any corpus: banks and recordings to train with, fixed rows for the rest.

A corpus is prepared without them; then its validation and test mixtures are given further columns
(``data_prep.mixing.fixed``). No room, recording of noise or babbling speaker of one part is in
another one.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from speechbrain.utils.logger import get_logger
from tqdm import tqdm

from data_prep.corpora.folder import find_audio
from data_prep.mixing.drawing import draw_noise_crop
from data_prep.mixing.fixed import located, read_manifest, read_mixture, read_row_noise
from data_prep.mixing.noise import TALKERS, Noise, check_kinds, check_range, check_share, snr_gain
from data_prep.mixing.pool import Pool
from data_prep.mixing.rooms import Rooms, check_target, make_banks
from data_prep.scan import manifests
from data_prep.scan.scan import scan, usable
from sfsrnet_modules.common.writing import write_whole

logger = get_logger(__name__)

FOLDERS = {"tr": "train", "cv": "valid", "tt": "test"}  # WHAM's own split of its noise
EVERY = 7  # recordings of noise, in alphabetical order: of so many one is kept for each part
KEPT = {0: "test", 1: "valid"}  # which of the seven
ROOM = r"bank|room|place_\d+|t60"  # columns of a manifest that a room fills
NOISE = r"\w+_noise|snr"  # and noise


class Acoustics:
    """Rooms that voices are heard in, and noise that is mixed in.

    Arguments
    ---------
    sample_rate : int
        Hz.
    rooms : str or os.PathLike, optional
        Folder of the banks of simulated rooms, which are made there if missing; no rooms by
        default.
    room_share : float
        Of the mixtures that are heard in a room.
    t60 : tuple of float
        Range of the reverberation times in seconds.
    target : str
        See ``data_prep.mixing.rooms.Rooms``.
    noise_folder : str or os.PathLike, optional
        Recordings of noise, at any depth.
    noise_kinds : sequence of str
        See ``data_prep.mixing.noise.Noise``.
    noise_share : float
        Of the mixtures that have noise.
    noise_snr : tuple of float
        Range in dB, of all voices together over the noise.

    Raises
    ------
    ValueError
        An argument is none of its values.
    """

    def __init__(
        self,
        sample_rate: int,
        rooms: str | os.PathLike | None = None,
        room_share: float = 0.5,
        t60: tuple[float, float] = (0.1, 0.7),
        target: str = "reverberant",
        noise_folder: str | os.PathLike | None = None,
        noise_kinds: Sequence[str] = ("recordings",),
        noise_share: float = 1.0,
        noise_snr: tuple[float, float] = (5.0, 15.0),
    ):
        check_share("room_share", room_share)
        check_range("t60", t60)
        check_target(target)
        check_kinds(noise_kinds)
        check_share("noise_share", noise_share)
        check_range("noise_snr", noise_snr)
        self.sample_rate = sample_rate
        self.rooms = rooms
        self.room_share = room_share
        self.t60 = t60
        self.target = target
        self.noise_folder = noise_folder
        self.noise_kinds = noise_kinds
        self.noise_share = noise_share
        self.noise_snr = noise_snr

    # --- Training ---------------------------------------------------------------------------------

    def train_rooms(self) -> Rooms | None:
        """Return the rooms to train in, if there are to be any."""
        if self.rooms is None:
            return None
        bank = make_banks(self.rooms, self.sample_rate, self.t60)["train"]
        return Rooms(bank, self.sample_rate, self.target, self.room_share)

    def train_noise(
        self,
        manifest_folder: Path,
        data_root: str | os.PathLike,
        noise_root: str | os.PathLike | None = None,
        packs: str | os.PathLike | None = None,
    ) -> Noise:
        """Return the noise to train with; its recordings are those of ``noise.csv``, if any."""
        manifest, recordings = manifest_folder / "noise.csv", None
        if manifest.is_file():
            roots = {"data_root": data_root, "noise_root": noise_root or self.noise_folder}
            recordings = Pool(manifest, self.sample_rate, packed=packs, **roots)
        noise = (self.noise_kinds, self.noise_snr, self.noise_share)
        return Noise(self.sample_rate, *noise, recordings)

    def warn_of_silence(self, manifest_folder: Path) -> None:
        """Warn where a corpus's own training mixtures stay without the noise of the others."""
        made_of = json.loads((manifest_folder / manifests.STATE).read_bytes())
        kinds = self._kinds(self.noise_folder)
        if kinds and self.noise_share and "noise.csv" not in made_of["manifests"]:
            logger.warning(
                "Training is without noise (%s), validation and test have it: it is drawn for new "
                "mixtures only, leave dynamic_mixing on",
                ", ".join(kinds),
            )

    # --- Preparation ------------------------------------------------------------------------------

    def prepare(self, manifest_folder: Path, data_root: str | os.PathLike) -> None:
        """Give the fixed mixtures of a prepared corpus their rooms and their noise.

        A second call with the same arguments does nothing. A corpus with noise of its own
        (LibriMix's, WHAM!'s) keeps that, and published files with noise or rooms stay as they are:
        a warning says where training alone has noise.

        Arguments
        ---------
        manifest_folder : Path
            Of the corpus.
        data_root : str or os.PathLike
            Replaces ``$data_root`` in the manifests.

        Raises
        ------
        ValueError
            No noise in the folder, or too little; or the rooms cannot be made.
        """
        banks = {} if self.rooms is None else make_banks(self.rooms, self.sample_rate, self.t60)
        prepared = (manifest_folder / manifests.STATE).read_bytes()
        made_of = json.loads(prepared)
        has_own = "noise.csv" in made_of["manifests"]
        has_rooms = made_of.get("mixture", "").endswith("_reverb")
        names = self._noise_names() if self._has_noise() and not has_own else []
        state = {
            "corpus": hashlib.sha256(prepared).hexdigest(),
            "rooms": [path.name for path in banks.values()] + [self.room_share] * bool(banks),
            "noise": [self.noise_kinds, self.noise_share, self.noise_snr] * (not has_own),
            "files": manifests.fingerprint(Path(self.noise_folder), names) if names else None,
        }
        state = json.loads(json.dumps(state))
        if _read_state(manifest_folder) == state:
            return
        (manifest_folder / manifests.ACOUSTICS).unlink(missing_ok=True)
        recordings = self._scan(names, manifest_folder)
        if "train" in recordings:
            table = recordings["train"].to_csv(index=False)
            write_whole(manifest_folder / "noise.csv", table.encode())
        elif not has_own:
            (manifest_folder / "noise.csv").unlink(missing_ok=True)
        kinds = self._kinds(names)
        if has_rooms and not has_own and kinds and self.noise_share:
            logger.warning(
                "Validation and test are without noise (%s), training has it: mixtures in WHAMR!'s "
                "rooms stay as they are",
                ", ".join(kinds),
            )
        for part in ("valid", "test"):
            path = manifest_folder / f"{part}.csv"
            table = read_manifest(path)
            if "wav_mix" in table and (has_own or has_rooms):
                continue  # files that hold noise or rooms already
            table = without(table, ROOM if has_own else f"{ROOM}|{NOISE}")
            table = self.draw(table, part, data_root, banks, recordings, has_own)
            write_whole(path, table.to_csv(index=False).encode())
        write_whole(manifest_folder / manifests.ACOUSTICS, json.dumps(state, indent=2).encode())

    def write_conditions(
        self, manifest: Path, output_folder: Path, data_root: str | os.PathLike
    ) -> dict[str, Path]:
        """Write the mixtures of a manifest as they are, with noise, in a room, and with both.

        Arguments
        ---------
        manifest : Path
            Of mixtures; "valid.csv" is given the rooms and the noise of validation, any other
            those of the test.
        output_folder : Path
            Where the manifests go; made if missing.
        data_root : str or os.PathLike
            Replaces ``$data_root`` in it.

        Returns
        -------
        dict
            Of "clean", "noise", "room" and "room+noise", as far as there are any; the manifests.
        """
        output_folder.mkdir(parents=True, exist_ok=True)
        banks = {} if self.rooms is None else make_banks(self.rooms, self.sample_rate, self.t60)
        recordings = self._scan(self._noise_names() if self._has_noise() else [], output_folder)
        part = "valid" if manifest.stem == "valid" else "test"
        table = without(read_manifest(manifest), f"{ROOM}|{NOISE}|wav_mix")
        both = self.draw(table, part, data_root, banks, recordings)
        tables = {"clean": table, "noise": without(both, ROOM), "room": without(both, NOISE)}
        tables |= {"room+noise": both}
        if not banks:
            tables = {name: table for name, table in tables.items() if "room" not in name}
        paths = {}
        for name, table in tables.items():
            paths[name] = output_folder / f"{name}.csv"
            manifests.write_whole(paths[name], table.to_csv(index=False).encode())
        return paths

    def draw(
        self,
        table: pd.DataFrame,
        part: str,
        data_root: str | os.PathLike,
        banks: Mapping[str, Path],
        recordings: Mapping[str, pd.DataFrame],
        has_own_noise: bool = False,
    ) -> pd.DataFrame:
        """Draw rooms and noise for the shares of fixed mixtures that are to have them.

        Arguments
        ---------
        table : pd.DataFrame
            A manifest of mixtures.
        part : str
            "valid" or "test".
        data_root : str or os.PathLike
            Replaces ``$data_root`` in it.
        banks, recordings : mapping
            Of the parts: bank of rooms, pool of noise.
        has_own_noise : bool
            Whether the noise of the table stays.

        Returns
        -------
        pd.DataFrame
            With further columns, empty where a mixture has no room or no noise; where it has, the
            corpus's own file of it counts no more.
        """
        rows = located(table, data_root, self.noise_folder)
        num_spks = _num_spks(table)
        room = Rooms(banks[part], self.sample_rate) if banks else None
        kinds = [] if has_own_noise else self._kinds(recordings)
        if len(manifests.speakers_in(table)) < num_spks + 2:  # who babble
            kinds = [kind for kind in kinds if kind != "babble"]
        drawn = []
        for i in tqdm(range(len(rows)), desc=f"Rooms and noise, {part}", unit="mixture"):
            rng = np.random.default_rng([part == "test", i])
            found = {}
            if room is not None and rng.random() < self.room_share:
                number, places = room.draw_places(rng, num_spks)
                found |= {"bank": f"$rooms_root/{banks[part].name}", "room": number}
                found |= {f"place_{c}": place for c, place in enumerate(places, 1)}
                found["t60"] = round(float(room.bank["t60"][number]), 3)
            if kinds and rng.random() < self.noise_share:
                kind = kinds[rng.integers(len(kinds))]
                found |= self._draw_noise(rng, kind, table, i, recordings.get(part))
                found |= self._noise_gain(rng, {**rows.iloc[i], **found}, num_spks, data_root)
            drawn.append(found)
        columns = pd.DataFrame(drawn, table.index, dtype=object).fillna("")
        if "wav_mix" in table:
            columns["wav_mix"] = table["wav_mix"].mask([bool(found) for found in drawn], "")
        return table.assign(**columns)

    def _draw_noise(
        self,
        rng: np.random.Generator,
        kind: str,
        table: pd.DataFrame,
        i: int,
        recordings: pd.DataFrame | None,
    ) -> dict:
        """Columns of a noise of one kind for the mixture of row `i`, but its gain."""
        if kind == "coloured":
            return {"seed_noise": int(rng.integers(2**31))}
        if kind == "recordings":
            recording = recordings.iloc[rng.integers(len(recordings))]
            num_samples = round(float(table["duration"].iloc[i]) * self.sample_rate)
            return draw_noise_crop(recording, num_samples, self.sample_rate, rng)
        voices = [f"_{c}" for c in range(1, _num_spks(table) + 1)]
        paths = {s: p for v in voices for s, p in table[[f"speaker{v}", f"wav{v}"]].to_numpy()}
        others = sorted(paths.keys() - {table[f"speaker{v}"].iloc[i] for v in voices})
        number = min(rng.integers(TALKERS[0], TALKERS[1] + 1), len(others))
        return {"wav_noise": "|".join(paths[s] for s in rng.choice(others, number, replace=False))}

    def _noise_gain(
        self, rng: np.random.Generator, row: Mapping, num_spks: int, data_root: str | os.PathLike
    ) -> dict:
        row = located(pd.DataFrame([row]), data_root, self.noise_folder).iloc[0]
        dry = {key: row[key] for key in row.index if key not in ("bank", "wav_mix", "wav_noise")}
        num_samples = round(float(row["duration"]) * self.sample_rate)
        _, sources = read_mixture(dry, self.sample_rate, num_spks, 0, num_samples)
        noise = read_row_noise(row, self.sample_rate, 0, num_samples)
        snr = rng.uniform(*self.noise_snr)
        gain = float(snr_gain(sources.sum(axis=-1), noise, snr))
        return {"gain_noise": gain, "snr": round(snr, 2)}

    def _has_noise(self) -> bool:
        return self.noise_folder is not None and "recordings" in self.noise_kinds

    def _kinds(self, recordings: Mapping | str | os.PathLike | None) -> list[str]:
        return [kind for kind in self.noise_kinds if kind != "recordings" or recordings]

    def _noise_names(self) -> list[str]:
        return find_audio(Path(self.noise_folder), "noise_folder")

    def _scan(self, names: list[str], manifest_folder: Path) -> dict[str, pd.DataFrame]:
        if not names:
            return {}
        root = {"root_name": "noise_root", "folder": manifest_folder}
        return split_noise(
            usable(scan(Path(self.noise_folder), names, self.sample_rate, str, **root))
        )


def split_noise(noise: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split recordings of noise: by WHAM's folders tr, cv and tt, or two of every seven are kept.

    Raises
    ------
    ValueError
        Fewer than three recordings.

    Example
    -------
    >>> noise = pd.DataFrame({"ID": list("abcdefgh")})
    >>> {part: "".join(group["ID"]) for part, group in split_noise(noise).items()}
    {'train': 'cdefg', 'valid': 'b', 'test': 'ah'}
    """
    folders = noise["ID"].str.split("/").str[0]
    if set(folders) == set(FOLDERS):
        parts = folders.map(FOLDERS)
    elif len(noise) < 3:
        raise ValueError(
            f"Found {len(noise)} recordings of noise, train, valid and test need one each: add "
            "some to noise_folder, or cut a long one into files"
        )
    else:
        parts = pd.Series(np.arange(len(noise)) % EVERY, noise.index).map(KEPT).fillna("train")
    return {part: noise[parts == part] for part in ("train", "valid", "test")}


def without(table: pd.DataFrame, columns: str) -> pd.DataFrame:
    """Leave away the columns of a manifest whose names match."""
    return table.loc[:, ~table.columns.str.fullmatch(columns)]


def _num_spks(table: pd.DataFrame) -> int:
    return int(table.columns.str.fullmatch(r"wav_\d+").sum())


def _read_state(manifest_folder: Path) -> dict | None:
    path = manifest_folder / manifests.ACOUSTICS
    return json.loads(path.read_text()) if path.is_file() else None
