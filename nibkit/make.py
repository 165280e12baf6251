"""Making what the config names: task, data, callbacks, trainer; what is wrong with them is one sentence."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig, OmegaConf

from nibkit.checkpoint import WholeCheckpointIO, check_network, check_task, read_checkpoint
from nibkit.errors import UserError
from nibkit.precision import fast_precision
from nibkit.sync_norm import SyncNorms

log = logging.getLogger(__name__)
WRONG_TARGET = ("Error locating target", "Expected a callable target")  # of Hydra's messages


def make(section: str, config: Any) -> Any:
    """Instantiate a config section; a :class:`UserError` inside it stays one sentence."""
    try:
        return instantiate(config)
    except InstantiationException as error:
        cause = error.__cause__
        while isinstance(cause, InstantiationException) and cause.__cause__:  # of a section inside this one
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, ModuleNotFoundError | ImportError) or any(text in str(error) for text in WRONG_TARGET):
            raise UserError(f"{section}: {one_line(cause or error)}") from error
        if isinstance(cause, ValueError) or (isinstance(cause, TypeError) and "argument" in str(cause)):
            raise UserError(f"{section}: {one_line(cause)}") from error
        raise


def make_task(config: DictConfig) -> pl.LightningModule:
    """Make the task: from the config, or for a test as its checkpoint says."""
    if config.ckpt_path is None:
        _check_adversary(config)
        if config.mode != "train":
            raise UserError(f"mode={config.mode} needs a trained network: set ckpt_path=RUN_DIR/checkpoints/best.ckpt")
        return make("task", config.task)  # type: ignore[no-any-return]
    checkpoint = read_checkpoint(config.ckpt_path)
    try:
        task_class: type[pl.LightningModule] = get_class(config.task._target_)
    except (ImportError, ValueError) as error:
        raise UserError(f"task: {one_line(error)}") from error
    check_task(checkpoint, task_class, config.ckpt_path)
    if config.mode == "train":
        task: pl.LightningModule = make("task", config.task)
        check_network(checkpoint, task.hparams, config.ckpt_path)
        return task
    tested = task_class.load_from_checkpoint(config.ckpt_path, map_location="cpu", weights_only=True)
    _record(tested.hparams, config)
    return tested


def _check_adversary(config: DictConfig) -> None:
    """Raise if a network brings a discriminator to a task that has none."""
    parameters = inspect.signature(get_class(config.task._target_)).parameters if "discriminator" in config else {}
    if parameters and "discriminator" not in parameters:
        raise UserError(
            f"backbone={config.backbone.name} learns against a discriminator, which this task does not have; choose "
            "task=semantic_synthesis, or adversary=none to train it by this task's losses alone"
        )


def _record(hparams: Mapping[str, Any], config: DictConfig) -> None:
    """Put what the checkpoint was trained with into the config, so that the run folder tells the truth."""
    OmegaConf.set_struct(config, False)
    for key, value in hparams.items():
        holder = config if key in ("backbone", "nib") else config.task
        holder[key] = value


def make_trainer(config: DictConfig, task: pl.LightningModule) -> pl.Trainer:
    """Make the trainer with its callbacks and loggers."""
    callbacks = [make(f"callbacks.{name}", c) for name, c in config.callbacks.items() if c is not None]
    loggers = [make(f"logger.{name}", c) for name, c in (config.logger or {}).items() if c is not None]
    plugins: list[Any] = [WholeCheckpointIO()]
    if config.trainer.sync_batchnorm:  # by our own, which knows the CPU too
        plugins.append(SyncNorms())
    # Lightning would save in the midst of a step when told to stop; torchrun counts for more, inside of a job, too
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))
    options: dict[str, Any] = {
        "callbacks": callbacks,
        "logger": loggers,
        "plugins": plugins,
        "sync_batchnorm": False,
        "strategy": make_strategy(config.trainer, task),
        "default_root_dir": config.run_dir,
        # what a user has set to null stays away: Lightning would put its own in its place
        "enable_progress_bar": any(isinstance(c, ProgressBar) for c in callbacks),
        "enable_checkpointing": any(isinstance(c, Checkpoint) for c in callbacks),
    }
    if config.trainer.accelerator == "auto":  # not Apple's: it has no float64, which the metrics need
        options["accelerator"] = "cuda" if torch.cuda.is_available() else "cpu"
    if config.trainer.precision == "auto":
        options["precision"] = fast_precision(options.get("accelerator", config.trainer.accelerator))
        log.info("precision: %s", options["precision"])
    if not task.automatic_optimization:  # Lightning leaves both to a task that steps its optimizers by itself
        task.accumulate, task.clip = config.trainer.accumulate_grad_batches, config.trainer.gradient_clip_val
        options |= {"accumulate_grad_batches": 1, "gradient_clip_val": None}
    try:
        trainer: pl.Trainer = instantiate(config.trainer, **options, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, MisconfigurationException | ValueError | TypeError | RuntimeError | KeyError):
            raise UserError(f"trainer: {one_line(cause)}") from error
        raise
    return trainer


def make_strategy(trainer: DictConfig, task: pl.LightningModule) -> Any:
    """Return the strategy of several processes as the tasks need it; any other as it is named."""
    several = trainer.devices not in (1, "1", [1], [0]) or trainer.num_nodes > 1
    if trainer.strategy != "ddp" and not (trainer.strategy == "auto" and several):
        return trainer.strategy
    return DDPStrategy(
        # each of two networks rests while the other learns
        find_unused_parameters=not task.automatic_optimization,
        # all ranks compute the same ones; to send them around hangs where ranks judge unequal numbers of images
        broadcast_buffers=False,
    )


def one_line(error: BaseException) -> str:
    """Return an error's text without its line breaks."""
    return " ".join(str(error).split())
