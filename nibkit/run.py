"""One run: config in, run folder out.

Everything that can be wrong is checked before the run folder is made and training starts.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig

from nibkit.data.module import ImageData
from nibkit.errors import UserError
from nibkit.make import make, make_task, make_trainer, one_line
from nibkit.ranks import own_rank, settle
from nibkit.resume import find_checkpoint
from nibkit.run_folder import check_run_dir, open_run_dir, run_log
from nibkit.watch import dead_rank, watch_ranks

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
        begun = find_checkpoint(config)
        check_run_dir(config, begun)
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
        watch_ranks(trainer.strategy.launcher)
        try:
            execute(config, trainer, task, data)
        except RuntimeError as error:  # what a rank gets whose neighbour is gone is one
            dead = dead_rank(trainer.strategy.launcher)
            if dead is None:
                raise
            raise dead from error
        finally:
            settle()


def execute(config: DictConfig, trainer: pl.Trainer, task: pl.LightningModule, data: ImageData) -> None:
    """Fit and test, or only test."""
    try:
        if config.mode == "test":
            trainer.test(task, datamodule=data, verbose=False)
            return
        trainer.fit(task, datamodule=data, ckpt_path=config.ckpt_path, weights_only=True)
        trainer.test(task, datamodule=data, ckpt_path=_best(trainer), weights_only=True, verbose=False)
    except MisconfigurationException as error:  # only Lightning can tell, such as a share of less than one batch
        raise UserError(f"trainer: {one_line(error)}") from error


def _best(trainer: pl.Trainer) -> str | None:
    """Return the best checkpoint's path; None for the weights as they are."""
    paths = [each.best_model_path for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    return next(filter(None, paths), None)


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


def quiet() -> None:
    """Keep what a user cannot act on off the screen."""
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger().setLevel(logging.WARNING if own_rank() else logging.INFO)  # what all ranks say is said once
    for name in ("lightning.pytorch", "lightning.fabric", "matplotlib", "numba", "fsspec", "torch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("hydra").setLevel(logging.CRITICAL)  # its errors reach the user as one sentence
    warnings.filterwarnings("ignore", module="lightning.*")
    # of a rank without images in a set that has fewer than there are ranks: the sums are over all ranks
    warnings.filterwarnings("ignore", message="The ``compute`` method of metric")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
