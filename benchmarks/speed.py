"""Cost of separating and of training, SpeechBrain's own code and ours side by side.

``python -m benchmarks.speed --data_folder SPEECH`` writes ``benchmarks/speed.md`` and
``speed.png``, about 15 minutes on two idle cores; a GPU is used where there is one.
``--section NAME`` measures one alone and keeps the others as they were measured last.

Models have random weights, stock and ours the same. Rounds are interleaved, figures are medians,
ratios are medians of each round's ratio. A section is a process, as memory that other models left
to reuse would change its figures: "kept" is the SepFormer with memory that is never given back.
Peak memory is that of a process of its own. Asteroid is compared where it is installed.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial

from benchmarks.about import ROOT
from benchmarks.speed_report import ENVIRONMENT, measure, report
from benchmarks.speed_sections import (
    agreement_section,
    batches_section,
    compile_section,
    loader_section,
    memory_section,
    print_peak,
    separating_section,
    training_section,
)

SECTIONS: dict[str, tuple[str, Callable]] = {
    "sepformer": ("Separating: SepFormer", partial(separating_section, "SepFormer")),
    "kept": ("Separating: SepFormer, memory kept", partial(separating_section, "SepFormer")),
    "sfsrnet": ("Separating: SFSRNet", partial(separating_section, "SFSRNet")),
    "dprnn": ("Separating: DPRNN", partial(separating_section, "DPRNN")),
    "convtasnet": ("Separating: Conv-TasNet", partial(separating_section, "Conv-TasNet")),
    "memory": ("Memory of separating", memory_section),
    "batches": ("Batches", batches_section),
    "agreement": ("Agreement with SpeechBrain, and bfloat16", agreement_section),
    "training": ("Training", training_section),
    "loader": ("The loader", loader_section),
    "compile": ("torch.compile", compile_section),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--section", choices=SECTIONS, help="measure this one alone")
    parser.add_argument(
        "--data_folder", help="speech, as for train.py, for the loader and bfloat16"
    )
    parser.add_argument("--measure", choices=SECTIONS, help=argparse.SUPPRESS)
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "SECONDS"), help=argparse.SUPPRESS)
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print_peak(args.peak[0], int(args.peak[1]), args.train)
        return
    if args.measure:
        function = SECTIONS[args.measure][1]
        needs_data = args.measure in ("loader", "agreement")
        measure(args.measure, partial(function, args.data_folder) if needs_data else function)
        return
    data = ["--data_folder", args.data_folder] if args.data_folder else []
    for name in [args.section] if args.section else SECTIONS:
        command = [sys.executable, "-m", "benchmarks.speed", "--measure", name, *data]
        subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT.get(name, {}), check=True)
    report({name: title for name, (title, _) in SECTIONS.items()})


if __name__ == "__main__":
    main()
