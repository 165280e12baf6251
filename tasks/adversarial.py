"""The contract of a task that is judged by a discriminator while it learns.

Lightning leaves such a task to step its two optimizers by itself. A subclass fills in, beside the hooks of
:class:`tasks.base.Task`:

    generate(batch)             the generated images [B, C, H, W] in [-1, 1], with gradients
    judged(batch, image)        what the discriminator reads: the condition and an image, side by side
    generator_terms(...)        the generator's loss terms by name, beside the adversarial one

A step of training is a step of the generator: ``trainer.max_steps``, the schedules and the names of checkpoints count
those. The discriminator learns first, from the very images that the generator is then judged by. Where several batches
make a step, it learns from all of them before it judges the generator by any, as if they were one; only the last has
its images kept, those of the others are generated again, with the same draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from nibkit.draws import drawn_for
from nibkit.errors import UserError, choose
from nibkit.losses.adversarial import GAN_LOSSES, discriminator_loss, generator_loss
from nibkit.optimizers import make_optimizer
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
        optimizer: Mapping[str, Any] | None,
        schedule: Mapping[str, Any],
        discriminator: Mapping[str, Any] | None = None,
        discriminator_optimizer: Mapping[str, Any] | None = None,
        gan_loss: str = "hinge",
        adversarial_weight: float = 1.0,
        discriminator_weight: float = 1.0,
        channels_last: bool = True,
    ) -> None:
        if optimizer is None or discriminator is None or discriminator_optimizer is None:
            raise UserError(
                f"nothing is known that the generator '{backbone.get('name')}' could learn from; choose "
                "adversary=spade or adversary=pix2pix, or backbone=spade or pix2pix, which bring theirs"
            )
        super().__init__(backbone, nib, optimizer, schedule, channels_last)
        self.automatic_optimization = False
        self.accumulate = 1
        self.clip: float | None = None
        self._earlier: list[Batch] = []  # batches of this step that the generator has not learnt from yet
        choose("task.gan_loss", gan_loss, GAN_LOSSES)
        self.discriminator = build_discriminator(discriminator, in_channels=self.judged_channels())
        if channels_last:
            self.discriminator = self.discriminator.to(memory_format=torch.channels_last)
        # wrong ones are told before training
        self._make(self.hparams["discriminator_optimizer"], self.discriminator)
        if self.hparams["schedule"].get("name") == "plateau":
            raise UserError(
                "task.schedule.name=plateau has no meaning for two networks that work against each other; choose from: "
                "constant, cosine, polynomial"
            )

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
        """Let the discriminator learn; after the last batch of a step, make its step and the generator's."""
        last = (batch_idx + 1) % self.accumulate == 0 or self.trainer.is_last_batch
        with torch.set_grad_enabled(last), drawn_for(batch):
            fake = self.generate(batch)
        terms = {"discriminator": self._learn_discriminator(batch, fake.detach())}
        if not last:
            self._earlier.append(batch)
            return
        generator, discriminator = self._optimizers()
        # by way of the strategy, so that Lightning does not count it: a step is one of the generator
        self.trainer.strategy.optimizer_step(discriminator.optimizer, lambda: None)
        discriminator.zero_grad()
        with self._frozen(self.discriminator):
            terms |= self._learn_generator(batch, fake)
            while self._earlier:
                earlier = self._earlier.pop()
                with drawn_for(earlier):
                    fake = self.generate(earlier)
                self._learn_generator(earlier, fake)
        generator.step()
        generator.zero_grad()
        self._log_terms(terms, len(batch["image"]))
        for scheduler in self._schedulers():
            scheduler.step()

    def _learn_discriminator(self, batch: Batch, fake: Tensor) -> Tensor:
        """Return the discriminator's loss and add to its gradient."""
        loss = discriminator_loss(self.hparams["gan_loss"], *self._logits_of_both(batch, fake))
        self.last_terms = {"discriminator": loss.detach()}
        self._backward(self.hparams["discriminator_weight"] * loss)
        return loss.detach()

    def _logits_of_both(self, batch: Batch, fake: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the logits of the real and of the generated images by scale; in one pass where that is the same."""
        real, fake = (self.judged(batch, image) for image in (batch["image"], fake))
        if not getattr(self.discriminator, "independent", False):
            first, second = ([scale[-1] for scale in self.discriminator(images)] for images in (real, fake))
            return first, second
        both = [scale[-1] for scale in self.discriminator(torch.cat((real, fake.to(real.dtype))))]
        return [logits[: len(real)] for logits in both], [logits[len(real) :] for logits in both]

    def _learn_generator(self, batch: Batch, fake: Tensor) -> dict[str, Tensor]:
        """Return the generator's terms and add to its gradient."""
        judged = self.discriminator(self.judged(batch, fake))
        with torch.no_grad():
            real = self.discriminator(self.judged(batch, batch["image"])) if self.compares_features else None
        terms = {"adversarial": generator_loss(self.hparams["gan_loss"], [scale[-1] for scale in judged])}
        terms |= self.generator_terms(batch, fake, judged, real)
        self.last_terms = {name: term.detach() for name, term in terms.items()}
        loss = torch.stack([self.weights[name] * term for name, term in terms.items() if name in self.weights])
        self._backward(loss.sum())
        return {name: term.detach() for name, term in terms.items()} | {"loss": loss.detach().sum()}

    def _backward(self, loss: Tensor) -> None:
        self.manual_backward(loss / self.accumulate)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradient of the network that is about to make its step, which by now is free of any scale."""
        if self.clip is not None:
            nn.utils.clip_grad_norm_(
                [weight for group in optimizer.param_groups for weight in group["params"]], self.clip
            )

    @contextmanager
    def _frozen(self, network: nn.Module) -> Iterator[None]:
        """Keep a network's weights without gradient for a while."""
        network.requires_grad_(False)
        try:
            yield
        finally:
            network.requires_grad_(True)

    def _log_terms(self, terms: Mapping[str, Tensor], size: int) -> None:
        """Log a step that was just made, by its last batch, now and then."""
        if self.global_step % self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        figures = {f"train/{name}": term for name, term in terms.items()}
        for name, figure in figures.items():
            self.log(name, figure, prog_bar=name == "train/loss", logger=False, batch_size=size)
        # not by Lightning, which would at the earlier batches of this step repeat what it last logged
        for logger in self.loggers:
            logger.log_metrics({name: float(figure) for name, figure in figures.items()}, step=self.global_step - 1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make both optimizers, each with the schedule."""
        networks = ((self.hparams["optimizer"], self.backbone),
                    (self.hparams["discriminator_optimizer"], self.discriminator))  # fmt: skip
        optimizers = [self._make(spec, network) for spec, network in networks]
        # Lightning refuses this from the command line, but tells and logs the steps of a run by it
        self.trainer.accumulate_grad_batches = self.accumulate
        schedule, steps = dict(self.hparams["schedule"]), float(self.trainer.estimated_stepping_batches)
        schedulers = [make_schedule(optimizer, **schedule, total_steps=steps) for optimizer in optimizers]
        return optimizers, schedulers

    def on_fit_end(self) -> None:
        """Leave the trainer as it was, for another fit."""
        self.trainer.accumulate_grad_batches = 1

    def _optimizers(self) -> Sequence[Any]:
        optimizers: Sequence[Any] = self.optimizers()  # type: ignore[assignment]
        return optimizers

    def _schedulers(self) -> Sequence[Any]:
        schedulers: Sequence[Any] = self.lr_schedulers()  # type: ignore[assignment]
        return schedulers

    def _make(self, spec: Mapping[str, Any], network: nn.Module) -> Optimizer:
        return make_optimizer(spec, network.parameters())
