from time import sleep

import torch

from benchmarks.step import peak_flops
from sfsrnet_modules.training.meters import Figures, LoaderClock


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
    clock = LoaderClock()
    for _ in range(2):
        clock.waits()
        sleep(0.02)  # the loader
        clock.takes(3)
        sleep(0.06)  # a step
    speed = clock.speed()
    assert 0.15 < speed["data_wait"] < 0.4 and clock.num_items == 6


def test_peak_rate_is_that_of_a_processor():
    assert 1e8 < peak_flops("cpu", torch.float32) < 1e14
