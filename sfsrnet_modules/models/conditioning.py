"""What is done to a mixture before the networks see it: offset and hum go, the level is set."""

import torch
import torch.nn.functional as F
from scipy.signal import firwin
from torch import Tensor, nn

from sfsrnet_modules.common.precision import in_float32

LEVEL = 0.08  # RMS that the networks see, -22 dBFS: two voices of -25 dBFS, as training mixes them
SILENCE = 1e-8  # RMS, -160 dBFS: what is softer than 24 bits can hold is not brought up to LEVEL
CUTOFF = 60.0  # Hz: rumble and hum lie below, deep voices begin at 75 Hz
REACH = 0.1  # s, of the filter: it passes what lies below 43 Hz and stops what lies above 77 Hz
LOW_RATE = 160.0  # Hz: what passes the filter, up to 77 Hz, is filtered at this rate


class Conditioning(nn.Module):
    """Takes offset and hum from each item and brings it to the RMS of ``LEVEL``.

    Networks are trained at about that level, on speech with next to nothing below 60 Hz; what they
    were not shown they do not separate.

    Arguments
    ---------
    sample_rate : int
        Hz, of the mixtures.

    Example
    -------
    >>> mixture = 0.01 * torch.randn(1, 8000) + 0.3
    >>> conditioned, gain = Conditioning(8000)(mixture)
    >>> conditioned.square().mean().sqrt(), bool(gain > 5)
    (tensor(0.0800), True)
    """

    def __init__(self, sample_rate: int):
        super().__init__()
        self.stride = round(sample_rate / LOW_RATE)
        taps = firwin(round(REACH * sample_rate) | 1, CUTOFF, fs=sample_rate)  # odd: no delay
        taps = torch.tensor(taps, dtype=torch.float32)[None, None]  # [1, 1, taps]
        self.register_buffer("low_pass", taps, persistent=False)

    @in_float32
    def forward(self, mixture: Tensor) -> tuple[Tensor, Tensor]:
        """Condition `mixture`.

        Arguments
        ---------
        mixture : torch.Tensor
            [B, T].

        Returns
        -------
        mixture : torch.Tensor
            [B, T].
        gain : torch.Tensor
            What each item was multiplied by, [B, 1].

        Raises
        ------
        ValueError
            Where the mixture has another shape, or no samples.
        """
        check_shape(mixture)
        # float64: onnxruntime adds up one sample after the other
        mixture = mixture - mixture.mean(1, keepdim=True, dtype=torch.float64).float()
        mixture = mixture - self._below_cutoff(mixture)
        power = mixture.square().mean(1, keepdim=True, dtype=torch.float64)  # [B, 1]
        gain = (LEVEL / power.sqrt().clamp_min(SILENCE)).float()
        return mixture * gain, gain

    def audible(self, mixture: Tensor) -> Tensor:
        """Return what voices of `mixture` [B, T] can add up to: it without offset and hum."""
        conditioned, gain = self(mixture)
        return conditioned / gain

    def _below_cutoff(self, mixture: Tensor) -> Tensor:
        """What lies below the cut-off in `mixture` [B, T]: filtered at a low rate, and back."""
        reach = self.low_pass.shape[2] // 2
        low = F.conv1d(mixture.unsqueeze(1), self.low_pass, stride=self.stride, padding=reach)
        back = F.conv_transpose1d(
            low, self.stride * self.low_pass, stride=self.stride
        )  # [B, 1, T']
        return back[:, 0, reach : reach + mixture.shape[1]]


def check_shape(mixture: Tensor) -> None:
    """Stop where `mixture` is not [B, T], or has no samples."""
    if mixture.dim() != 2 or not mixture.shape[1]:
        raise ValueError(
            f"the mixture has shape {tuple(mixture.shape)}; expected [batch, samples]: "
            "mix its channels to one, or add the batch axis with mixture[None]"
        )
