"""The training loop's hooks: what happens to a batch, when a stage ends, and what is logged."""

import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from math import isfinite, isnan
from pathlib import Path

import pandas as pd
import speechbrain as sb
import torch
import yaml
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataloader import make_dataloader
from speechbrain.utils.autocast import AMPConfig
from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import if_main_process, run_on_main
from speechbrain.utils.logger import get_logger
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from sfsrnet_modules.common.precision import EMULATED, emulates_bfloat16
from sfsrnet_modules.common.preemption import Preemption
from sfsrnet_modules.evaluation.complexity import count_parameters, macs_per_second, peak_flops
from sfsrnet_modules.evaluation.scoring import Scoring, write_results
from sfsrnet_modules.inference.pretrained import mix_in_start
from sfsrnet_modules.training.checkpoints import RandomStates, preferred_weights
from sfsrnet_modules.training.distributed import (
    EpochBatches,
    gather_rows,
    gather_sums,
    on_any,
    on_any_so_far,
    rank,
    refuse_batch_norm,
    shard,
    unwrapped,
    world_size,
)
from sfsrnet_modules.training.ema import average_of
from sfsrnet_modules.training.item_scores import ItemScores
from sfsrnet_modules.training.loggers import wandb_logger
from sfsrnet_modules.training.meters import Figures, Throughput
from sfsrnet_modules.training.statistics import RunningStatistics
from sfsrnet_modules.training.step import in_one_shape

logger = get_logger(__name__)

READ_EVERY = 20  # steps: the host waits for the device to read the figures
FLOPS_PER_MAC = 6  # of a forward: 2, and twice as many to go back


