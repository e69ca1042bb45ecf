"""Whether validation and test are about voices that training has not heard."""

import os
from pathlib import Path

from speechbrain.utils.logger import get_logger

from data_prep.scan.manifests import HELD_OUT, TRAINING, read_speakers

logger = get_logger(__name__)


def warn_of_shared(manifest_folder: str | os.PathLike) -> list[str]:
    """Warn where speakers of validation or test are trained on: figures then flatter.

    So it is by design with WSJ0-mix's validation.

    Arguments
    ---------
    manifest_folder : str or os.PathLike

    Returns
    -------
    list of str
        The warnings.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "pool.csv").write_text("ID,speaker\\nx,ann\\ny,bob\\n")
    >>> _ = (folder / "test.csv").write_text("ID,speaker_1,speaker_2\\nz,bob,eve\\n")
    >>> warn_of_shared(folder)
    ['1 of 2 speakers of test.csv are trained on (bob): its figures say little of new voices']
    """
    folder = Path(manifest_folder)
    trained = set().union(*(read_speakers(folder / name) for name in TRAINING))
    warnings = []
    for name in HELD_OUT:
        speakers = read_speakers(folder / name)
        shared = sorted(speakers & trained)
        if shared:
            names = ", ".join(shared[:3]) + ", …" * (len(shared) > 3)
            warnings.append(
                f"{len(shared)} of {len(speakers)} speakers of {name} are trained on ({names}): "
                "its figures say little of new voices"
            )
    for warning in warnings:
        logger.warning(warning)
    return warnings
