import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from sfsrnet_modules.evaluation.plots import (
    draw_bands,
    draw_conditions,
    draw_curves,
    main,
    read_curves,
)

LOG = """\
epoch: 1, lr: 1.00e-03 - train loss: 3.5, train block1_4000Hz: 1.50, train sr: 2.0, \
train items_per_second: 9.1 - valid loss: 3.0, valid si_snr_i: 2.50, valid si_snr_i_before_sr: 1.50
epoch: 2, lr: 5.00e-04 - train loss: 2.5, train block1_4000Hz: 2.50, train sr: -3.0, \
train items_per_second: 9.0 - valid loss: 2.0, valid si_snr_i: 3.50, valid si_snr_i_before_sr: 2.50
epoch loaded: 2 - test loss: 2.0, test si_snr_i: 3.4
"""


@pytest.fixture
def training(tmp_path):
    folder = tmp_path / "small" / "1234"
    folder.mkdir(parents=True)
    (folder / "train_log.txt").write_text(LOG)
    return folder


def test_curves_are_read_out_of_speechbrains_log(training):
    curves = read_curves(training / "train_log.txt")
    assert list(curves.index) == [1, 2]
    assert curves["train sr"].tolist() == [2.0, -3.0]
    assert curves["valid si_snr_i_before_sr"].tolist() == [1.5, 2.5]
    assert curves["lr"].tolist() == [1e-3, 5e-4]


def test_curves_are_drawn(training, tmp_path, capsys):
    assert main([str(training), "-o", str(tmp_path / "curves.png")]) == 0
    assert str(tmp_path / "curves.png") in capsys.readouterr().out
    assert plt.imread(tmp_path / "curves.png").std() > 0.05


def test_epochs_are_whole_numbers(training, tmp_path, monkeypatch):
    monkeypatch.setattr(plt, "close", lambda figure: None)
    draw_curves([training], tmp_path / "curves.png")
    for axes in plt.gcf().axes:
        assert len(axes.get_xticks()) and all(tick == round(tick) for tick in axes.get_xticks())


def test_trainings_without_an_epoch_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="give the output folder"):
        draw_curves([tmp_path], tmp_path / "curves.png")
    (tmp_path / "train_log.txt").write_text("")
    with pytest.raises(ValueError, match="no finished epoch"):
        draw_curves([tmp_path], tmp_path / "curves.png")


def test_bands_are_drawn_with_the_right_heights(tmp_path, monkeypatch):
    bars = []
    monkeypatch.setattr(plt.Axes, "bar", lambda self, place, means, *_, **__: bars.append(means))
    monkeypatch.setattr(plt.Axes, "legend", lambda self: None)
    columns = {"band_0_1khz": [8.0, 10.0], "band_1_2khz": [4.0, 5.0]}
    before = {f"{name}_before_sr": np.array(values) - 3 for name, values in columns.items()}
    draw_bands(pd.DataFrame(columns | before), tmp_path / "bands.png")
    assert [x.tolist() for x in bars] == [[6.0, 1.5], [9.0, 4.5]]
    draw_bands(pd.DataFrame(columns | before), tmp_path / "bands.png", {"before": "_before_sr"})
    assert bars[2].tolist() == [6.0, 1.5] and len(bars) == 3


def test_bands_without_super_resolution_and_none_at_all(tmp_path):
    scores = pd.DataFrame({"si_snr_i": [1.0, 2.0]})
    with pytest.raises(ValueError, match="no bands"):
        draw_bands(scores, tmp_path / "bands.png")
    draw_bands(scores.rename(columns={"si_snr_i": "band_0_1khz"}), tmp_path / "bands.png")
    assert (tmp_path / "bands.png").stat().st_size > 5000


def test_conditions_are_drawn_over_what_is_known_of_them(tmp_path):
    rng = np.random.default_rng(0)
    scores = {"si_snr_i": rng.normal(size=40), "snr": rng.uniform(5, 15, 40)}
    results = {"noise": pd.DataFrame(scores), "one voice": pd.DataFrame({"leak": [-10.0]})}
    picture = draw_conditions(results, tmp_path / "conditions.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
