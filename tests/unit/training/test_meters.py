from time import sleep

import pytest
import torch

from sfsrnet_modules.training.meters import Figures, Throughput


def test_figures_are_those_of_their_time():
    figures, loss = Figures(), torch.tensor(1.0)
    figures.add("a", {"loss": loss, "sr": loss + 1})
    loss.fill_(torch.nan)  # as a CUDA graph writes the next step's over it
    figures.add("b", {"loss": loss})
    (first, values), (second, later) = figures.read()
    assert (first, values, second) == ("a", {"loss": 1.0, "sr": 2.0}, "b")
    assert later["loss"] != later["loss"]
    assert figures.read() == []


def test_the_loaders_time_is_the_loaders_alone():
    throughput = Throughput()
    for _ in range(2):
        throughput.waits()
        sleep(0.02)  # the loader
        throughput.takes(3, 100)
        sleep(0.06)  # a step
    speed = throughput.speed()
    assert 0.15 < speed["data_wait"] < 0.4
    assert speed["samples_per_second"] == pytest.approx(100 * speed["items_per_second"])
    assert 6 / 1.0 < speed["items_per_second"] < 6 / 0.16
