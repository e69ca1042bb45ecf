"""Starts a training from the weights of a published SpeechBrain SepFormer."""

from speechbrain.utils.parameter_transfer import Pretrainer

from sfsrnet_modules.separator import MaskSeparator

PARTS = ("encoder", "masknet", "decoder")  # as SpeechBrain names them in its published folders


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
            f"{source} does not start this training ({reason}): give a folder with "
            f"{', '.join(f'{name}.ckpt' for name in PARTS)} of a SpeechBrain SepFormer of the same "
            "sizes, as hparams/sepformer.yaml has them"
        ) from error
