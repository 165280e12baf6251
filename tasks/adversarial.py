"""The contract of a task that is judged by a discriminator while it learns.

Lightning leaves such a task to step its two optimizers by itself. A subclass fills in, beside the hooks of
:class:`tasks.base.Task`:

    generate(batch)             the generated images [B, C, H, W] in [-1, 1], with gradients
    judged(batch, image)        what the discriminator reads: the condition and an image, side by side
    generator_terms(...)        the generator's loss terms by name, beside the adversarial one

A step of training is a step of the generator: ``trainer.max_steps``, the schedules and the names of checkpoints count
those. The discriminator learns first, from the very images that the generator is then judged by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from nibkit.losses.adversarial import GAN_LOSSES, discriminator_loss, generator_loss
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from nibkit.errors import UserError, choose
from nibkit.registry import build_discriminator
from nibkit.schedules import make_schedule
from tasks.base import Batch, Task

Features = list[list[Tensor]]  # by scale and layer; the last of each scale are the logits


class AdversarialTask(Task):
    """Base of tasks with a generator, the backbone, and a discriminator.

    Args:
        backbone: see :class:`tasks.base.Task`.
        nib: likewise.
        optimizer: of the generator.
        schedule: of both optimizers.
        discriminator: ``name`` and arguments of a registered discriminator.
        discriminator_optimizer: ``_target_`` and arguments of a torch optimizer.
        gan_loss: ``hinge``, ``least_squares`` or ``bce``.
        adversarial_weight: of the discriminator's judgement in the generator's loss.
        discriminator_weight: of the discriminator's own loss.
        channels_last: see :class:`tasks.base.Task`.

    Attributes:
        accumulate: batches per step; ``trainer.accumulate_grad_batches`` sets it.
        clip: largest norm of each network's gradient; None for no clipping; ``trainer.gradient_clip_val`` sets it.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        nib: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        schedule: Mapping[str, Any],
        discriminator: Mapping[str, Any] | None = None,
        discriminator_optimizer: Mapping[str, Any] | None = None,
        gan_loss: str = "hinge",
        adversarial_weight: float = 1.0,
        discriminator_weight: float = 1.0,
        channels_last: bool = True,
    ) -> None:
        super().__init__(backbone, nib, optimizer, schedule, channels_last)
        self.automatic_optimization = False
        self.accumulate, self.clip = 1, None
        if discriminator is None or discriminator_optimizer is None:
            raise UserError(
                "there is no discriminator for this generator; choose adversary=spade or adversary=pix2pix, "
                "or give task.discriminator and task.discriminator_optimizer"
            )
        choose("task.gan_loss", gan_loss, GAN_LOSSES)
        self.discriminator = build_discriminator(discriminator, in_channels=self.judged_channels())
        if channels_last:
            self.discriminator = self.discriminator.to(memory_format=torch.channels_last)
        self._make(self.hparams["discriminator_optimizer"], self.discriminator)  # a wrong one is told before training

    def judged_channels(self) -> int:
        """Return the channels of :meth:`judged`."""
        return self.backbone.in_channels + self.backbone.out_channels

    def generate(self, batch: Batch) -> Tensor:
        """Return generated images ``[B, C, H, W]`` in [-1, 1] for a training batch."""
        raise NotImplementedError

    def judged(self, batch: Batch, image: Tensor) -> Tensor:
        """Return what the discriminator reads of an image: the condition and the image side by side."""
        raise NotImplementedError

    def generator_terms(self, batch: Batch, fake: Tensor, judged: Features, real: Features | None) -> dict[str, Tensor]:
        """Return the generator's terms by name, beside the adversarial one.

        Args:
            batch: of training.
            fake: the generated images.
            judged: the discriminator's features of them.
            real: those of the real images, without gradient; None where :attr:`compares_features` is off.
        """
        return {}

    @property
    def compares_features(self) -> bool:
        """Whether :meth:`generator_terms` needs the discriminator's features of real images."""
        return False

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Let the discriminator learn, then the generator."""
        last = (batch_idx + 1) % self.accumulate == 0 or self.trainer.is_last_batch
        generator, discriminator = self._optimizers()
        fake = self.generate(batch)
        terms = {"discriminator": self._learn_discriminator(batch, fake.detach(), discriminator, last)}
        terms |= self._learn_generator(batch, fake, generator, last)
        self._log_terms(terms, len(batch["image"]))
        if last:
            for scheduler in self._schedulers():
                scheduler.step()

    def _learn_discriminator(self, batch: Batch, fake: Tensor, optimizer: Any, last: bool) -> Tensor:
        """Return the discriminator's loss, after its step where the batch is the last of the step's."""
        logits = [
            [scale[-1] for scale in self.discriminator(self.judged(batch, image))] for image in (batch["image"], fake)
        ]
        loss = discriminator_loss(self.hparams["gan_loss"], *logits)
        self._backward(self.hparams["discriminator_weight"] * loss)
        if last:
            # by way of the strategy, so that Lightning does not count it: a step is one of the generator
            self._clip(self.discriminator)
            self.trainer.strategy.optimizer_step(optimizer.optimizer, lambda: None)
            optimizer.zero_grad()
        return loss.detach()

    def _learn_generator(self, batch: Batch, fake: Tensor, optimizer: Any, last: bool) -> dict[str, Tensor]:
        """Return the generator's terms, after its step where the batch is the last of the step's."""
        with self._frozen(self.discriminator):
            judged = self.discriminator(self.judged(batch, fake))
            with torch.no_grad():
                real = self.discriminator(self.judged(batch, batch["image"])) if self.compares_features else None
            terms = {"adversarial": generator_loss(self.hparams["gan_loss"], [scale[-1] for scale in judged])}
            terms |= self.generator_terms(batch, fake, judged, real)
            loss = torch.stack([self.weights[name] * term for name, term in terms.items() if name in self.weights])
            self._backward(loss.sum())
        if last:
            self._clip(self.backbone)
            optimizer.step()
            optimizer.zero_grad()
        return {name: term.detach() for name, term in terms.items()} | {"loss": loss.detach().sum()}

    def _backward(self, loss: Tensor) -> None:
        self.manual_backward(loss / self.accumulate)

    def _clip(self, network: nn.Module) -> None:
        if self.clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), self.clip)

    @contextmanager
    def _frozen(self, network: nn.Module) -> Iterator[None]:
        """Keep a network's weights without gradient for a while."""
        network.requires_grad_(False)
        try:
            yield
        finally:
            network.requires_grad_(True)

    def _log_terms(self, terms: Mapping[str, Tensor], size: int) -> None:
        """Log what a logger will take of a step that was just made."""
        if self.global_step % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log_dict({f"train/{name}": term for name, term in terms.items() if name != "loss"}, batch_size=size)
            self.log("train/loss", terms["loss"], prog_bar=True, batch_size=size)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make both optimizers, each with the schedule."""
        networks = ((self.hparams["optimizer"], self.backbone),
                    (self.hparams["discriminator_optimizer"], self.discriminator))  # fmt: skip
        optimizers = [self._make(spec, network) for spec, network in networks]
        schedule, steps = dict(self.hparams["schedule"]), self._total_steps()
        schedulers = [make_schedule(optimizer, **schedule, total_steps=steps) for optimizer in optimizers]
        if any(isinstance(scheduler, ReduceLROnPlateau) for scheduler in schedulers):
            raise UserError("task.schedule.name=plateau has no meaning for two networks that work against each other")
        return optimizers, schedulers  # type: ignore[return-value]

    def _total_steps(self) -> float:
        """Return the steps of the run; Lightning does not know of the accumulation."""
        batches = float(self.trainer.estimated_stepping_batches)
        limit = self.trainer.max_steps
        return min(batches, float(limit)) if limit > 0 else -(-batches // self.accumulate)

    def _optimizers(self) -> Sequence[Any]:
        optimizers: Sequence[Any] = self.optimizers()  # type: ignore[assignment]
        return optimizers

    def _schedulers(self) -> Sequence[Any]:
        schedulers: Sequence[Any] = self.lr_schedulers()  # type: ignore[assignment]
        return schedulers

    def _make(self, spec: Mapping[str, Any], network: nn.Module) -> Optimizer:
        optimizer: Optimizer = hydra.utils.instantiate(dict(spec), params=network.parameters())
        return optimizer
