"""A training step does not wait for the device, skips what is not finite, and is one graph."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import speechbrain as sb
import torch
import torch.nn.functional as F
from speechbrain.dataio.batch import PaddedBatch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import ROOT, tiny_sfsrnet
from sfsrnet_modules.common.hparams import load_hparams
from sfsrnet_modules.training import brain as brain_module
from sfsrnet_modules.training.brain import Separation
from sfsrnet_modules.training.losses import MultiLoss
from sfsrnet_modules.training.step import in_one_shape

TINY = "--filters 8 --width 8 --blocks 1 --heads 2 --ffn 16 --chunk 20 --sr_channels [4,4,4]"


class Transfers(TorchFunctionMode):
    """Counts where the host asks the device for values, as operations of the loop or within."""

    READS = ("cpu", "item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__")

    def __init__(self):
        super().__init__()
        self.within = _Scalars()
        self.by_name = Counter()

    @property
    def count(self) -> int:
        return max(self.within.count, self.by_name.total())

    def __enter__(self):
        self.within.__enter__()
        return super().__enter__()

    def __exit__(self, *exception):
        super().__exit__(*exception)
        self.within.__exit__(*exception)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        self.by_name[name] += name in self.READS
        return function(*args, **(kwargs or {}))


class _Scalars(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.fixture
def make_brain(tmp_path) -> Callable[..., Separation]:
    def make(*options: str, **run_opts) -> Separation:
        arguments = [str(ROOT / "hparams/small.yaml"), *TINY.split(), "--rates", "[8000]"]
        arguments += ["--data_folder", "none", "--output_folder", str(tmp_path), *options]
        _, _, _, hparams = load_hparams(arguments)
        parts = {name: hparams[name] for name in ("modules", "opt_class", "checkpointer")}
        brain = Separation(**parts, hparams=hparams, run_opts={"device": "cpu"} | run_opts)
        brain.train_data = SimpleNamespace(set_epoch=lambda epoch: None)
        brain.batches = brain_module.EpochBatches(100, 2)
        brain.on_fit_start()
        brain.preemption = SimpleNamespace(requested=False)
        brain.noprogressbar = True
        brain.on_stage_start(sb.Stage.TRAIN, 1)
        brain.nonfinite_count = 0
        return brain

    return make


@pytest.fixture
def brain(make_brain) -> Separation:
    return make_brain()


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


def test_the_loop_reads_once_an_interval(brain, monkeypatch):
    monkeypatch.setattr(brain_module, "READ_EVERY", 4)
    step(brain, batch())
    monkeypatch.setattr(brain, "on_stage_end", lambda *_: None)
    brain.step = 0
    with Transfers() as transfers:
        brain._fit_train([batch() for _ in range(9)], 1, enable=False)
    assert transfers.count == 2
    assert brain.sums["items"] == 16


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


def test_another_schedule_begins_at_its_rate(make_brain, tmp_path):
    before = make_brain("--lr_schedule", "linear")
    before.gather()
    before._save(tmp_path / "brain.ckpt")
    for schedule, expected in (("linear", 1e-9), ("plateau", 0.002)):
        brain = make_brain("--lr_schedule", schedule, "--lr", "0.002")
        brain.optimizer.param_groups[0]["lr"] = 1e-9  # where the slope had come to
        brain._recover(tmp_path / "brain.ckpt", end_of_epoch=True)
        brain._take_changed_rate()
        assert brain.optimizer.param_groups[0]["lr"] == expected


def test_batches_are_accumulated_from_where_an_epoch_is_gone_on_with(make_brain):
    norm = "--sr_norm", "bn", "--sr_target", "magnitude"
    brain = make_brain(*norm, grad_accumulation_factor=4)
    brain.batches.start = 5  # two batches were done, and one item of another size
    brain.step = brain.batches.steps_done
    for done in range(1, 9):
        step(brain, batch())
        assert brain.optimizer_step == done // 4


def test_the_average_is_tested_where_validation_preferred_it(make_brain):
    brain = make_brain("--ema", "0.9")
    torch.nn.init.ones_(brain.ema.module.separator.encoder.conv1d.weight)
    brain.gather()
    brain.checkpointer.save_checkpoint(meta={"si_snr_i": 1.0, "weights": "ema"})
    brain = make_brain("--ema", "null")
    brain.on_evaluate_start(max_key="si_snr_i")
    assert (brain.hparams.model.separator.encoder.conv1d.weight == 1).all()


def test_model_and_loss_are_one_graph_for_short_batches_too():
    model, loss = tiny_sfsrnet(head="gated"), MultiLoss([4000, 8000], 8000)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    def objective(mixture, sources, lengths, weights=None):
        return loss(model(mixture), sources, lengths, True, mixture, weights)[0]

    compiled = torch.compile(objective, backend=backend, fullgraph=True, dynamic=False)
    sources = 0.1 * torch.randn(3, 800, 2)
    for num_items in (3, 2):
        inputs = sources[:num_items].sum(2), sources[:num_items], torch.ones(num_items)
        filled = in_one_shape(3, 800, *inputs)
        assert torch.allclose(compiled(*filled), objective(*inputs), atol=1e-3)
    shorter = sources[:, :600].sum(2), sources[:, :600], torch.tensor([1.0, 0.9, 0.5])
    as_long = F.pad(shorter[0], (0, 200)), F.pad(shorter[1], (0, 0, 0, 200)), 0.75 * shorter[2]
    filled = in_one_shape(3, 800, *shorter)
    assert torch.allclose(compiled(*filled), objective(*as_long), atol=1e-3)
    assert len(graphs) == 1


@pytest.fixture
def process_group(monkeypatch):
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield {"distributed_launch": True, "distributed_backend": "gloo"}
    torch.distributed.destroy_process_group()


def test_a_compiled_step_is_the_same(make_brain, monkeypatch):
    compared(partial(make_brain, "--checkpointing", "True"), monkeypatch)


def test_a_compiled_step_is_the_same_in_a_group(make_brain, process_group, monkeypatch):
    compared(partial(make_brain, **process_group), monkeypatch)


def compared(make: Callable[..., Separation], monkeypatch) -> None:
    """Step with and without compiling, the second time on a short batch; compare the weights."""
    # the graphs of both ways, run without the compiler of each machine
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    sources = 0.1 * torch.randn(3, 1000, 2)
    weights = []
    for compile_it in (False, True):
        brain = make("--segment", "0.125", compile=compile_it)
        brain.batches = brain_module.EpochBatches(3, 2)
        for items in (sources[:2], sources[2:]):
            step(brain, PaddedBatch([{"id": "", "mixture": s.sum(1), "sources": s} for s in items]))
        weights.append(torch.cat([p.detach().flatten() for p in brain.modules.parameters()]))
    one, two = weights
    assert (one - two).abs().mean() < 1e-4 and one.isfinite().all()
