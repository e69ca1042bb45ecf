import numpy as np
import torch

from benchmarks.voices import voice
from conftest import tiny_sfsrnet
from sfsrnet_modules.common.si_snr import pit_si_snr
from sfsrnet_modules.training.losses import MultiLoss


def test_one_batch_can_be_learnt_by_heart():
    rng = np.random.default_rng(0)
    pairs = [[voice(pitch, 0.5, rng) for pitch in pitches] for pitches in ((100, 170), (130, 210))]
    sources = torch.tensor(np.array(pairs)).float().mT  # [B, T, C]
    model, loss = tiny_sfsrnet(), MultiLoss([4000, 8000], 8000)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        total, _ = loss(model(sources.sum(2)), sources, has_refined=True)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert pit_si_snr(model.eval()(sources.sum(2))[-1], sources).min() > 10  # dB
