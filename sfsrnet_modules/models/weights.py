"""A model's weights as safetensors: written, and loaded by SpeechBrain's pretrained interface."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from speechbrain.utils.fetching import FetchSource
from speechbrain.utils.parameter_transfer import Pretrainer
from torch import Tensor, nn

HPARAMS = "hyperparams.yaml"  # of a model folder, SpeechBrain's name
SUFFIX = ".safetensors"
WEIGHTS = f"model{SUFFIX}"  # the loadable "model" of a model folder


def save_weights(model: nn.Module, path: str | Path) -> None:
    """Write the parameters and buffers of `model`."""
    # copies, as safetensors refuses tensors that share memory
    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    Path(path).write_bytes(save(weights, metadata={"format": "pt"}))


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load what :func:`save_weights` wrote.

    Raises
    ------
    ValueError
        Where the file is no safetensors file, or of another model.
    """
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} holds no weights of this model: {reason}") from error


def mix_in(model: nn.Module, start: dict[str, Tensor], share: float) -> None:
    """Move the weights of `model` back towards those that its training started from.

    What is trained further on other data forgets some of what it knew; on the way between both
    lie weights that know most of both (Wortsman et al., CVPR 2022).

    Arguments
    ---------
    model : torch.nn.Module
        The trained one.
    start : dict of str to torch.Tensor
        The ``state_dict`` that its training began with.
    share : float
        Of ``start``, 0 to 1.

    Example
    -------
    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.constant_(model.weight, 3.0)
    >>> mix_in(model, {"weight": torch.ones(1, 1)}, share=0.25)
    >>> model.weight.item()
    2.5
    """
    weights = model.state_dict()
    for name, value in weights.items():
        if value.is_floating_point():
            value.lerp_(start[name].to(value), share)


class SafetensorsPretrainer(Pretrainer):
    """SpeechBrain's ``Pretrainer`` for ``<name>.safetensors`` in place of ``<name>.ckpt``.

    ``Pretrainer`` takes another file name only with the folder that it lies in; a model folder does
    not know where it will lie.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_custom_hooks(dict.fromkeys(self.loadables, load_weights))

    def collect_files(self, default_source: str | Path | FetchSource | None = None, **kwargs):
        """Fetch ``<name>.safetensors`` of every loadable; arguments as in the base class."""
        if default_source is not None:
            for name in self.loadables:
                self.paths.setdefault(name, _within(default_source, name + SUFFIX))
        return super().collect_files(default_source, **kwargs)


def _within(source: str | Path | FetchSource, name: str) -> str | FetchSource:
    if isinstance(source, FetchSource):
        return FetchSource(source[0], f"{source[1]}/{name}")
    return f"{source}/{name}"
