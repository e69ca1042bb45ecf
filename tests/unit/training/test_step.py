"""A training step does not wait for the device, skips what is not finite, and is one graph."""

from types import SimpleNamespace

import pytest
import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import ROOT, tiny_sfsrnet
from sfsrnet_modules.common.hparams import load_hparams
from sfsrnet_modules.training import brain as brain_module
from sfsrnet_modules.training.brain import Separation
from sfsrnet_modules.training.losses import MultiLoss

TINY = "--filters 8 --width 8 --blocks 2 --heads 2 --ffn 16 --chunk 20 --sr_channels [4,4,4]"


class Transfers(TorchDispatchMode):
    """Counts where the host asks the device for a value."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.fixture
def brain(tmp_path) -> Separation:
    arguments = [str(ROOT / "hparams/small.yaml"), *TINY.split(), "--rates", "[4000, 8000]"]
    arguments += ["--data_folder", "none", "--output_folder", str(tmp_path)]
    _, _, _, hparams = load_hparams(arguments)
    names = ("modules", "opt_class", "checkpointer")
    brain = Separation(
        **{n: hparams[n] for n in names}, hparams=hparams, run_opts={"device": "cpu"}
    )
    brain.train_data = SimpleNamespace(set_epoch=lambda epoch: None)
    brain.batches = brain_module.EpochBatches(100, 2)
    brain.on_fit_start()
    brain.preemption = SimpleNamespace(requested=False)
    brain.noprogressbar = True
    brain.on_stage_start(sb.Stage.TRAIN, 1)
    brain.nonfinite_count = 0
    return brain


def batch(value: float = 0.0) -> PaddedBatch:
    sources = 0.1 * torch.randn(2, 2000, 2)
    sources[1, 7] += value
    items = zip("ab", sources, strict=True)
    return PaddedBatch([{"id": i, "mixture": s.sum(1), "sources": s} for i, s in items])


def step(brain: Separation, a_batch: PaddedBatch) -> None:
    brain.step += 1
    brain.fit_batch(a_batch)


def test_a_step_asks_the_device_for_nothing(brain):
    step(brain, batch())
    with Transfers() as transfers:
        step(brain, batch())
        step(brain, batch())
    assert transfers.count == 0
    brain._read_figures()
    assert brain.sums["items"] == 6 and brain.sums["steps"] == 3


def test_a_step_that_is_not_finite_changes_nothing_and_is_named(brain, caplog):
    step(brain, batch())
    before = [p.detach().clone() for p in brain.modules.parameters()]
    step(brain, batch(torch.nan))
    assert all(map(torch.equal, before, brain.modules.parameters()))
    step(brain, batch())
    assert not all(map(torch.equal, before, brain.modules.parameters()))
    with caplog.at_level("WARNING"):
        brain._read_figures()
    assert "The loss is nan on a, b" in caplog.text and "step 2 skipped, 1 in all" in caplog.text
    assert brain.sums["items"] == 4 and brain.sums["steps"] == 2


@pytest.mark.parametrize("opt_class", [torch.optim.Adam, torch.optim.SGD])
def test_optimizers_that_are_not_fused_skip_it_too(brain, opt_class):
    brain.optimizer = opt_class(brain.modules.parameters(), lr=0.01)
    step(brain, batch())
    before = [p.detach().clone() for p in brain.modules.parameters()]
    step(brain, batch(torch.nan))
    assert all(map(torch.equal, before, brain.modules.parameters()))


def test_too_many_such_steps_end_the_run(brain):
    brain.nonfinite_patience = 1
    for _ in range(2):
        step(brain, batch(torch.nan))
    with pytest.raises(SystemExit, match="2 steps of this epoch were skipped"):
        brain._read_figures()


def test_model_and_loss_are_one_graph():
    model, loss = tiny_sfsrnet(head="gated"), MultiLoss([4000, 8000], 8000)

    def objective(mixture, sources, lengths):
        return loss(model(mixture), sources, lengths, True, mixture)[0]

    compiled = torch.compile(objective, backend="eager", fullgraph=True, dynamic=False)
    sources = 0.1 * torch.randn(2, 800, 2)
    inputs = sources.sum(2), sources, torch.ones(2)
    assert torch.allclose(compiled(*inputs), objective(*inputs), atol=1e-3)
