"""The contract of a task.

A task takes plain values only, so that its checkpoints reload, and fills in these hooks:

    configure_losses()    set up what `losses` needs
    configure_metrics()   set up what `evaluate` needs
    check_data(data)      raise if it cannot be used with these data
    prepare()             look for what training needs beside the data, before anything is written
    losses(batch)         named loss terms, weighted by `weights` into the objective
    render(image)         the finished output for an image, in [-1, 1]
    evaluate(stage, batch), figures(stage)      update metrics; return them by name at the end
    image_figures(stage)                        the figures of each image, before `figures`
    pictures(image)       what a sample sheet shows of an image
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanMetric

from nibkit.checkpoint import FORMAT, task_name, use_average
from nibkit.draws import drawn_for
from nibkit.errors import UserError
from nibkit.metrics.sets import MetricSets, Values
from nibkit.optimizers import make_optimizer
from nibkit.registry import build_backbone
from nibkit.schedules import check_schedule, make_schedule

Batch = Mapping[str, Any]


class Task(pl.LightningModule):
    """Base of all tasks.

    Args:
        backbone: ``name`` and arguments of a registered backbone.
        nib: the config group ``nib``.
        optimizer: ``_target_`` and arguments of a torch optimizer.
        schedule: arguments of :func:`nibkit.schedules.make_schedule`.
        channels_last: keep weights and features in the memory layout that convolutions like best.
    """

    objective = "val/objective"  # lower is better; decides which checkpoint is the best
    makes_halftones = True  # the report judges classical halftoning beside it

    def __init__(
        self,
        backbone: Mapping[str, Any],
        nib: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        schedule: Mapping[str, Any],
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()  # the subclass's arguments too
        check_schedule(self.hparams["schedule"])
        self.backbone = build_backbone(backbone, nib)
        if self.hparams["channels_last"]:
            self.backbone = self.backbone.to(memory_format=torch.channels_last)
        self.weights: dict[str, float] = {}
        self.last_terms: dict[str, Tensor] = {}  # of the loss that was computed last
        self.configure_losses()
        if not self.weights:
            raise UserError("all weights of the losses are 0; give one of task.*_weight a value above 0")
        self.metrics: dict[str, MetricSets] = {}  # by stage; not submodules: no metric state in checkpoints
        self.term_means: dict[str, MeanMetric] = {}  # of the loss terms at validation; likewise
        self.configure_metrics()
        self._make_optimizer()  # a wrong one is told before training

    def configure_losses(self) -> None:
        """Set up the loss terms."""

    def configure_metrics(self) -> None:
        """Set up the metrics."""

    def check_data(self, data: Any) -> None:
        """Raise if the network takes other images than the data module gives; called before anything is written."""
        wanted = getattr(self.backbone, "in_channels", data.channels)
        if hasattr(data, "num_classes"):
            raise UserError(
                "these data are photos with label maps, for task=semantic_synthesis and task=segmentation; choose "
                "others, such as data=builtin"
            )
        if wanted != data.channels:
            raise UserError(
                f"data.channels={data.channels}, but the network takes images of {wanted} channel(s); "
                f"set data.channels={wanted} or backbone.in_channels={data.channels}"
            )

    def prepare(self) -> None:
        """Look for what training alone needs beside the data; called before anything is written."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss terms of a training batch by name, unweighted."""
        raise NotImplementedError

    def render(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return the finished output for ``image`` ``[B, C, H, W]``, both in [-1, 1]."""
        raise NotImplementedError

    def evaluate(self, stage: str, batch: Batch) -> Tensor | None:
        """Update the metrics of ``stage`` (``val`` or ``test``) by a batch; may return outputs, for callbacks."""
        raise NotImplementedError

    def figures(self, stage: str) -> dict[str, Tensor]:
        """Return the metrics of ``stage`` by name and start anew; at ``val`` with ``objective``."""
        raise NotImplementedError

    def term_figures(self, weights: Mapping[str, float]) -> dict[str, Tensor]:
        """Return the means of ``term_means`` and start them anew; ``objective`` is their weighted sum."""
        means = {name: metric.to(self.device).compute() for name, metric in self.term_means.items()}
        for metric in self.term_means.values():
            metric.reset()
        return means | {"objective": torch.stack([weights[name] * mean for name, mean in means.items()]).sum()}

    def image_figures(self, stage: str) -> dict[str, Values]:
        """Return the figures of each image of ``stage`` by set, image and name; none of a task with other metrics."""
        metrics = self.metrics.get(stage) if isinstance(self.metrics, dict) else None
        return metrics.per_image() if isinstance(metrics, MetricSets) else {}

    def pictures(self, image: Tensor) -> list[tuple[str, Tensor]]:
        """Return captioned pictures in [-1, 1] for a sample sheet, of an image ``[C, H, W]``; input and output here."""
        return [("input", image), ("output", self.rendered(image))]

    def rendered(self, image: Tensor) -> Tensor:
        """Return :meth:`render` of one image ``[C, H, W]``, on the CPU; as when evaluating, even amidst training."""
        with self.evaluating():
            return self.render(image[None].to(self.device))[0].cpu()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Be as when evaluating for a while, without gradients."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(training)

    def forward(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return the backbone's raw answer for ``image`` ``[B, C, H, W]`` in [-1, 1]."""
        answer: Tensor = self.backbone(image, origin)
        return answer

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Sum the weighted loss terms."""
        with drawn_for(batch):
            terms = self.losses(batch)
        self.last_terms = {name: term.detach() for name, term in terms.items()}
        loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        # only what a logger will take: logging costs a small network some per cent of its step
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            size = len(batch["image"])
            self.log_dict({f"train/{name}": term for name, term in terms.items()}, batch_size=size)
            self.log("train/loss", loss, prog_bar=True, batch_size=size)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor | None:
        """Evaluate a validation batch."""
        with drawn_for(batch):
            return self.evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the figures, and step a plateau schedule; every rank computes, so they are of all ranks."""
        figures = {f"val/{name}": value.float() for name, value in self.figures("val").items()}
        self.log_dict(figures)
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau) and not self.trainer.sanity_checking:
            scheduler.step(float(figures[self.objective]))

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor | None:
        """Evaluate a test batch."""
        with drawn_for(batch):
            return self.evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log the figures of the test."""
        self.log_dict({f"test/{name}": value.float() for name, value in self.figures("test").items()})

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the finished output for a batch of images."""
        return self.render(batch["image"], batch["origin"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the task's class and the format, so that a checkpoint that does not fit is refused."""
        checkpoint["nibkit_task"] = task_name(type(self))
        checkpoint["nibkit_format"] = FORMAT

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the average of the weights, where there is one, unless the run goes on with training."""
        if self._trainer is None or self._trainer.state.fn != TrainerFn.FITTING:
            use_average(checkpoint)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimizer and its schedule."""
        optimizer = self._make_optimizer()
        schedule = dict(self.hparams["schedule"])
        steps = self.trainer.estimated_stepping_batches
        scheduler = make_schedule(optimizer, **schedule, total_steps=float(steps))
        stepping: dict[str, Any] = {"scheduler": scheduler, "interval": "step"}
        if isinstance(scheduler, ReduceLROnPlateau):
            # stepped at each validation; Lightning counts batches within an epoch, which may miss them all
            stepping = {
                "scheduler": scheduler,
                "interval": "epoch",
                "frequency": sys.maxsize,
                "monitor": self.objective,
            }
        return {"optimizer": optimizer, "lr_scheduler": stepping}  # type: ignore[return-value]

    def _make_optimizer(self) -> Optimizer:
        return make_optimizer(self.hparams["optimizer"], self.backbone.parameters())
