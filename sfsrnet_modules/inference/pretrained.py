"""Takes over trained weights: to train on from them, or to separate with SpeechBrain's."""

import copy
from pathlib import Path

from speechbrain.lobes.models.dual_path import Dual_Path_Model
from speechbrain.utils.parameter_transfer import Pretrainer
from torch import nn

from sfsrnet_modules.common.hparams import read_yaml
from sfsrnet_modules.models.dual_path import DualPathSeparator
from sfsrnet_modules.models.full_band import FullBand
from sfsrnet_modules.models.separator import MaskSeparator
from sfsrnet_modules.models.sfsrnet import SFSRNet
from sfsrnet_modules.models.weights import HPARAMS, WEIGHTS, load_weights, mix_in

PARTS = ("encoder", "masknet", "decoder")  # as SpeechBrain names them in its published folders


def load_start(model: SFSRNet | FullBand, source: str) -> None:
    """Load the weights that a training starts from, instead of fresh ones.

    Arguments
    ---------
    model : SFSRNet or FullBand
        Of the sizes of the trained one.
    source : str
        A model folder of this project's, or what :func:`load_stock_weights` takes. For a
        :class:`FullBand` a folder of its own rate, or that of its narrow model.

    Raises
    ------
    ValueError
        Where `source` is neither, or of other sizes.
    """
    weights = Path(source) / WEIGHTS
    if isinstance(model, FullBand):
        load_weights(_part_of_rate(model, Path(source)), weights)
    elif weights.is_file():
        load_weights(model, weights)
    else:
        load_stock_weights(model.separator, source)


def mix_in_start(model: SFSRNet | FullBand, source: str, share: float) -> None:
    """Move the weights of a trained model back towards those that its training started from.

    Weights that :func:`load_start` does not give, which began as fresh ones, stay as they are.

    Arguments
    ---------
    model : SFSRNet or FullBand
        The trained one.
    source : str
        As for :func:`load_start`.
    share : float
        Of :func:`~sfsrnet_modules.models.weights.mix_in`.
    """
    start = copy.deepcopy(model)
    load_start(start, source)
    mix_in(model, start.state_dict(), share)


def _part_of_rate(model: FullBand, folder: Path) -> FullBand | SFSRNet:
    """Return what the weights of a model folder belong to: the whole, or its narrow model."""
    hparams_file = folder / HPARAMS
    if not hparams_file.is_file():
        raise ValueError(
            f"no {hparams_file}: set start_from to the model folder of a finished model of "
            f"{model.narrow.sample_rate} Hz"
        )
    about = read_yaml(hparams_file.read_text(encoding="utf-8"))
    if about["num_spks"] != model.num_spks:
        raise ValueError(
            f"the model of {folder} gives {about['num_spks']} voices, num_spks is "
            f"{model.num_spks}: set it to that, or start_from to another model folder"
        )
    parts = {model.sample_rate: model, model.narrow.sample_rate: model.narrow}
    if about["sample_rate"] not in parts:
        raise ValueError(
            f"the model of {folder} is of {about['sample_rate']} Hz: set start_from to one of "
            f"{model.narrow.sample_rate} Hz, or narrow_rate to its rate"
        )
    return parts[about["sample_rate"]]


def load_stock_weights(separator: MaskSeparator, source: str) -> None:
    """Load ``encoder.ckpt``, ``masknet.ckpt`` and ``decoder.ckpt`` into the separator.

    Heads of earlier blocks, which the stock model has not, keep their fresh weights.

    Arguments
    ---------
    separator : MaskSeparator
        Of the sizes of the published model, with the gated head (``hparams/sepformer.yaml``).
    source : str
        Folder, or Hugging Face repository such as ``speechbrain/sepformer-wsj02mix``.

    Raises
    ------
    ValueError
        Where a file is missing or does not fit the separator.
    """
    loadables = {name: getattr(separator, name) for name in PARTS}
    pretrainer = Pretrainer(loadables=loadables)
    try:
        pretrainer.collect_files(default_source=source)
        pretrainer.load_collected()
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{source} does not start this training ({reason}): give a folder with {WEIGHTS}, or "
            f"with {', '.join(f'{name}.ckpt' for name in PARTS)} of a SpeechBrain SepFormer of the "
            "same sizes, as hparams/sepformer.yaml has them"
        ) from error


def from_stock(
    encoder: nn.Module, masknet: nn.Module, decoder: nn.Module, sample_rate: int = 8000
) -> SFSRNet:
    """Join the trained modules of a published folder to a model of this project's, without SR.

    It gives the same answer faster, on recordings of any length and level.

    Arguments
    ---------
    encoder, masknet, decoder : torch.nn.Module
        SpeechBrain's, as the folder's ``hyperparams.yaml`` names them: a SepFormer, or any mask
        network that maps [B, N, L] to [C, B, N, L].
    sample_rate : int
        Hz.

    Example
    -------
    >>> from speechbrain.lobes.models.dual_path import SepformerWrapper
    >>> stock = SepformerWrapper(16, encoder_out_nchannels=16, masknet_chunksize=20,
    ...     intra_numlayers=1, inter_numlayers=1, intra_nhead=2, inter_nhead=2).eval()
    >>> model = from_stock(stock.encoder, stock.masknet, stock.decoder).eval()
    >>> model(torch.randn(1, 800)).shape  # [E, B, T, C]
    torch.Size([1, 1, 800, 2])
    """
    if not isinstance(masknet, Dual_Path_Model):
        return SFSRNet(MaskSeparator(encoder, masknet, decoder), sample_rate=sample_rate)
    trained = {name: value.clone() for name, value in masknet.state_dict().items()}
    separator = DualPathSeparator(encoder, masknet, decoder, head="gated", every_block=False)
    separator.masknet.load_state_dict(trained)  # where layers were alike, they stay so
    return SFSRNet(separator, sample_rate=sample_rate)
