"""The rows of the ablation: each is one command, ``python train.py FILE --key value ...``."""

from typing import NamedTuple

MUON = "!name:benchmarks.muon.MuonAndAdam {lr: !ref <lr>}"
SMALL = "hparams/small.yaml"
EARLY_SPLIT = "benchmarks/early_split.yaml"
SEPFORMER, DPRNN, CONV_TASNET = (
    f"hparams/{name}.yaml" for name in ("sepformer", "dprnn", "convtasnet")
)

OF_SMALL = (SMALL, EARLY_SPLIT)  # files that are small.yaml or hold what differs from it
# what the other files must have in common with small.yaml, so that only the model differs
AS_SMALL = (
    "segment",
    "num_workers",
    "speed",
    "source_weights",
    "batch_size",
    "lr",
    "lr_schedule",
    "warmup",
    "ema",
    "ckpt_interval_minutes",
)


class Row(NamedTuple):
    """One model.

    ``paper`` is the paper's SI-SNRi in dB on WSJ0-2mix, ``paper_ms`` its milliseconds for a second
    of audio on an RTX 2070 Super, where it has them. ``share`` is that of the steps: less where a
    step takes longer, so that a row has the time of the others.
    """

    title: str
    options: dict[str, str] = {}  # noqa: RUF012  as in a function's signature, never changed
    file: str = SMALL
    paper: str = ""
    paper_ms: str = ""
    share: float = 1.0


# where small.yaml departs from the paper for the better: the rows keep to the paper
AS_PAPER = {"head": "linear", "sr_target": "magnitude", "filterbank": "noise"}
NO_SR = {"super_resolution": "null"}
NO_MULTI_LOSS = {"every_block": "False"}
SAME_RATE = {"rates": "[8000, 8000, 8000, 8000]"}
PAPERS_KERNELS = {"sr_kernels": "[5, 9, 11, 11]"}
# a few minutes a row: a third of the LSTM's units and half the blocks of the published DPRNN
SMALL_DPRNN = {"filters": "64", "width": "32", "hidden": "48", "blocks": "3"}


def _searched(title: str, share: float = 1.0, file: str = SMALL, **options: str) -> Row:
    """A switch of small.yaml, with an average that suits few steps; no processes to wait for.

    The speed is that of small.yaml before the search.
    """
    base = {"ema": "0.99", "num_workers": "0", "speed": "[0.9, 1.1]"}
    return Row(title, base | options, file, share=share)


def _small(title: str, options: dict[str, str] | None = None, paper: str = "") -> Row:
    return Row(title, AS_PAPER | (options or {}), paper=paper)


def _dprnn(stride: int, chunk: int, sr: bool, paper: str, paper_ms: str) -> Row:
    options = {**SMALL_DPRNN, "kernel": str(2 * stride), "chunk": str(chunk)}
    options |= {"sr_channels": "[16, 32, 16]", "sr_kernels": "[5, 5, 5, 5]"} if sr else NO_SR
    title = f"DPRNN{' + SR' if sr else ''}, stride {stride}, chunk {chunk}"
    return Row(title, options, DPRNN, paper, paper_ms)


