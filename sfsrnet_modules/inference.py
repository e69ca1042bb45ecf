"""SpeechBrain's pretrained interface to SFSRNet: separates tensors and files."""

from contextlib import nullcontext
from pathlib import Path

import torch
from speechbrain.dataio import audio_io
from speechbrain.inference.separation import SepformerSeparation
from speechbrain.utils.data_utils import split_path
from speechbrain.utils.fetching import fetch
from speechbrain.utils.logger import get_logger
from torch import Tensor
from torchaudio.functional import resample

logger = get_logger(__name__)


class SFSRNetSeparation(SepformerSeparation):
    """A ready-to-use separator, loaded from an exported model folder.

    Unlike its base class it keeps levels (no voice is normalised on its own), mixes every
    recording of several channels down to one, and returns silence for silence.

    ``run_opts={"precision": "bf16"}`` computes in bfloat16 what bears it; a processor without such
    arithmetic, which would be slower so, stays with float32 and says so.

    Example
    -------
    >>> folder = getfixture("model_folder")  # of an untrained model with small layers
    >>> separator = SFSRNetSeparation.from_hparams(source=folder)
    >>> separator.separate_batch(torch.randn(1, 8000)).shape  # [B, T, C]
    torch.Size([1, 8000, 2])
    """

    MODULES_NEEDED = ["model"]  # noqa: RUF012  a list, as in the base class

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.precision == "bf16" and self.device_type == "cpu" and not cpu_has_bfloat16():
            logger.warning("This processor has no bfloat16 arithmetic: float32 is used.")
            self.precision, self.inference_ctx = "fp32", nullcontext()

    @classmethod
    def from_hparams(cls, source: str | Path, *args, **kwargs) -> "SFSRNetSeparation":
        """Load a model folder or a Hugging Face repository, with the arguments of SpeechBrain.

        Raises
        ------
        ValueError
            Where there is no such model.
        """
        try:
            return super().from_hparams(str(source), *args, **kwargs)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"no model at {source} ({reason}): give the `model` folder that a training left in "
                "its output folder, or a Hugging Face repository"
            ) from error

    @torch.inference_mode()
    def separate_batch(self, mix: Tensor) -> Tensor:
        """Separate mixtures at the model's rate.

        Arguments
        ---------
        mix : torch.Tensor
            [B, T], at ``hparams.sample_rate``.

        Returns
        -------
        torch.Tensor
            [B, T, C]. SI-SNR leaves the scale of an estimate open in training: see
            :func:`at_mixture_level`.

        Raises
        ------
        ValueError
            Where the mixture is not [B, T], shorter than a frame, or holds NaN or infinity.
        """
        return self.separate_estimates(mix)[-1]

    @torch.inference_mode()
    def separate_estimates(self, mix: Tensor) -> Tensor:
        """Return what leads to the answer, [E, B, T, C]: the estimate before SR, then after it."""
        if not mix.isfinite().all():
            raise ValueError(
                f"{(~mix.isfinite()).sum()} of the mixture's {mix.numel()} samples are NaN or "
                "infinite: repair the recording first"
            )
        with self.inference_ctx:
            return self.mods.model(mix.to(self.device))

    def separate_file(self, path: str | Path, savedir: str | Path | None = None) -> Tensor:
        """Separate a recording of any rate and number of channels.

        Channels are averaged, then the recording is resampled to the model's rate.

        Arguments
        ---------
        path : str or Path
            Audio file: a local path, a URL or a file of a Hugging Face repository.
        savedir : str or Path, optional
            Where a download is kept.

        Returns
        -------
        torch.Tensor
            [1, T, C] at ``hparams.sample_rate``, each voice at its level in the recording.

        Raises
        ------
        ValueError
            Where the file can't be read as audio, or what is in it can't be separated.
        """
        mixture = self.load_mixture(path, savedir)  # [1, T]
        return at_mixture_level(self.separate_batch(mixture), mixture)

    def load_mixture(self, path: str | Path, savedir: str | Path | None = None) -> Tensor:
        """Read a recording as one channel at the model's rate, [1, T]."""
        try:
            recording, rate = audio_io.load(self._fetch(path, savedir))  # [channels, T']
        except Exception as error:
            raise ValueError(f"{path} can't be read as audio: {error}") from error
        mixture = recording.mean(0, keepdim=True).to(self.device)  # [1, T']
        return resample(mixture, rate, self.hparams.sample_rate)  # [1, T]

    def _fetch(self, path: str | Path, savedir: str | Path | None) -> str:
        if Path(path).is_file():
            return str(path)
        source, name = split_path(str(path))
        return str(fetch(name, source=source, savedir=savedir))


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself: AVX512-BF16 or AMX."""
    # PyTorch's public checks also count processors that emulate it
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def at_mixture_level(estimates: Tensor, mixture: Tensor) -> Tensor:
    """Scale each estimate so that together they come nearest to the mixture (least squares).

    Arguments
    ---------
    estimates : torch.Tensor
        [B, T, C].
    mixture : torch.Tensor
        [B, T].

    Returns
    -------
    torch.Tensor
        [B, T, C]; silence stays silence.

    Example
    -------
    >>> sources = torch.randn(1, 800, 2)
    >>> scaled = sources * torch.tensor([0.1, 7.0])
    >>> torch.allclose(at_mixture_level(scaled, sources.sum(2)), sources, atol=1e-3)
    True
    """
    estimates = estimates.to(mixture.device)
    products = estimates.mT @ estimates  # [B, C, C]
    power = products.diagonal(dim1=1, dim2=2)  # [B, C]
    damping = torch.diag_embed(1e-6 * power + 1e-12)  # silence and equal estimates stay solvable
    projection = estimates.mT @ mixture.unsqueeze(2)  # [B, C, 1]
    gains = torch.linalg.solve(products + damping, projection)  # [B, C, 1]
    return estimates * gains.mT
