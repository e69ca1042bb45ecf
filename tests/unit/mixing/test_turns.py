import numpy as np
import pytest

from data_prep.mixing.turns import FADE, PAUSE, Turns

RATE, SAMPLES = 8000, 16000


def drawn(turns: Turns, number: int = 400, num_spks: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([turns.draw(rng, num_spks, SAMPLES) for _ in range(number)])  # [n, C, T]


def test_shares_of_fewer_voices_are_as_asked():
    gains = drawn(Turns(RATE, {1: 0.2, 0: 0.1}))
    speaking = gains.any(2).sum(1)
    shares = [np.mean(speaking == n) for n in range(4)]
    assert np.allclose(shares, [0.1, 0.2, 0, 0.7], atol=0.06)
    assert set(np.unique(gains)) == {0, 1}


def test_voices_pause_once_each_without_a_click():
    gains = drawn(Turns(RATE, pause_share=0.5))
    pausing = (gains < 1).any((1, 2))
    assert abs(pausing.mean() - 0.5) < 0.08
    assert np.abs(np.diff(gains, axis=2)).max() <= 1 / (FADE * RATE) + 1e-5
    silent = (gains[pausing] == 0).mean(2)  # share of each voice's time
    assert 0.15 < silent.mean() < 0.45 and silent.max() <= PAUSE[1] + 1e-3
    starts = (np.diff((gains == 0).astype(int), axis=2) == 1).sum(2)
    assert starts.max() == 1


def test_all_speak_throughout_by_default():
    assert (drawn(Turns(RATE), number=5) == 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fewer_voices": {1: 0.7, 0: 0.4}}, "fewer_voices is {1: 0.7, 0: 0.4}"),
        ({"fewer_voices": {-1: 0.1}}, "fewer_voices"),
        ({"pause_share": 1.5}, "pause_share is 1.5"),
    ],
)
def test_shares_that_are_none_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Turns(RATE, **options)
