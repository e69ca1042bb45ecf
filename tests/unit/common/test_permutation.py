from itertools import permutations
from time import perf_counter

import pytest
import torch

from sfsrnet_modules.common import permutation
from sfsrnet_modules.common.permutation import best_order


@pytest.mark.parametrize("num_spks", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("tried", [0, 6])
def test_the_order_is_the_best_of_all(num_spks, tried, monkeypatch):
    monkeypatch.setattr(permutation, "TRIED", tried)
    scores = torch.randn(5, num_spks, num_spks)  # [B, estimate, source]
    for item, order in zip(scores, best_order(scores).tolist(), strict=True):
        sums = {p: sum(item[p[s], s] for s in range(num_spks)) for p in permutations(order)}
        assert max(sums, key=sums.get) == tuple(order)


def test_ten_voices_take_no_time():
    begin = perf_counter()
    order = best_order(torch.randn(2, 10, 10))
    assert order.sort(1).values.tolist() == 2 * [list(range(10))]
    assert perf_counter() - begin < 1


@pytest.mark.parametrize("num_spks", [2, 6])
def test_scores_that_are_not_finite_give_an_order(num_spks):
    order = best_order(torch.full((1, num_spks, num_spks), torch.nan))
    assert sorted(order[0].tolist()) == list(range(num_spks))
