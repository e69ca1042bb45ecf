"""Writes a model as ONNX: mixture [B, T] in, voices [B, T, C] out, any batch and any length.

What ONNX cannot hold is computed otherwise here, with the same outcome: positions beyond a table by
their formula; norms over a whole item with their sums in float64; attention over chunks row by row.
All else is the model's own.
SepFormer, SFSRNet and Conv-TasNet can be exported. DPRNN can't: PyTorch's export fixes the length
of an LSTM's input. A full band on top of a model can't: the export does not follow its two rates.
B batch, T samples, C sources, R rows of L positions, N channels, H heads of D channels.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._higher_order_ops import scan

from sfsrnet_modules.models import cpu, dual_path, transformer
from sfsrnet_modules.models.full_band import FullBand
from sfsrnet_modules.models.sfsrnet import SFSRNet

OPSET = 18
TOLERANCE = 1e-4  # of the loudest sample: largest difference between ONNX and PyTorch
TRACED = (2, 0.75)  # items, s: what the export is shown
CHECKED = ((1, 0.4), (3, 1.01), (1, 2.7))  # items, s: what it is then checked on


def export_onnx(model: SFSRNet, path: str | Path, sample_rate: int) -> Path:
    """Write `model` as ONNX and check it with onnxruntime on other lengths than it was shown.

    The file says its ``sample_rate`` in its metadata. Input ``mixture`` [B, T], of at least one
    frame of the encoder; output ``voices`` [B, T, C], whose scale is open.

    onnxruntime's memory grows with the length (the model that comes along: 0.5 GB for 15 s, 1.6 GB
    for 60 s, 3.1 GB for 120 s): run recordings that are longer than it allows by
    :func:`~sfsrnet_modules.inference.segments.separate_segments`, with a ``separate`` of::

        lambda x: torch.from_numpy(session.run(None, {"mixture": x[None].numpy()})[0][0])

    Arguments
    ---------
    model : SFSRNet
        The trained model.
    path : str or Path
        The file.
    sample_rate : int
        Hz.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        Where a package is missing, or ONNX can't hold the model.
    """
    _check_exportable(model)
    model = model.eval()
    program = _trace(Answer(model).eval(), sample_rate)
    program.model.metadata_props["sample_rate"] = str(sample_rate)
    program.save(path)
    difference = largest_difference(model, path, sample_rate)
    if difference > TOLERANCE:
        Path(path).unlink()
        raise ValueError(
            f"the ONNX network differs from PyTorch's by {difference:.1e} of the loudest sample, "
            f"more than {TOLERANCE:.0e}: leave --onnx away and report the model"
        )
    return Path(path)


def _check_exportable(model: SFSRNet) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise ValueError(
                f"no package {package}: pip install 'sfsrnet-speechbrain[onnx]', or leave --onnx "
                "away"
            )
    if isinstance(model, FullBand):
        raise ValueError(
            "a model of two rates (hparams/wide.yaml) can't be exported as ONNX, as PyTorch's "
            "export does not follow their lengths: leave --onnx away, or export the model of the "
            "low rate alone"
        )
    if any(isinstance(part, nn.RNNBase) for part in model.modules()):
        raise ValueError(
            "a model with recurrent layers (DPRNN) can't be exported as ONNX, as PyTorch's export "
            "fixes the length of their input: leave --onnx away"
        )


def _trace(network: nn.Module, sample_rate: int) -> torch.onnx.ONNXProgram:
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    batch, seconds = TRACED
    with any_length():
        return torch.onnx.export(
            network,
            (torch.randn(batch, round(seconds * sample_rate)),),
            input_names=["mixture"],
            output_names=["voices"],
            dynamic_shapes={"mixture": {0: torch.export.Dim("batch"), 1: torch.export.Dim.DYNAMIC}},
            opset_version=OPSET,
            verbose=False,
        )


@torch.inference_mode()
def largest_difference(model: SFSRNet, path: str | Path, sample_rate: int) -> float:
    """Return how far onnxruntime is from PyTorch at most, as a share of the loudest sample."""
    import onnxruntime  # an extra of the package

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch, seconds in CHECKED:
        mixture = 0.1 * torch.randn(batch, round(seconds * sample_rate))
        expected = model(mixture)[-1]  # [B, T, C]
        voices = torch.from_numpy(session.run(None, {"mixture": mixture.numpy()})[0])
        difference = (voices - expected).abs().max() / expected.abs().max()
        worst = max(worst, difference.item())
    return worst


class Answer(nn.Module):
    """An :class:`~sfsrnet_modules.models.sfsrnet.SFSRNet`'s answer alone, [B, T] -> [B, T, C]."""

    def __init__(self, model: SFSRNet):
        super().__init__()
        self.model = model

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate `mixture` [B, T] into [B, T, C]."""
        return self.model(mixture, False)[-1]


def encode_positions(table: transformer.LongPositionalEncoding, x: Tensor) -> Tensor:
    """Return what `table` gives for `x` [B, L, N], without a table: [1, L, N]."""
    length, channels = x.shape[1:]
    steps = torch.arange(0, channels, 2, device=x.device)
    frequencies = torch.exp(steps * -(torch.log(torch.tensor(10000.0)) / channels))  # [N / 2]
    angles = torch.arange(length, device=x.device).unsqueeze(1) * frequencies  # [L, N / 2]
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).unsqueeze(0)


def attention_by_row(query: Tensor, key: Tensor, value: Tensor, dropout_p: float) -> Tensor:
    """Return ``scaled_dot_product_attention`` of [R, H, L, D], in the export one row at a time.

    onnxruntime holds the weights [R, H, L, L] of what it computes at once: where L grows with the
    recording, they are far more than all else.
    """
    if isinstance(query.shape[2], int):  # not a symbol: rows of a fixed length, or no export
        return F.scaled_dot_product_attention(query, key, value)

    def attend(carry: Tensor, row: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        one = (x.unsqueeze(0) for x in row)  # [1, H, L, D]
        return carry.clone(), F.scaled_dot_product_attention(*one).squeeze(0)  # [H, L, D]

    nothing = query.new_zeros(1)  # a scan must carry something from row to row
    return scan(attend, nothing, (query, key, value))[1]  # [R, H, L, D]


def norm_of_item(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Return what `norm` gives for `x` [B, N, ...], its sums over a long recording in float64.

    onnxruntime adds up the millions of values one after the other in float32, and is 1e-3 off.
    """
    if norm.num_groups != 1:
        return F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    # scaled, as the export drops "+ eps", taking 1e-8 for zero, but not "+ 1"
    centred = (x - _mean_of_item(x)) * norm.eps**-0.5
    x = centred * (_mean_of_item(centred.square()) + 1).rsqrt()
    per_channel = (-1, *[1] * (x.dim() - 2))
    return x * norm.weight.view(per_channel) + norm.bias.view(per_channel)


def _mean_of_item(x: Tensor) -> Tensor:
    of_channels = x.mean(1, keepdim=True).double()  # [B, 1, ...]
    return of_channels.mean(list(range(2, x.dim())), keepdim=True).to(x.dtype)


def norm_chunks(norm: nn.Module, x: Tensor) -> Tensor:
    """Run a block's norm on `x` [B, R, L, N] as PyTorch defines it, channels first."""
    return norm(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@contextmanager
def any_length() -> Iterator[None]:
    """Within it nothing in the network depends on the length that it is shown."""
    with (
        patch.object(transformer.LongPositionalEncoding, "forward", encode_positions),
        patch.object(cpu, "scaled_dot_product_attention", attention_by_row),
        patch.object(nn.GroupNorm, "forward", norm_of_item),
        patch.object(dual_path, "norm_chunks", norm_chunks),
    ):
        yield
