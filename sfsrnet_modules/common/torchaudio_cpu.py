"""Lets torchaudio be imported on a CPU build of PyTorch.

The torchaudio wheels of the package index are linked against CUDA. On a CPU build of torch their
compiled extension cannot be loaded and ``import torchaudio`` (so ``import speechbrain`` too) stops
with ``libc10_cuda.so: cannot open shared object file``. Nothing that this project uses needs the
extension: with it declared absent, torchaudio runs as pure Python.
"""

import importlib
import sys
import types

import torch


def make_importable() -> None:
    """Declare torchaudio's compiled extension absent where it cannot be loaded.

    Does nothing on a CUDA build of torch, and nothing where torchaudio imports as it is.
    """
    if torch.version.cuda is not None or "torchaudio" in sys.modules:
        return
    try:
        importlib.import_module("torchaudio")
    except OSError:
        for name in [n for n in sys.modules if n.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _absent_extension()


def _absent_extension() -> types.ModuleType:
    extension = types.ModuleType("torchaudio._extension")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
    extension._IS_ALIGN_AVAILABLE = False
    extension._check_cuda_version = lambda: None
    extension.fail_if_no_align = _needs_extension
    return extension


def _needs_extension(function):
    def refuse(*args, **kwargs):
        raise RuntimeError(
            f"torchaudio.{function.__name__} needs torchaudio's compiled extension, which does not "
            "load on this CPU build of torch: install a torch and torchaudio of the same build"
        )

    return refuse
