import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from data_prep.mixing.conversations import DURATION, conversations, one_voice, write_sets
from data_prep.mixing.fixed import FixedMixtures

RATE = 8000


@pytest.fixture
def table(tmp_path):
    """Mixtures of 6 s of two of three speakers, each a level of its own."""
    rows = []
    for i, speakers in enumerate(["ab", "bc", "ca"]):
        row = {"ID": f"mix{i}", "duration": 6.0}
        for c, speaker in enumerate(speakers, 1):
            level = 0.1 * ("abc".index(speaker) + 1)
            soundfile.write(tmp_path / f"{speaker}.wav", np.full(9 * RATE, level), RATE)
            row |= {f"speaker_{c}": speaker, f"wav_{c}": f"$data_root/{speaker}.wav"}
            row |= {f"start_{c}": 1.5, f"gain_{c}": 0.5}
        rows.append(row)
    return pd.DataFrame(rows)


def read(table, tmp_path):
    table.to_csv(tmp_path / "table.csv", index=False)
    return FixedMixtures(tmp_path / "table.csv", RATE, 2, tmp_path)


def test_of_one_voice_the_other_source_is_silent(table, tmp_path):
    alone, both = read(one_voice(table), tmp_path)[1], read(table, tmp_path)[1]
    assert torch.equal(alone["sources"][:, 0], both["sources"][:, 0])
    assert not alone["sources"][:, 1].any()
    assert torch.equal(alone["mixture"], both["sources"][:, 0])


def test_turns_overlap_by_a_quarter_and_fill_the_conversation(table, tmp_path):
    drawn = conversations(table, 4, seed=1)
    assert drawn.equals(conversations(table, 4, seed=1))
    dataset = read(drawn, tmp_path)
    for i in range(4):
        sources = dataset[i]["sources"]
        assert sources.shape == (round(DURATION * RATE), 2)
        levels = [x.unique().tolist() for x in (20 * sources).round().int().T]
        assert all(len(x) == 2 and x[0] == 0 for x in levels) and levels[0] != levels[1]
        speaking = sources > 0
        assert speaking.any(1).all()
        assert abs(speaking.all(1).float().mean() - 1 / 3) < 0.05  # 1.5 s of every 4.5 s


def test_a_piece_of_a_conversation_is_the_same_as_in_the_whole(table, tmp_path):
    dataset = read(conversations(table, 1), tmp_path)
    whole = dataset[0]["sources"]
    for begin, length in ((0, 100), (30000, 90000), (359000, 1000)):
        piece = dataset.read(dataset.rows.iloc[0], begin, length)["sources"]
        assert torch.equal(piece, whole[begin : begin + length])


def test_sets_are_written_beside_one_another(table, tmp_path):
    table.to_csv(tmp_path / "test.csv", index=False)
    paths = write_sets(tmp_path / "test.csv", tmp_path / "sets")
    assert [path.name for path in paths.values()] == ["one-voice.csv", "conversation.csv"]
    assert [len(FixedMixtures(path, RATE, 2, tmp_path)) for path in paths.values()] == [3, 1]