@register_checkpoint_hooks
class Separation(sb.Brain):
    """Trains and tests an :class:`~sfsrnet_modules.models.sfsrnet.SFSRNet`.

    The loop itself is not overridden, and every parameter is reached through ``self.modules``:
    gradient accumulation, mixed precision, clipping and distributed training stay SpeechBrain's.

    Expected in ``modules``: ``model`` and ``loss``. In ``hparams``: ``sample_rate``, ``segment``,
    ``num_workers``, ``model``, ``loss``, ``output_folder``, ``number_of_epochs``, ``lr_scheduler``,
    ``epoch_counter``, ``train_logger`` and ``tensorboard_logger`` (a callable), ``lr_schedule``,
    ``linear_schedule``, ``ema``, ``start_from`` and ``start_share``. The training set has
    ``set_epoch``.

    Raises
    ------
    ValueError
        ``lr_schedule``, ``ema`` or ``start_share`` is none of its values, W&B is not installed, or
        several CPU processes would share a batch norm.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.hparams.lr_schedule not in ("plateau", "linear"):
            raise ValueError(
                f"lr_schedule is {self.hparams.lr_schedule!r}: choose plateau or linear"
            )
        if "bf16" in (self.precision, self.eval_precision) and emulates_bfloat16(self.device_type):
            logger.warning(EMULATED)
            self.precision = self.eval_precision = "fp32"
            self.training_ctx = self.evaluation_ctx = nullcontext()
        refuse_batch_norm(self.modules, self.device)
        self.preemption = Preemption()
        self.loggers = [self.hparams.train_logger]
        if getattr(self.hparams, "wandb", None) is not None and not self.test_only:
            self.loggers.append(wandb_logger(self.hparams.wandb, self.hparams.output_folder))
        self.recovered_sums: dict[str, float] = {}
        self.recovered_schedule: list | None = None  # options, not where they had brought the rate
        self.skipped_steps = 0
        self.leaving = False  # after the next checkpoint
        self.tensorboard = None
        self.checkpointer.add_recoverable("random_states", RandomStates(), optional_load=True)
        self.ema = None
        if self.hparams.ema is not None:
            self.ema = average_of(self.hparams.model, self.hparams.ema)
            self.checkpointer.add_recoverable("ema", self.ema, optional_load=True)
        self._check_start_share()

    def _check_start_share(self) -> None:
        share = self.hparams.start_share
        if (share and self.hparams.start_from is None) or not 0 <= share < 1:
            raise ValueError(
                f"start_share is {share}: give a share below 1 of the weights of start_from, which "
                f"is {self.hparams.start_from}, or 0"
            )

    def compute_forward(self, batch: PaddedBatch, stage: sb.Stage) -> Tensor | tuple:
        """Separate the mixtures [B, T] into estimates [E, B, T, C]; in training give their loss."""
        batch = batch.to(self.device, non_blocking=True)
        if stage == sb.Stage.TRAIN:
            inputs = batch.mixture.data, *batch.sources
            if self.compile:
                num_samples = round(self.hparams.segment * self.hparams.sample_rate)
                inputs = in_one_shape(self.batches.batch_size, num_samples, *inputs)
            return self.objective(*inputs)
        if on_any_so_far(self.preemption.requested):
            self._leave_if(True)  # training is saved when validation begins
        # not through DDP, which waits for all: processes have unequal numbers of items here
        return unwrapped(self.modules.model)(batch.mixture.data)

    def objective(
        self, mixture: Tensor, sources: Tensor, lengths: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Model and loss: what is compiled."""
        estimates = self.modules.model(mixture)  # [E, B, T, C]
        return self.modules.loss(estimates, sources, lengths, self._has_refined, mixture, weights)

    def compute_objectives(
        self, outputs: Tensor | tuple, batch: PaddedBatch, stage: sb.Stage
    ) -> Tensor:
        """Return the multi-loss; keep its terms, and in validation and test score the items."""
        if stage == sb.Stage.TRAIN:
            loss, terms = outputs
            weight = self.batches.weight(self.step)
            self.figures.add((batch.id, weight), {"loss": loss, **terms})
            return weight * loss
        mixture, has_refined = batch.mixture.data, self._has_refined
        loss, terms = self.modules.loss(outputs, *batch.sources, has_refined, mixture)
        self.figures.add((batch.id, 1), {"loss": loss, **terms})
        self.scores.add(batch, outputs, has_refined)
        if stage == sb.Stage.VALID and self.ema is not None:
            self.scores.add_average(batch, self.ema(mixture)[-1])
        return loss

    @property
    def _has_refined(self) -> bool:
        return self.hparams.model.super_resolution is not None

    # --- Beginning --------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Print the model's size and cost, then compile, wrap, make optimizers, recover."""
        model, sample_rate = self.modules.model, self.hparams.sample_rate
        try:
            macs = macs_per_second(model, sample_rate)
            self.macs_per_sample = macs_per_second(model, sample_rate, True) / sample_rate
        except (ArithmeticError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"the model can't separate a second of audio ({error}): check the sizes that the "
                "options give its layers"
            ) from error
        trained = sum(p.numel() for p in _trained(model.parameters()))
        logger.info(
            f"Model: {count_parameters(model) / 1e6:.2f} M parameters, "
            f"{trained / 1e6:.2f} M of them trained, "
            f"{macs / 1e9:.2f} G multiply-accumulates for a second of audio"
        )
        dtype = AMPConfig.from_name(self.precision).dtype
        self.peak_flops = peak_flops(self.device, dtype)
        self.tensorboard = self.hparams.tensorboard_logger()
        self.loggers.append(self.tensorboard)
        self.preemption.listen()
        super().on_fit_start()
        self.statistics = RunningStatistics(self.hparams.model)
        self._take_changed_rate()

    def _take_changed_rate(self) -> None:
        """Go on at the rate of the command, where a checkpoint was trained by another one."""
        now, before = self._schedule, self.recovered_schedule
        if before not in (None, now):
            logger.info("lr is {} ({}) from here on, it was {} ({})".format(*now, *before))
            sb.nnet.schedulers.update_learning_rate(self.optimizer, self.hparams.lr)

    @property
    def _schedule(self) -> list:
        return [self.hparams.lr, self.hparams.lr_schedule]

    def init_optimizers(self) -> None:
        """Make the optimizer of what is trained: frozen weights are not in it."""
        make = self.opt_class
        self.opt_class = lambda parameters: make(_trained(parameters))
        super().init_optimizers()

    def _compile(self) -> None:
        """Make one graph of model and loss, for the training batches' shape alone."""
        if self.compile:
            whole = not self.distributed_launch  # DDP cuts it where gradients are sent
            self.objective = torch.compile(
                self.objective, mode=self.compile_mode, fullgraph=whole, dynamic=False
            )

    def _wrap_distributed(self) -> None:
        """Wrap the modules without sending their buffers at every step: they are alike anyway.

        Nearly all are tables of positions, and batch norm's statistics are those of all processes.
        """
        super()._wrap_distributed()
        for module in self.modules.values():
            if isinstance(module, DistributedDataParallel):
                module.broadcast_buffers = False

    def on_evaluate_start(self, max_key: str | None = None, min_key: str | None = None) -> None:
        """Load the best checkpoint; refuse to test weights that were never trained."""
        best = self.checkpointer.find_checkpoint(max_key=max_key, min_key=min_key)
        if self.test_only and best is None:
            sys.exit(
                f"error: no checkpoint in {self.checkpointer.checkpoints_dir} to test: train first "
                "(the same command without --test_only) or give the --output_folder of a training"
            )
        super().on_evaluate_start(max_key=max_key, min_key=min_key)
        if best is not None and best.meta.get("weights") == "ema":
            logger.info("Validation preferred the averaged weights: they are tested and exported")
            self.hparams.model.load_state_dict(preferred_weights(best))
        if self.hparams.start_share and best is not None:
            mix_in_start(self.hparams.model, self.hparams.start_from, self.hparams.start_share)

    def make_dataloader(self, dataset, stage: sb.Stage, *args, **kwargs):
        """Share the items out among the processes; keep the training set, to tell it the epoch."""
        kwargs["worker_init_fn"] = self.preemption.ignore_signals
        if stage != sb.Stage.TRAIN:
            return super().make_dataloader(shard(dataset), stage, *args, **kwargs)
        self.train_data = dataset
        self.batches = EpochBatches(len(dataset), kwargs.pop("batch_size"), rank(), world_size())
        kwargs.setdefault("persistent_workers", kwargs.get("num_workers", 0) > 0)
        kwargs.setdefault("pin_memory", self.device_type == "cuda")  # transfers wait for nothing
        return make_dataloader(dataset, batch_sampler=self.batches, **kwargs)

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Clear what is collected during a stage, and tell dynamic mixing the epoch."""
        self.sums = Counter()  # of the loss and its terms over items
        self.figures = Figures()
        if self.ema is not None:
            self.ema.eval()
        sample_rate, num_workers = self.hparams.sample_rate, self.hparams.num_workers
        test = Scoring(sample_rate, num_workers) if stage == sb.Stage.TEST else None
        self.scores = ItemScores(sample_rate, test)
        if stage == sb.Stage.TRAIN:
            self.sums.update(self.recovered_sums)
            self.recovered_sums = {}
            self.train_data.set_epoch(epoch)
            # a line of its own under SpeechBrain's bar, whose text is fixed
            shown = if_main_process() and not self.noprogressbar
            self.decibels = tqdm(bar_format="{desc}", position=1, leave=False, disable=not shown)
            self.throughput = Throughput()

    # --- A step -----------------------------------------------------------------------------------

    def fit_batch(self, batch: PaddedBatch) -> Tensor:
        """SpeechBrain's step, at whose end the loss stays on the device: the host goes on."""
        factor = self.grad_accumulation_factor
        is_last = self.step == len(self.batches)  # what is accumulated then would be lost
        should_step = self._window % factor == 0 or is_last
        if self._window % factor == 1 % factor:
            self.statistics.keep()
        self.on_fit_batch_start(batch, should_step)
        with self.no_sync(not should_step):
            with self.training_ctx:
                outputs = self.compute_forward(batch, sb.Stage.TRAIN)
                loss = self.compute_objectives(outputs, batch, sb.Stage.TRAIN)
            scaled = self.scaler.scale(loss / factor)
            self.check_loss_isfinite(scaled)
            scaled.backward()
        if should_step:
            self.optimizers_step()
        self.on_fit_batch_end(batch, outputs, loss, should_step)
        return loss.detach()

    @property
    def _window(self) -> int:
        """Batches since the epoch began or was gone on with, maybe of another size."""
        return self.step - self.batches.steps_done

    def update_average(self, loss: Tensor, avg_loss: float) -> float:
        """Give the mean of what was read so far, for the progress bar."""
        return _means(self.sums)["loss"] if self.sums["items"] else avg_loss

    def on_fit_batch_start(self, batch: PaddedBatch, should_step: bool) -> None:
        """Set the rate of the step, and count the items."""
        self.throughput.takes(len(batch.id), batch.mixture.data.shape[1])
        epochs = self.hparams.epoch_counter.current - 1  # that are over
        position = epochs + (self.step - 0.5) / len(self.batches)  # the step's middle
        if hasattr(self.hparams.loss, "progress"):
            self.hparams.loss.progress.fill_(position / self.hparams.number_of_epochs)
        if self.hparams.lr_schedule == "linear":
            self.hparams.linear_schedule(self.optimizer, position)

    def check_loss_isfinite(self, loss: Tensor) -> None:
        """Leave a loss that is not finite to the optimizer, which skips the step.

        All processes skip it, for the same reason: none may stop for itself. Its items are named
        when the figures are read.
        """
        if not self.skip_nonfinite_grads:
            super().check_loss_isfinite(loss)

    def optimizers_step(self) -> None:
        """Clip the gradients and step, on the device: nothing is asked before it goes on.

        A step whose gradients are not finite is skipped, on every process, as gradients are the
        same on all of them by now.
        """
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        limit = self.max_grad_norm if self.max_grad_norm > 0 else float("inf")  # as SpeechBrain's
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        self.figures.add(self.optimizer_step + 1, {"grad_norm": norm})
        finite = norm.isfinite()
        self.statistics.put_back_unless(finite)
        if self.skip_nonfinite_grads and not self.scaler.is_enabled():
            self._step_if(finite)
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer_step += 1

    def _step_if(self, finite: Tensor) -> None:
        if self.optimizer.param_groups[0].get("fused"):
            # what it asks the device for, whatever scales its gradients
            self.optimizer.found_inf = (~finite).float()
            self.optimizer.step()
        elif finite:  # asked by the host
            self.optimizer.step()

    def on_fit_batch_end(
        self, batch: PaddedBatch, outputs: tuple, loss: Tensor, should_step: bool
    ) -> None:
        """Average the weights; now and then show the terms' means in dB under the progress bar."""
        if should_step and self.ema is not None:
            self.ema.update_parameters(self.hparams.model)
        if self.step % READ_EVERY == 0:
            self._read_figures()
            terms = {n: v for n, v in _means(self.sums).items() if n not in ("loss", "grad_norm")}
            means = "  ".join(f"{name} {value:.1f}" for name, value in terms.items())
            self.decibels.set_description_str(f"SI-SNR in dB: {means}", refresh=False)
            self.decibels.update()

    def _read_figures(self) -> None:
        """Add up what the steps left on the device; name what was not finite."""
        for about, figures in self.figures.read():
            if "grad_norm" in figures:
                self._count_step(about, figures["grad_norm"])
                continue
            ids, weight = about
            if not isfinite(figures["loss"]):
                logger.warning(f"The loss is {figures['loss']} on {', '.join(ids)}.")
            elif weight > 0:
                self.sums.update({name: len(ids) * value for name, value in figures.items()})
                self.sums["items"] += len(ids)

    def _count_step(self, step: int, norm: float) -> None:
        if isfinite(norm):
            self.sums.update({"grad_norm": norm, "steps": 1})
            return
        self.skipped_steps += 1
        self.nonfinite_count += 1
        logger.warning(
            f"A gradient is not finite: step {step} skipped, "
            f"{self.skipped_steps} in all; training goes on."
        )
        if self.nonfinite_count > self.nonfinite_patience:
            sys.exit(
                f"error: {self.nonfinite_count} steps of this epoch were skipped, more than "
                f"nonfinite_patience: lower lr, or look at the items named in log.txt"
            )

    # --- Stopping in the middle -------------------------------------------------------------------

    def _should_save_intra_epoch_ckpt(self, *since) -> bool:
        """After a step, by time; or as any process was told to stop: then all save, and leave."""
        self.throughput.waits()
        if self._window % self.grad_accumulation_factor:
            return False  # what is accumulated would be lost
        self.leaving = on_any(self.preemption.requested, self.device)
        return self.leaving or super()._should_save_intra_epoch_ckpt(*since)

    def _save_intra_epoch_ckpt(self) -> None:
        super()._save_intra_epoch_ckpt()
        if self.leaving:
            self.preemption.leave()
        self.throughput.waits()

    def _leave_if(self, told: bool) -> None:
        """Leave with all processes, each of which asks once in a validation or test."""
        if on_any(told, self.device):
            self.preemption.leave()

    def gather(self) -> None:
        """Before a checkpoint: put together what processes know each for itself."""
        self._read_figures()
        self.gathered_sums = gather_sums(self.sums)

    @mark_as_saver
    def _save(self, path: Path) -> None:
        """Write where the training stands, the position in the epoch counted in items."""
        state = {
            "step": self.step,
            "avg_train_loss": self.avg_train_loss,
            "optimizer_step": self.optimizer_step,
            "schedule": self._schedule,
            "items": self.batches.items_before(self.step),
            "sums": self.gathered_sums,
            "skipped_steps": self.skipped_steps,
            "tensorboard": self.tensorboard.global_step,
        }
        path.write_text(yaml.dump(state, sort_keys=False), encoding="utf-8")

    @mark_as_loader
    def _recover(self, path: Path, end_of_epoch: bool) -> None:
        """Go on from there, on whatever number of processes."""
        super()._recover(path, end_of_epoch)
        state = yaml.safe_load(path.read_text(encoding="utf-8"))
        if self.tensorboard is not None:
            self.skipped_steps = state.get("skipped_steps", 0)
            self.recovered_schedule = state.get("schedule")
            self.tensorboard.global_step = state.get("tensorboard", self.tensorboard.global_step)
        if not end_of_epoch:
            self.batches.start = state["items"]
            self.step = self.batches.steps_done
            self.recovered_sums = state["sums"] if rank() == 0 else {}

    # --- End --------------------------------------------------------------------------------------

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Log the stage; save after validation, write ``test_results.csv`` after the test."""
        if stage != sb.Stage.TRAIN:
            self._leave_if(self.preemption.requested)
        self._read_figures()
        stats = _means(gather_sums(self.sums))
        if stage == sb.Stage.TRAIN:
            self.decibels.close()
            self.train_stats = {**stats, "skipped_steps": self.skipped_steps, **self._speed()}
            super()._save_intra_epoch_ckpt()  # validation can be stopped at any moment
            self.batches.start = 0
            return
        scores = pd.DataFrame(gather_rows(self.scores.rows())).set_index("id")
        stats |= scores.drop(columns="duration").mean().to_dict()
        if stage == sb.Stage.VALID:
            self._end_epoch(stats, epoch)
        else:
            run_on_main(self._write_test_results, args=[scores])
            self.hparams.train_logger.log_stats(
                {"epoch loaded": self.hparams.epoch_counter.current}, test_stats=stats
            )

    def _speed(self) -> dict[str, float]:
        """How fast all processes were together, and the share of time that they waited for data."""
        total = gather_sums(self.throughput.speed())
        samples = total.pop("samples_per_second")
        flops = FLOPS_PER_MAC * self.macs_per_sample * samples
        return total | {
            "data_wait": total["data_wait"] / world_size(),
            "tflop_per_second": flops / 1e12,
            "share_of_peak": flops / (self.peak_flops * world_size()),
        }

    def _end_epoch(self, stats: dict[str, float], epoch: int) -> None:
        lr = self.optimizer.param_groups[0]["lr"]
        if self.hparams.lr_schedule == "plateau":
            _, next_lr = self.hparams.lr_scheduler([self.optimizer], epoch, stats["loss"])
            sb.nnet.schedulers.update_learning_rate(self.optimizer, next_lr)
        for train_logger in self.loggers:
            train_logger.log_stats({"epoch": epoch, "lr": lr}, self.train_stats, stats)
        quality = _quality(stats)
        if hasattr(self.hparams.epoch_counter, "update_metric"):  # it stops when patience ends
            self.hparams.epoch_counter.update_metric(quality["si_snr_i"])
        self.checkpointer.save_and_keep_only(meta=quality, max_keys=["si_snr_i"])

    def _write_test_results(self, scores: pd.DataFrame) -> None:
        path = Path(self.hparams.output_folder, "test_results.csv")
        write_results(scores, path)
        hours = scores["duration"].sum() / 3600
        logger.info(
            f"Test: SI-SNRi {scores['si_snr_i'].mean():.2f} dB, "
            f"SDRi {scores['sdr_i'].mean():.2f} dB on {len(scores)} mixtures ({hours:.2f} h); "
            f"each of them in {path}"
        )


def _trained(parameters: Iterable) -> list:
    """Leave frozen parameters out; groups, as SpeechBrain makes them on request, have none."""
    return [p for p in parameters if isinstance(p, dict) or p.requires_grad]


def _means(sums: dict[str, float]) -> dict[str, float]:
    """Divide sums over items, and those over steps, by their numbers."""
    counts = {"grad_norm": sums.get("steps", 0)}
    means = {"loss": float("nan")} | {
        name: total / counts.get(name, sums.get("items", 0))
        for name, total in sums.items()
        if name not in ("items", "steps")
    }
    return means


def _quality(stats: dict[str, float]) -> dict[str, float | str]:
    """By what a checkpoint is chosen: the better of its two sets of weights in validation."""
    scores = {"model": stats["si_snr_i"], "ema": stats.get("si_snr_i_ema", float("-inf"))}
    scores = {name: float("-inf") if isnan(value) else value for name, value in scores.items()}
    better = max(scores, key=scores.get)
    return {"si_snr_i": scores[better], "weights": better}
