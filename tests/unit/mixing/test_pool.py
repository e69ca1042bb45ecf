"""The pool that dynamic mixing draws from."""

import logging
from collections import Counter
from itertools import islice

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from data_prep.mixing.pool import Pool

SPEAKERS = {"books": 10, "phones": 40, "few": 1}


@pytest.fixture
def manifest(tmp_path):
    """51 speakers of three sources, with the same recording each."""
    sf.write(tmp_path / "a.wav", np.full(8000, 0.1), 8000)
    rows = [
        {"speaker": f"{name}-{i}", "source": name, "ID": f"{name}-{i}"}
        for name, number in SPEAKERS.items()
        for i in range(number)
    ]
    facts = {"duration": 1.0, "sample_rate": 8000, "level_db": -20.0, "measure": "rms"}
    table = pd.DataFrame(rows).assign(**facts, wav="$data_root/a.wav")
    table.to_csv(tmp_path / "pool.csv", index=False)
    return tmp_path / "pool.csv"


def drawn(manifest, weights, number=2000, first=1):
    """The names of the first speakers of mixtures."""
    pool = Pool(manifest, 8000, source_weights=weights, data_root=manifest.parent)
    names = sorted(pd.read_csv(manifest)["speaker"])
    rngs = map(np.random.default_rng, range(number))
    return [[names[s] for s in islice(pool.draw_speakers(rng), first)] for rng in rngs]


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        (None, {"books": 10 / 51, "phones": 40 / 51, "few": 1 / 51}),
        ({"phones": 0.1}, {"books": 10 / 15, "phones": 4 / 15, "few": 1 / 15}),
        ({"books": 0, "few": 10}, {"phones": 0.8, "few": 0.2}),
    ],
)
def test_sources_are_drawn_by_their_speakers_times_their_weights(manifest, weights, shares):
    speakers = [first for (first,) in drawn(manifest, weights)]
    sources = Counter(speaker.split("-")[0] for speaker in speakers)
    assert {name: n / 2000 for name, n in sources.items()} == pytest.approx(shares, abs=0.03)
    of_phones = Counter(speaker for speaker in speakers if speaker.startswith("phones"))
    expected = 2000 * shares["phones"] / 40
    assert len(of_phones) == 40  # every one of them, and none much more often
    assert max(of_phones.values()) < expected + 5 * expected**0.5


def test_all_speakers_come_those_of_the_first_source_first(manifest):
    for names in drawn(manifest, None, 20, first=60):
        assert len(set(names)) == len(names) == 51
        source = names[0].split("-")[0]
        assert {n.split("-")[0] for n in names[: SPEAKERS[source]]} == {source}
    for names in drawn(manifest, {"phones": 0}, 20, first=60):
        assert len(names) == 11 and not any(name.startswith("phones") for name in names)


def test_shares_are_logged_and_unknown_sources_named(manifest, caplog):
    with caplog.at_level(logging.INFO):
        Pool(manifest, 8000, source_weights={"boks": 2, "few": 10}, data_root=manifest.parent)
    assert "by source: books 16.7%, few 16.7%, phones 66.7%" in caplog.text
    assert "source_weights name boks, which" in caplog.text


@pytest.mark.parametrize("weights", [{"books": -1}, {"books": 0, "phones": 0, "few": 0}])
def test_weights_that_draw_nothing_are_refused(manifest, weights):
    with pytest.raises(ValueError, match=r"source_weights are .*one of books, few, phones"):
        Pool(manifest, 8000, source_weights=weights, data_root=manifest.parent)
