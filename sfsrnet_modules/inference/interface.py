"""SpeechBrain's pretrained interface to SFSRNet: separates tensors, streams and files."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from speechbrain.inference.separation import SepformerSeparation
from speechbrain.utils.data_utils import split_path
from speechbrain.utils.fetching import fetch
from speechbrain.utils.logger import get_logger
from torch import Tensor

from sfsrnet_modules.common.audio_io import AudioFile, open_audio, read_mono
from sfsrnet_modules.common.precision import EMULATED, emulates_bfloat16
from sfsrnet_modules.common.resampling import resample_blocks
from sfsrnet_modules.common.writing import check_names, write_voices
from sfsrnet_modules.inference.averaging import separate_twice
from sfsrnet_modules.inference.heard import HeardVoices
from sfsrnet_modules.inference.pretrained import PARTS, from_stock
from sfsrnet_modules.inference.segments import separate_segments

logger = get_logger(__name__)

DEFAULT_MODEL = Path(__file__).parents[1] / "pretrained" / "sfsrnet-small-8k"
SEGMENT = 16.0  # s, of a long recording at a time: memory grows with it
OVERLAP = 2.0  # s, that a segment shares with the one before
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+|https?://.+")  # of Hugging Face, or an address
NO_MODEL = (
    "no model at {source} ({reason}): give the `model` folder that a training left in its output "
    "folder, or a Hugging Face repository"
)


class SFSRNetSeparation(SepformerSeparation):
    """A ready-to-use separator, loaded from an exported model folder.

    Unlike its base class it takes recordings of any length, keeps levels (no voice is normalised
    on its own), mixes every recording of several channels down to one, and returns silence for
    silence. SpeechBrain's published SepFormer folders load as well.

    ``run_opts={"precision": "bf16"}`` computes in bfloat16 what bears it; a processor without such
    arithmetic, which would be slower so, stays with float32 and says so.

    ``separator.twice = True`` separates everything twice and averages: better, in twice the time.

    Example
    -------
    >>> folder = getfixture("model_folder")  # of an untrained model with small layers
    >>> separator = SFSRNetSeparation.from_hparams(source=folder)
    >>> separator.separate_batch(torch.randn(1, 8000)).shape  # [B, T, C]
    torch.Size([1, 8000, 2])
    """

    twice = False  # separate twice and average: better, see sfsrnet_modules.inference.averaging

    MODULES_NEEDED = ["model"]  # noqa: RUF012  a list, as in the base class
    HPARAMS_NEEDED = ["sample_rate", "num_spks"]  # noqa: RUF012

    def __init__(self, modules: dict | None = None, hparams: dict | None = None, **kwargs):
        if modules and "model" not in modules and all(part in modules for part in PARTS):
            parts = (modules[part] for part in PARTS)
            modules = {"model": from_stock(*parts, sample_rate=hparams["sample_rate"])}
        super().__init__(modules, hparams, **kwargs)
        if self.precision == "bf16" and emulates_bfloat16(self.device_type):
            logger.warning(EMULATED)
            self.precision, self.inference_ctx = "fp32", nullcontext()

    @classmethod
    def from_hparams(
        cls, source: str | Path = DEFAULT_MODEL, *args, **kwargs
    ) -> "SFSRNetSeparation":
        """Load a model folder or a Hugging Face repository, with the arguments of SpeechBrain.

        Arguments
        ---------
        source : str or Path
            Default: the small model that comes with this project.

        Raises
        ------
        ValueError
            Where there is no such model.
        """
        if Path(source) == DEFAULT_MODEL and not DEFAULT_MODEL.is_dir():
            raise ValueError(
                f"the default model is not at {DEFAULT_MODEL}, it only comes with the project's "
                "repository: name a model folder"
            )
        source, savedir = os.path.expanduser(source), kwargs.get("savedir")
        if not os.path.isdir(source) and not REPOSITORY.fullmatch(source):
            raise ValueError(NO_MODEL.format(source=source, reason="there is no such folder"))
        if savedir is not None and Path(savedir).resolve() == Path(source).resolve():
            kwargs["savedir"] = None  # what is there already needs no links
        try:
            return super().from_hparams(str(source), *args, **kwargs)
        except Exception as error:  # a folder can be broken in every way
            reason = " ".join(str(error).split())[:200]
            raise ValueError(NO_MODEL.format(source=source, reason=reason)) from error

    def separate_batch(self, mix: Tensor, block: int | None = None) -> Tensor:
        """Separate mixtures at the model's rate.

        Arguments
        ---------
        mix : torch.Tensor
            [B, T], at ``hparams.sample_rate``.
        block : int, optional
            Leave off after this block of the separator, counted from 1, and return its estimate:
            quicker and rougher. With the last block it is the estimate before SR.

        Returns
        -------
        torch.Tensor
            [B, T, C]. SI-SNR leaves the scale of each open in training, one may be far softer than
            the other: :func:`~sfsrnet_modules.common.mixture_level.at_mixture_level` brings them
            to their levels in the mixture, as recordings get them.

        Raises
        ------
        ValueError
            Where the mixture is not [B, T], shorter than a frame, or holds NaN or infinity; where
            the model has no estimate after that block.
        """
        if not self.twice:
            return self.separate_estimates(mix, block=block)[-1]
        return separate_twice(
            lambda mixture: self.separate_estimates(mixture, block=block)[-1],
            mix.to(self.device),
            self.hparams.sample_rate,
            self._audible,
        )

    @torch.inference_mode()
    def _audible(self, mixture: Tensor) -> Tensor:
        return self.mods.model.conditioning.audible(mixture.to(self.device))  # [B, T]

    @torch.inference_mode()
    def separate_estimates(
        self, mix: Tensor, all_estimates: bool = False, block: int | None = None
    ) -> Tensor:
        """Return what leads to the answer, [E, B, T, C]: the estimate before SR, then after it.

        With ``all_estimates`` those after earlier blocks come first; `block` is that of
        :meth:`separate_batch`.
        """
        if not mix.isfinite().all():
            raise ValueError(
                f"{(~mix.isfinite()).sum()} of the mixture's {mix.numel()} samples are NaN or "
                "infinite: repair the recording first"
            )
        with self.inference_ctx:
            return self.mods.model(mix.to(self.device).float(), all_estimates, block)

    def stream(
        self,
        blocks: Iterable[Tensor],
        segment: float = SEGMENT,
        overlap: float = OVERLAP,
        block: int | None = None,
        heard: HeardVoices | None = None,
    ) -> Iterator[Tensor]:
        """Separate a stream of any length in constant memory, segment by segment.

        Arguments
        ---------
        blocks : iterable of torch.Tensor
            The mixture at ``hparams.sample_rate``, [T] each, of any length.
        segment : float
            Seconds that are separated at a time: memory grows with it.
        overlap : float
            Seconds that a segment shares with the one before, at most a quarter of it.
        block : int, optional
            As for :meth:`separate_batch`.
        heard : HeardVoices, optional
            Tells at the end in which outputs a voice was heard.

        Yields
        ------
        torch.Tensor
            Voices [T', C] on the CPU, each at its level in the mixture and in one order throughout.
            Joined they have the length of the joined blocks.
        """
        least = 1 / self.hparams.sample_rate  # s
        if not (1 <= segment < float("inf") and least <= overlap < float("inf")):
            raise ValueError(
                f"segments of {segment} s that overlap by {overlap} s: give numbers, at least 1 s "
                "to tell voices apart, and some overlap to know them again"
            )
        size = round(segment * self.hparams.sample_rate)
        shared = min(round(overlap * self.hparams.sample_rate), size // 4)
        return separate_segments(
            lambda mixture: self.separate_batch(mixture[None], block)[0].float().cpu(),  # [T, C]
            blocks,
            self.hparams.sample_rate,
            size,
            shared,
            heard,
            lambda mixture: self._audible(mixture[None])[0].cpu(),
        )

    def stream_file(self, path: str | Path, rate: str = "model", **options) -> Iterator[np.ndarray]:
        """Separate a recording in constant memory; yields voices [T', C].

        Arguments
        ---------
        path : str or Path
            Local audio file.
        rate : str
            "model": voices at the model's rate. "input": at the recording's, with its very length.
        **options
            Of :meth:`stream`.
        """
        if rate not in ("model", "input"):
            raise ValueError(f"rate is {rate!r}: choose 'model' or 'input', the recording's own")
        model_rate = self.hparams.sample_rate
        with _named(path), open_audio(path) as file:
            self._tell(file)
            blocks = (torch.from_numpy(mixture) for mixture in self._mixture(file))
            voices = (part.numpy() for part in self.stream(blocks, **options))
            if rate == "model":
                yield from voices
                return
            done = 0
            for part in resample_blocks(voices, model_rate, file.samplerate):
                yield part[: file.frames_read - done]  # resampling may have rounded up
                done += len(part)

    def separate_file(
        self, path: str | Path, savedir: str | Path | None = None, rate: str = "model", **options
    ) -> Tensor:
        """Separate a recording of any length, rate and number of channels.

        Channels are averaged, then the recording is resampled to the model's rate.

        Arguments
        ---------
        path : str or Path
            Audio file: a local path, a URL or a file of a Hugging Face repository.
        savedir : str or Path, optional
            Where a download is kept.
        rate : str
            "model": voices at the model's rate. "input": at the recording's, with its very length.
        **options
            Of :meth:`stream`.

        Returns
        -------
        torch.Tensor
            [1, T, C], each voice at its level in the recording; zeros where no voice was heard.

        Raises
        ------
        ValueError
            Where the file can't be read as audio, or what is in it can't be separated.
        """
        path = self._fetch(path, savedir)
        heard = HeardVoices(self.hparams.sample_rate)
        parts = list(self.stream_file(path, rate, heard=heard, **options))
        voices = np.concatenate(parts) * heard.which().astype(np.float32)  # [T, C]
        return torch.from_numpy(voices)[None]

    def separate_long(
        self,
        path: str | Path,
        folder: str | Path,
        name: str | None = None,
        rate: str = "input",
        progress: Callable[[float], object] = lambda seconds: None,
        drop_empty: bool = False,
        **options,
    ) -> list[Path]:
        """Separate a recording into files, in memory that does not grow with its length.

        The log tells how many voices were heard; a file in which none is holds silence.

        Arguments
        ---------
        path : str or Path
            Local audio file.
        folder : str or Path
            Where to; made if need be. It needs room for the voices three times over.
        name : str, optional
            Files are ``<name>_voice1.wav`` and so on, of 16 bits or, where all voices are
            very soft, 24, each whole or not there at all.
            Default: the recording's.
        rate : str
            "input": voices at the recording's rate, with its very length. "model": at the model's.
        progress : callable
            Told how many seconds more are done.
        drop_empty : bool
            Leave away the files in which no voice was heard.
        **options
            Of :meth:`stream`.

        Returns
        -------
        list of Path
            The files. All voices are turned down by the same gain where one of them would clip;
            the log tells it.

        Raises
        ------
        ValueError
            Where the file can't be read as audio, or what is in it can't be separated.
        OSError
            Where the voices can't be written.
        """
        with open_audio(path) as file:
            sample_rate = self.hparams.sample_rate if rate == "model" else file.samplerate
        paths = self.voice_paths(folder, name or Path(path).stem)
        check_names(paths)
        heard = HeardVoices(self.hparams.sample_rate)
        with closing(self.stream_file(path, rate, heard=heard, **options)) as voices:
            counted = _counted(voices, lambda num_samples: progress(num_samples / sample_rate))
            gain = write_voices(counted, paths, sample_rate, heard.which)
        if gain < 1:
            logger.warning(
                f"{path}: voices turned down by the factor {gain:.3f}, so as not to clip"
            )
        which = heard.which()  # [C]
        logger.info(f"{path}: {which.sum()} of {len(which)} voices heard")
        if not drop_empty:
            return paths
        for empty in np.flatnonzero(~which):
            paths[empty].unlink()
        return [p for p, is_heard in zip(paths, which, strict=True) if is_heard]

    def voice_paths(self, folder: str | Path, name: str) -> list[Path]:
        """Return the files that :meth:`separate_long` writes."""
        numbers = range(1, self.hparams.num_spks + 1)
        return [Path(folder) / f"{name}_voice{i}.wav" for i in numbers]

    def load_mixture(self, path: str | Path, savedir: str | Path | None = None) -> Tensor:
        """Read a recording as one channel at the model's rate, [1, T]."""
        with open_audio(self._fetch(path, savedir)) as file:
            self._tell(file)
            mixture = np.concatenate(list(self._mixture(file)))  # [T]
        return torch.from_numpy(mixture)[None].to(self.device)

    def _mixture(self, file: AudioFile) -> Iterator[np.ndarray]:
        """Yield a recording as one channel at the model's rate, [T] each."""
        return resample_blocks(read_mono(file), file.samplerate, self.hparams.sample_rate)

    def _tell(self, file: AudioFile) -> None:
        if file.channels > 1:
            logger.info(f"{file.name}: {file.channels} channels averaged to one")
        if file.samplerate < self.hparams.sample_rate:
            logger.warning(
                f"{file.name} has {file.samplerate} Hz, the model was trained on "
                f"{self.hparams.sample_rate} Hz: the band that is missing may mislead it"
            )

    def _fetch(self, path: str | Path, savedir: str | Path | None) -> str:
        if Path(path).is_file():
            return str(path)
        source, name = split_path(str(path))
        if not REPOSITORY.fullmatch(str(source)):  # nothing to ask a server for
            raise ValueError(f"{path} can't be read as audio: there is no such file")
        try:
            return str(fetch(name, source=source, savedir=savedir))
        except Exception as error:  # of any library that downloads
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{path} can't be read as audio: there is no such file here, and from {source} it "
                f"can't be had: {reason}"
            ) from error


@contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """Name the recording in what is said of its samples."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def _counted(
    parts: Iterable[np.ndarray], progress: Callable[[int], object]
) -> Iterator[np.ndarray]:
    for part in parts:
        progress(len(part))
        yield part