ROWS = {
    # table 3
    "sepformer": _small("SepFormer: neither", NO_SR | NO_MULTI_LOSS, paper="22.5"),
    "same-rate": _small("+ multi-loss, same sampling rate", NO_SR | SAME_RATE, paper="23.1"),
    "multi-loss": _small("+ multi-loss, changing sampling rates", NO_SR, paper="23.5"),
    "sr-plain": _small(
        "+ SR without heuristic", NO_MULTI_LOSS | {"heuristic": "False"}, paper="22.9"
    ),
    "sr": _small("+ SR with heuristic", NO_MULTI_LOSS, paper="23.3"),
    "full": _small("+ multi-loss and SR with heuristic: SFSRNet", paper="24.0"),
    # where the paper is silent
    "quotient": _small("quotient: mixture over estimate", {"quotient": "mixture_over_estimate"}),
    "lowpass": _small("low-rate targets: low-passed", {"low_rate": "lowpass"}),
    "norm-gln": _small("norm in SR: global", {"sr_norm": "gln"}),
    "norm-bn": _small("norm in SR: batch", {"sr_norm": "bn"}),
    "norm-none": _small("norm in SR: none", {"sr_norm": "null"}),
    "last-relu": _small("ReLU on SR's last layer", {"sr_last_relu": "True"}),
    "shared-head": _small("one head for all blocks", {"shared_head": "True"}),
    "gated-head": _small("gated heads", {"head": "gated"}),
    "sines": _small("encoder and decoder begin as sines", {"filterbank": "sines"}),
    "shipped": Row("small.yaml as it is: gated heads, complex mask, sines"),
    "shipped-bn": Row("small.yaml, norm in SR: batch", {"sr_norm": "bn"}),
    # forms of SR
    "separable": _small("separable", {"sr_form": "separable"}),
    "subpixel": _small("subpixel", {"sr_form": "subpixel"}),
    "dense-large": _small("dense, the paper's kernels", PAPERS_KERNELS),
    "separable-large": _small(
        "separable, the paper's kernels", PAPERS_KERNELS | {"sr_form": "separable"}
    ),
    "complex-mask": _small("complex mask", {"sr_target": "complex_mask"}),
    "complex-residual": _small("complex residual", {"sr_target": "complex_residual"}),
    "separable-mask": _small(
        "separable, complex mask", {"sr_form": "separable", "sr_target": "complex_mask"}
    ),
    "shipped-separable": Row("small.yaml, separable", {"sr_form": "separable"}),
    # table 4
    "dprnn-1-200": _dprnn(1, 200, False, "19.1", "65.5"),
    "dprnn-8-200": _dprnn(8, 200, False, "17.6", "25.8"),
    "dprnn-8-200-sr": _dprnn(8, 200, True, "18.3", "28.8"),
    "dprnn-8-50": _dprnn(8, 50, False, "17.3", "25.3"),
    "dprnn-8-50-sr": _dprnn(8, 50, True, "18.8", "28.3"),
    # other separators of small.yaml's size and stride, without SR
    "size-sepformer": Row(
        "SepFormer of SpeechBrain",
        {
            "filters": "256",
            "width": "84",
            "kernel": "64",
            "chunk": "50",
            "layers": "4",
            "heads": "4",
            "ffn": "160",
        },
        SEPFORMER,
    ),
    "size-dprnn": Row(
        "DPRNN",
        {"filters": "256", "width": "64", "kernel": "64", "chunk": "50", "hidden": "65"} | NO_SR,
        DPRNN,
    ),
    "size-convtasnet": Row(
        "Conv-TasNet",
        {"filters": "256", "kernel": "64", "width": "64", "hidden": "284"} | NO_SR,
        CONV_TASNET,
    ),
    # the search
    "search-base": _searched("small.yaml, speed 0.9 to 1.1, average 0.99"),
    "joint-order": _searched("one order for all estimates", joint_order="True"),
    "block-weight": _searched("blocks' losses: 0.4", block_weight="0.4"),
    "block-fades": _searched("blocks' losses: from 1 to 0", last_block_weight="0"),
    "answer-alone": _searched("blocks' losses: 0", block_weight="0"),
    "levelled": _searched("estimates at the mixture's level before SR", levelled="True"),
    "adds-up": _searched("the same, voices add up to it", levelled="True", adds_up="True"),
    "unclamped": _searched("loss not clamped", max_si_snr="null"),
    "lr-half": _searched("lr 0.001", lr="0.001"),
    "lr-double": _searched("lr 0.004", lr="0.004"),
    "constant-lr": _searched("lr constant", lr_schedule="plateau"),
    "no-average": _searched("no average", ema="null"),
    "muon": _searched("Muon for matrices", opt_class=MUON),
    "short": _searched("4 items of 1 s", batch_size="4", segment="1.0"),
    "long": _searched("1 item of 4 s", batch_size="1", segment="4.0"),
    "no-speed": _searched("no change of speed", speed="null"),
    "more-speed": _searched("speed 0.8 to 1.2", speed="[0.8, 1.2]"),
    "even-sources": _searched("sources by their speakers", source_weights="{}"),
    "search-bn": _searched("norm in SR: batch", sr_norm="bn"),
    "stride": _searched("half the stride, equal time", 0.61, kernel="32"),
    "wider": _searched("width 96, equal time", 0.68, width="96", ffn="192"),
    "deeper": _searched(
        "6 blocks, equal time", 0.73, blocks="6", rates="[1000, 2000, 3000, 4000, 8000, 8000]"
    ),
    "shallower": _searched("3 blocks, equal time", 1.1, blocks="3", rates="[2000, 4000, 8000]"),
    "early-split": _searched("voices split after 2 blocks, equal time", 0.9, EARLY_SPLIT),
    "lighter-sr": _searched("SR separable, equal time", 0.93, sr_form="separable"),
    "heavier-sr": _searched("SR twice as wide, equal time", 0.58, sr_channels="[32, 64, 32]"),
}

# table: (what it answers, the row that others are compared with, the rows)
TABLES = {
    "3": (
        "The paper's table 3: multi-loss and super-resolution",
        "sepformer",
        "sepformer same-rate multi-loss sr-plain sr full".split(),
    ),
    "open": (
        "Where the paper is silent",
        "full",
        "full quotient lowpass norm-gln norm-bn norm-none last-relu shared-head gated-head "
        "sines shipped shipped-bn".split(),
    ),
    "sr": (
        "Forms of super-resolution: lighter, and with phase",
        "full",
        "full multi-loss separable subpixel complex-mask complex-residual separable-mask "
        "dense-large separable-large shipped shipped-separable".split(),
    ),
    "4": (
        "The paper's table 4: super-resolution behind DPRNN",
        "dprnn-8-200",
        "dprnn-1-200 dprnn-8-200 dprnn-8-200-sr dprnn-8-50 dprnn-8-50-sr".split(),
    ),
    "size": (
        "Other separators with as many parameters",
        "full",
        "full shipped size-sepformer size-dprnn size-convtasnet".split(),
    ),
    "search": (
        "The search: what small.yaml learns quicker with",
        "search-base",
        "search-base joint-order block-weight block-fades answer-alone levelled adds-up unclamped "
        "lr-half lr-double constant-lr no-average muon short long no-speed more-speed "
        "even-sources search-bn stride wider deeper shallower early-split lighter-sr "
        "heavier-sr".split(),
    ),
}
