"""The training loop's hooks: what happens to a batch, when a stage ends, and what is logged."""

import sys
from collections import Counter
from pathlib import Path
from time import perf_counter

import pandas as pd
import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.utils.distributed import ddp_barrier, if_main_process, run_on_main
from speechbrain.utils.logger import get_logger
from torch import Tensor
from tqdm import tqdm

from sfsrnet_modules.complexity import count_parameters, macs_per_second
from sfsrnet_modules.ema import average_of, take_average
from sfsrnet_modules.metrics import score, si_snr_i

logger = get_logger(__name__)


class Separation(sb.Brain):
    """Trains and tests an :class:`~sfsrnet_modules.sfsrnet.SFSRNet`.

    Only hooks of ``Brain`` are overridden, and every parameter is reached through ``self.modules``:
    gradient accumulation, mixed precision, clipping and distributed training stay SpeechBrain's.

    Expected in ``modules``: ``model`` and ``loss``. In ``hparams``: ``sample_rate``,
    ``model``, ``output_folder``, ``lr_scheduler``, ``epoch_counter``, ``train_logger`` and
    ``tensorboard_logger`` (a callable), ``lr_schedule``, ``linear_schedule`` and ``ema``. The
    training set has ``set_epoch``.

    Raises
    ------
    ValueError
        ``lr_schedule`` or ``ema`` is none of its values.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.hparams.lr_schedule not in ("plateau", "linear"):
            raise ValueError(
                f"lr_schedule is {self.hparams.lr_schedule!r}: choose plateau or linear"
            )
        self.ema = None
        if self.hparams.ema is not None:
            self.ema = average_of(self.hparams.model, self.hparams.ema)
            self.checkpointer.add_recoverable("ema", self.ema, optional_load=True)

    def compute_forward(self, batch: PaddedBatch, stage: sb.Stage) -> Tensor:
        """Separate the batch's mixtures [B, T] into estimates [E, B, T, C]."""
        mixture, _ = batch.to(self.device).mixture
        return self.modules.model(mixture)

    def compute_objectives(self, estimates: Tensor, batch: PaddedBatch, stage: sb.Stage) -> Tensor:
        """Return the multi-loss; keep its terms, and in validation and test the items' scores."""
        sources, lengths = batch.sources
        loss, terms = self.modules.loss(estimates, sources, lengths, self._has_refined)
        if loss.isfinite():
            self.num_batches += 1
            self.sums.update({name: value.item() for name, value in terms.items()})
        if stage != sb.Stage.TRAIN:
            self._score_items(estimates, batch, stage)
        if stage == sb.Stage.VALID and self.ema is not None:
            self._score_average(batch)
        return loss

    @property
    def _has_refined(self) -> bool:
        return self.hparams.model.super_resolution is not None

    def _score_items(self, estimates: Tensor, batch: PaddedBatch, stage: sb.Stage) -> None:
        mixtures, lengths = batch.mixture
        num_samples = (lengths * mixtures.shape[1]).round().int().tolist()
        for i, (id_, length) in enumerate(zip(batch.id, num_samples, strict=True)):
            mixture, sources = mixtures[i, :length].cpu(), batch.sources.data[i, :length].cpu()
            before_sr, answer = (
                e[i, :length].float().cpu() for e in (estimates[-2:][0], estimates[-1])
            )
            row = {"id": id_, "duration": length / self.hparams.sample_rate}
            if stage == sb.Stage.TEST:
                row |= score(mixture, sources, answer)
            else:
                row["si_snr_i"] = si_snr_i(mixture, sources, answer)
            if self._has_refined:
                row["si_snr_i_before_sr"] = si_snr_i(mixture, sources, before_sr)
            self.rows.append(row)

    def _score_average(self, batch: PaddedBatch) -> None:
        """Add the averaged weights' score to the rows of a batch, the last ones so far."""
        mixtures, lengths = batch.mixture
        answers = self.ema(mixtures)[-1]  # [B, T, C]
        num_samples = (lengths * mixtures.shape[1]).round().int().tolist()
        for i, length in enumerate(num_samples):
            mixture, sources, answer = (
                x[i, :length].float().cpu() for x in (mixtures, batch.sources.data, answers)
            )
            self.rows[i - len(batch.id)]["si_snr_i_ema"] = si_snr_i(mixture, sources, answer)

    # --- Beginning ------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Print the model's size and cost, then compile, wrap, make optimizers, recover."""
        model = self.modules.model
        macs = macs_per_second(model, self.hparams.sample_rate)
        logger.info(
            f"Model: {count_parameters(model) / 1e6:.2f} M parameters, "
            f"{macs / 1e9:.2f} G multiply-accumulates for a second of audio"
        )
        super().on_fit_start()
        self.skipped_steps = 0
        self.tensorboard = self.hparams.tensorboard_logger()

    def on_evaluate_start(self, max_key: str | None = None, min_key: str | None = None) -> None:
        """Load the best checkpoint; refuse to test weights that were never trained."""
        if self.test_only and self.checkpointer.find_checkpoint() is None:
            sys.exit(
                f"error: no checkpoint in {self.checkpointer.checkpoints_dir} to test: train first "
                "(the same command without --test_only) or give the --output_folder of a training"
            )
        super().on_evaluate_start(max_key=max_key, min_key=min_key)
        best = self.checkpointer.find_checkpoint(max_key=max_key, min_key=min_key)
        if self.ema is not None and best is not None and best.meta.get("weights") == "ema":
            logger.info("Validation preferred the averaged weights: they are tested and exported")
            take_average(self.hparams.model, self.ema)

    def make_dataloader(self, dataset, stage: sb.Stage, *args, **kwargs):
        """Make the loader as SpeechBrain does; keep the training set, which is told the epoch."""
        if stage == sb.Stage.TRAIN:
            self.train_data = dataset
        loader = super().make_dataloader(dataset, stage, *args, **kwargs)
        if stage == sb.Stage.TRAIN:
            self.steps_per_epoch = len(loader)
        return loader

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Clear what is collected during a stage, and tell dynamic mixing the epoch."""
        self.sums, self.num_batches = Counter(), 0  # of the loss's terms
        self.rows: list[dict] = []  # scores of the items
        if self.ema is not None:
            self.ema.eval()
        if stage == sb.Stage.TRAIN:
            self.train_data.set_epoch(epoch)
            # a line of its own under SpeechBrain's bar, whose text is fixed
            shown = if_main_process() and not self.noprogressbar
            self.decibels = tqdm(bar_format="{desc}", position=1, leave=False, disable=not shown)
            self.num_items, self.waited = 0, 0.0  # s, for the loader
            self.started = self.last_end = perf_counter()

    # --- A step -----------------------------------------------------------------------------------

    def on_fit_batch_start(self, batch: PaddedBatch, should_step: bool) -> None:
        """Remember the items, so that a message can name them; count the time spent waiting."""
        if self.hparams.lr_schedule == "linear":
            epochs = self.hparams.epoch_counter.current - 1  # that are over
            position = epochs + (self.step - 0.5) / self.steps_per_epoch  # the step's middle
            self.hparams.linear_schedule(self.optimizer, position)
        self.batch_ids = batch.id
        self.num_items += len(batch.id)
        self.waited += perf_counter() - self.last_end

    def check_loss_isfinite(self, loss: Tensor) -> None:
        """Name the items whose loss is not finite; SpeechBrain then counts against the patience."""
        if not loss.isfinite():
            logger.warning(f"The loss is {loss.item()} on {', '.join(self.batch_ids)}.")
        super().check_loss_isfinite(loss)

    def check_gradients(self) -> None:
        """Skip the step, and count it, where any gradient is not finite.

        Gradients are the same on every process by now, so all of them skip together.
        """
        gradients = [p.grad for p in self.modules.parameters() if p.grad is not None]
        if not torch.nn.utils.get_total_norm(gradients).isfinite():
            self.zero_grad(set_to_none=True)  # optimizers pass over parameters without a gradient
            self.skipped_steps += 1
            logger.warning(
                f"A gradient is not finite: step {self.optimizer_step + 1} skipped, "
                f"{self.skipped_steps} in all; training goes on."
            )

    def on_fit_batch_end(
        self, batch: PaddedBatch, outputs: Tensor, loss: Tensor, should_step: bool
    ) -> None:
        """Average the weights; show the terms' running means in dB under the progress bar."""
        if should_step and self.ema is not None:
            self.ema.update_parameters(self.hparams.model)
        means = "  ".join(f"{name} {value:.1f}" for name, value in self._mean_terms().items())
        self.decibels.set_description_str(f"SI-SNR in dB: {means}", refresh=False)
        self.decibels.update()  # draws no more often than tqdm's interval
        self.last_end = perf_counter()

    def _mean_terms(self) -> dict[str, float]:
        return {name: total / self.num_batches for name, total in self.sums.items()}

    # --- End --------------------------------------------------------------------------------------

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Log the stage; save after validation, write ``test_results.csv`` after the test."""
        stats = {"loss": stage_loss, **self._mean_terms()}
        if stage == sb.Stage.TRAIN:
            self.decibels.close()
            self.train_stats = {**stats, "skipped_steps": self.skipped_steps, **self._speed()}
            return
        scores = pd.DataFrame(self.rows).set_index("id")
        stats |= scores.drop(columns="duration").mean().to_dict()
        if stage == sb.Stage.VALID:
            self._end_epoch(stats, epoch)
        else:
            run_on_main(self._write_test_results, args=[scores])
            self.hparams.train_logger.log_stats(
                {"epoch loaded": self.hparams.epoch_counter.current}, test_stats=stats
            )

    def _speed(self) -> dict[str, float]:
        """Items a second of this process, and the share of the time it waited for the loader."""
        seconds = perf_counter() - self.started
        return {"items_per_second": self.num_items / seconds, "data_wait": self.waited / seconds}

    def _end_epoch(self, stats: dict[str, float], epoch: int) -> None:
        lr = self.optimizer.param_groups[0]["lr"]
        if self.hparams.lr_schedule == "plateau":
            _, next_lr = self.hparams.lr_scheduler([self.optimizer], epoch, stats["loss"])
            sb.nnet.schedulers.update_learning_rate(self.optimizer, next_lr)
        for train_logger in (self.hparams.train_logger, self.tensorboard):
            train_logger.log_stats({"epoch": epoch, "lr": lr}, self.train_stats, stats)
        self.checkpointer.save_and_keep_only(meta=_quality(stats), max_keys=["si_snr_i"])
        ddp_barrier()  # no process may load a checkpoint that the main one is still writing

    def _write_test_results(self, scores: pd.DataFrame) -> None:
        path = Path(self.hparams.output_folder, "test_results.csv")
        partial = path.with_suffix(".partial")
        scores.to_csv(partial, float_format="%.3f")
        partial.replace(path)
        hours = scores["duration"].sum() / 3600
        logger.info(
            f"Test: SI-SNRi {scores['si_snr_i'].mean():.2f} dB, "
            f"SDRi {scores['sdr_i'].mean():.2f} dB on {len(scores)} mixtures ({hours:.2f} h) of "
            f"speakers that training never heard; each of them in {path}"
        )


def _quality(stats: dict[str, float]) -> dict[str, float | str]:
    """By what a checkpoint is chosen: the better of its two sets of weights in validation."""
    scores = {"model": stats["si_snr_i"], "ema": stats.get("si_snr_i_ema", float("-inf"))}
    better = max(scores, key=scores.get)
    return {"si_snr_i": scores[better], "weights": better}
