"""What ``benchmarks/speed.py`` compares: models of SpeechBrain, Asteroid and ours; the clock."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from unittest.mock import patch

import sfsrnet_modules  # noqa: F401  first: lets speechbrain be imported on CPU-only torch

# isort: split
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.lobes.models.dual_path import SepformerWrapper
from torch import Tensor, nn

from benchmarks.about import ROOT
from sfsrnet_modules.common.hparams import read_hparams
from sfsrnet_modules.common.precision import emulates_bfloat16

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RATE = 8000  # Hz


@cache
def hparams(name: str) -> dict:
    return load_hyperpyyaml(read_hparams(ROOT / f"hparams/{name}.yaml"), "data_folder: /nowhere")


def ours(name: str) -> nn.Module:
    return hparams(name)["model"]


def alone(name: str) -> nn.Module:
    """The separator of a configuration without super-resolution."""
    return hparams(name)["separator"]


def stock_sepformer() -> nn.Module:
    """What SpeechBrain's ``SepformerSeparation`` runs, with the weights of ours."""
    with patch.object(SepformerWrapper, "reset_layer_recursively"):  # half a minute for nothing
        stock = SepformerWrapper()
    stock.load_state_dict(ours("sepformer").separator.state_dict())
    for module in stock.modules():  # its recipe trains without dropout, as ours
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return stock


def asteroid(name: str) -> nn.Module:
    import asteroid.models

    sizes = {"DPRNNTasNet": {"bn_chan": 64, "chunk_size": 200}, "ConvTasNet": {}}
    return getattr(asteroid.models, name)(n_src=2, sample_rate=RATE, **sizes[name])


STOCK = "SepFormer 26 M, SpeechBrain"
CASES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    STOCK: (stock_sepformer, "fp32"),
    "SepFormer 26 M": (partial(ours, "sepformer"), "fp32"),
    "SepFormer 26 M, bf16": (partial(ours, "sepformer"), "bf16"),
    "SFSRNet 59 M": (partial(ours, "sfsrnet"), "fp32"),
    "SFSRNet 59 M, bf16": (partial(ours, "sfsrnet"), "bf16"),
    "DPRNN, Asteroid": (partial(asteroid, "DPRNNTasNet"), "fp32"),
    "DPRNN": (partial(alone, "dprnn"), "fp32"),
    "Conv-TasNet, Asteroid": (partial(asteroid, "ConvTasNet"), "fp32"),
    "Conv-TasNet": (partial(alone, "convtasnet"), "fp32"),
}
BASELINES = {
    "SepFormer 26 M": STOCK,
    "SepFormer 26 M, bf16": STOCK,
    "DPRNN": "DPRNN, Asteroid",
    "Conv-TasNet": "Conv-TasNet, Asteroid",
}
TRAINING = {  # case: checkpointing
    STOCK: False,
    "SepFormer 26 M": False,
    "SepFormer 26 M, checkpointing": True,
    "SepFormer 26 M, bf16": False,
}


def has_bfloat16() -> bool:
    return not emulates_bfloat16("cpu") if DEVICE == "cpu" else torch.cuda.is_bf16_supported()


def available(only: str = "") -> tuple[list[str], list[str]]:
    """The cases with `only` in their name that can be measured here, and why others cannot."""
    cases, reasons = [], []
    for case, (_, precision) in CASES.items():
        if only not in case:
            continue
        if "Asteroid" in case:
            try:
                import asteroid.models  # noqa: F401
            except Exception as error:
                reasons.append(f"{case}: not measured, `import asteroid` fails ({error}).")
                continue
        if precision == "bf16" and not has_bfloat16():
            reasons.append(f"{case}: not measured, the processor has no bfloat16.")
            continue
        cases.append(case)
    return cases, reasons


def autocast(precision: str):
    return torch.autocast(DEVICE, torch.bfloat16) if precision == "bf16" else nullcontext()


def separating(case: str) -> Callable[[Tensor], Tensor]:
    build, precision = CASES[case]
    return in_evaluation(build(), precision)


def in_evaluation(model: nn.Module, precision: str) -> Callable[[Tensor], Tensor]:
    model.to(DEVICE).eval()

    @torch.inference_mode()
    def separate(mixture: Tensor) -> Tensor:
        with autocast(precision):
            return model(mixture)

    return separate


def training(case: str) -> Callable[[Tensor], None]:
    """A whole step on sources [B, T, C]: forward, loss, backward, clipping, Adam."""
    build, precision = CASES[case.removesuffix(", checkpointing")]
    model = build().to(DEVICE).train()
    optimizer = hparams("sepformer")["opt_class"](model.parameters())
    loss = hparams("sepformer")["loss"]

    def step(sources: Tensor) -> None:
        if hasattr(model, "separator"):
            model.separator.checkpointing = TRAINING[case]
        with autocast(precision):
            estimates = model(sources.sum(2))
            estimates = estimates if estimates.dim() == 4 else estimates[None]  # [E, B, T, C]
            total, _ = loss(estimates, sources, None, False)
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def seconds(function: Callable, *inputs) -> float:
    begin = time.perf_counter()
    function(*inputs)
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def interleaved(functions: dict[str, Callable], value: Tensor, rounds: int) -> dict[str, list]:
    """Seconds of every function in every round."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(seconds(function, value))
    return times
