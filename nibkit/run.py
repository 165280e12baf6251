"""One run: config in, run folder out.

Everything that can be wrong is checked before the run folder is made and training starts.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from omegaconf import DictConfig, OmegaConf

from nibkit.checkpoint import WholeCheckpointIO, check_network, check_task, read_checkpoint
from nibkit.data.module import ImageData
from nibkit.errors import UserError
from nibkit.run_folder import check_run_dir, open_run_dir, run_log

log = logging.getLogger(__name__)


def run(config: DictConfig) -> None:
    """Train and test, test, or predict, as ``config.mode`` says."""
    check_packages()
    quiet()
    import_modules(config.imports)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    if config.mode == "predict":
        from nibkit.predict import predict

        predict(config)
        return
    with run_log() as log_file:
        check_run_dir(config)
        task = make_task(config)
        data: ImageData = make("data", config.data)
        if hasattr(task, "check_data"):
            task.check_data(data)  # type: ignore[operator]
        if config.mode == "train" and hasattr(task, "prepare"):
            task.prepare()  # type: ignore[operator]
        trainer = make_trainer(config, task)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if hasattr(callback, "prepare"):
                callback.prepare(data)
        data.prepare()
        open_run_dir(config, log_file)
        log.info("run folder: %s", config.run_dir)
        execute(config, trainer, task, data)


def execute(config: DictConfig, trainer: pl.Trainer, task: pl.LightningModule, data: ImageData) -> None:
    """Fit and test, or only test."""
    if trainer.global_rank:  # other random draws on each process; the first keeps those of a single one
        torch.manual_seed(config.seed + trainer.global_rank)
    try:
        if config.mode == "test":
            trainer.test(task, datamodule=data, verbose=False)
            return
        trainer.fit(task, datamodule=data, ckpt_path=config.ckpt_path, weights_only=True)
        best = trainer.checkpoint_callback.best_model_path if trainer.checkpoint_callback else ""  # type: ignore[attr-defined]
        trainer.test(task, datamodule=data, ckpt_path=best or None, weights_only=True, verbose=False)
    except MisconfigurationException as error:  # only Lightning can tell, such as a share of less than one batch
        raise UserError(f"trainer: {_one_line(error)}") from error


def check_packages() -> None:
    """Raise if a user's own module hides nibkit's packages ``tasks`` or ``callbacks``."""
    home = Path(__file__).resolve().parent.parent
    for name in ("tasks", "callbacks"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found != home / name / "__init__.py":
            where = found or (list(spec.submodule_search_locations or [])[:1] if spec else "nowhere")
            raise UserError(
                f"the package '{name}' of nibkit is hidden by '{where}'; rename that module or start elsewhere"
            )


def import_modules(names: Any) -> None:
    """Import the user's modules, which register backbones."""
    for name in names or []:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise UserError(
                f"imports: no module named '{error.name}'; install it, or start with: python -m nibkit"
            ) from error


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
        if isinstance(cause, ModuleNotFoundError | ImportError) or "Error locating target" in str(error):
            raise UserError(f"{section}: {_one_line(cause or error)}") from error
        if isinstance(cause, ValueError) or (isinstance(cause, TypeError) and "argument" in str(cause)):
            raise UserError(f"{section}: {_one_line(cause)}") from error
        raise


def make_task(config: DictConfig) -> pl.LightningModule:
    """Make the task: from the config, or for a test as its checkpoint says."""
    if config.ckpt_path is None:
        if config.mode != "train":
            raise UserError(f"mode={config.mode} needs a trained network: set ckpt_path=RUN_DIR/checkpoints/best.ckpt")
        return make("task", config.task)  # type: ignore[no-any-return]
    checkpoint = read_checkpoint(config.ckpt_path)
    try:
        task_class: type[pl.LightningModule] = get_class(config.task._target_)
    except (ImportError, ValueError) as error:
        raise UserError(f"task: {_one_line(error)}") from error
    check_task(checkpoint, task_class, config.ckpt_path)
    if config.mode == "train":
        task: pl.LightningModule = make("task", config.task)
        check_network(checkpoint, task.hparams, config.ckpt_path)
        return task
    tested = task_class.load_from_checkpoint(config.ckpt_path, map_location="cpu", weights_only=True)
    _record(tested.hparams, config)
    return tested


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
    options: dict[str, Any] = {
        "callbacks": callbacks,
        "logger": loggers,
        "plugins": [WholeCheckpointIO()],
        "default_root_dir": config.run_dir,
        # what a user has set to null stays away: Lightning would put its own in its place
        "enable_progress_bar": any(isinstance(c, ProgressBar) for c in callbacks),
        "enable_checkpointing": any(isinstance(c, Checkpoint) for c in callbacks),
    }
    if config.trainer.accelerator == "auto":  # not Apple's: it has no float64, which the metrics need
        options["accelerator"] = "cuda" if torch.cuda.is_available() else "cpu"
    if not task.automatic_optimization:  # Lightning leaves both to a task that steps its optimizers by itself
        task.accumulate, task.clip = config.trainer.accumulate_grad_batches, config.trainer.gradient_clip_val
        options |= {"accumulate_grad_batches": 1, "gradient_clip_val": None}
        if config.trainer.strategy == "ddp":  # each of two networks rests while the other learns
            options["strategy"] = "ddp_find_unused_parameters_true"
    try:
        trainer: pl.Trainer = instantiate(config.trainer, **options, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, MisconfigurationException | ValueError | TypeError | RuntimeError | KeyError):
            raise UserError(f"trainer: {_one_line(cause)}") from error
        raise
    return trainer


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def quiet() -> None:
    """Keep what a user cannot act on off the screen."""
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger().setLevel(logging.INFO)
    for name in ("lightning.pytorch", "lightning.fabric", "matplotlib", "numba", "fsspec", "torch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("hydra").setLevel(logging.CRITICAL)  # its errors reach the user as one sentence
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
