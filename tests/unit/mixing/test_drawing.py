"""Drawing fixed mixtures."""

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from data_prep.mixing.drawing import draw_mixtures
from data_prep.mixing.fixed import FixedMixtures
from data_prep.mixing.levels import GAIN_DB, PEAK, rms_db


def test_peaks_are_limited_for_the_whole_item(tmp_path):
    corpus = tmp_path / "s"
    corpus.mkdir()
    click = np.full(16000, 1e-3)
    click[8000] = 1.0  # -39 dB RMS: brought to -25 dB it peaks at 5
    pool = []
    for name in "ab":
        sf.write(corpus / f"{name}.wav", click, 8000, subtype="FLOAT")
        wav = f"$data_root/s/{name}.wav"
        pool.append([name, 2.0, 8000, rms_db(click), name, wav])
    pool = pd.DataFrame(
        pool, columns=["ID", "duration", "sample_rate", "level_db", "speaker", "wav"]
    )
    rng = np.random.default_rng(0)
    draw_mixtures(pool, tmp_path, 3, 2, 8000, 10.0, rng).to_csv(tmp_path / "m.csv", index=False)
    for item in FixedMixtures(tmp_path / "m.csv", 8000, 2, tmp_path):
        assert item["mixture"].abs().max() == pytest.approx(PEAK, abs=1e-4)
        ratio_db = rms_db(item["sources"][:, 0].numpy()) - rms_db(item["sources"][:, 1].numpy())
        assert abs(ratio_db) <= 2 * GAIN_DB
