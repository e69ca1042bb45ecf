"""The table of rooms and noise, out of made-up scores; the trainings are the ablation's."""

import json

import pandas as pd
import pytest

from benchmarks import rooms
from sfsrnet_modules.evaluation.scoring import write_results

ITEMS = [f"i{n}" for n in range(8)]


def write_run(folder, gain: float, outputs: int = 2) -> None:
    """A run whose mixtures have an SI-SNR of -1 dB each, and `gain` dB more after separation."""
    folder.mkdir(parents=True)
    about = {"outcome": "done", "commit": "abc", "machine": "a machine", "extra": "--ema 0.99"}
    (folder / rooms.RUN).write_text(json.dumps(about))
    voices = {"duration": 1.0, "si_snr": gain - 1, "si_snr_i": gain}
    silence = {"duration": 1.0, "voice_si_snr": gain - 1, "leak": -gain}
    for name, column, _ in rooms.FIGURES:
        values = voices if column == "si_snr_i" and outputs == 2 else silence
        scores = pd.DataFrame(values, index=pd.Index(ITEMS, name="id"))
        write_results(scores, folder / f"{name}.csv")


def test_the_table_tells_means_differences_and_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "throughput", lambda args: "| half |")
    for seed, gain in (("1", 4.0), ("2", 6.0)):
        write_run(tmp_path / "clean" / seed, gain)
    write_run(tmp_path / "rooms/1", 7.0)
    write_run(tmp_path / "three/1", 6.5, outputs=3)
    (tmp_path / "rooms/2").mkdir()  # begun, not finished
    words = ["speech", "--noise_folder", "noise", "--folder", str(tmp_path), "--seeds", "1", "2"]
    args = rooms.parse([*words, "--output", str(tmp_path / "rooms.md")])
    text = rooms.write_report(args).read_text()
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    cells = {tuple(line[:2]): line[2:] for line in lines}
    for name in ("clean", "noise", "room", "room+noise", "conversation"):
        clean, with_rooms, gain, three, to_two = cells[name, "SI-SNRi"]
        assert clean == "5.00 (4.00 to 6.00)" and with_rooms == "7.00" and three == "6.50"
        assert gain == "+3.00 (+3.00 to +3.00)" and to_two == "-0.50 (-0.50 to -0.50)"
    assert cells["one voice", "ghost over the voice"][:2] == ["-5.00 (-6.00 to -4.00)", "-7.00"]
    assert "| half |" in text and "clean sums alone: 1, 2;" in text.replace("\n", " ")
    assert (tmp_path / "rooms.png").stat().st_size > 1000


def test_nothing_is_told_of_what_was_not_scored():
    assert len(rooms.paired({"1": pd.Series([1.0])}, {"2": pd.Series([1.0])})) == 0
    assert rooms._interval(rooms.paired({}, {})) == rooms._means({}) == ""


@pytest.mark.parametrize("seeds", [[3], [3, 4]])
def test_three_outputs_are_trained_with_the_first_seed(seeds):
    assert rooms.runs(seeds)[-1] == ("three", 3)
    assert len(rooms.runs(seeds)) == 2 * len(seeds) + 1
