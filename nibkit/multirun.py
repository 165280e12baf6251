"""Many runs at once: every point of a grid of settings, spread by one of Hydra's launchers.

Of Hydra only the launchers are used: they carry the number of a job to where it shall run. There the job reads its
settings with ``load_config``, as a plain run does. A job answers with what went wrong instead of raising, so that it
cannot take the others with it.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra._internal.callbacks import Callbacks
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig
from omegaconf.errors import OmegaConfBaseException

from nibkit.config import load_config, quoted
from nibkit.errors import Stopped, UserError, choose, suggestion
from nibkit.files import check_writable

PLUGINS = {"submitit_local": "nibkit[cluster]", "submitit_slurm": "nibkit[cluster]", "joblib": "hydra-joblib-launcher"}
OPTION = "hydra.launcher."
SIGNALLED = 128  # exit codes of runs that a signal has stopped begin here


@dataclass(frozen=True)
class Point:
    """A point of the grid.

    Args:
        title: the settings in which it differs from the other points.
        overrides: all its settings.
    """

    title: str
    overrides: tuple[str, ...]


def multirun(arguments: Sequence[str], config_dir: str | None = None) -> list[str]:
    """Run every point of the grid that the arguments span; block until all have ended.

    Args:
        arguments: settings, of which ``KEY=A,B`` and ``KEY=range(0,3)`` span the grid, ``hydra/launcher=NAME`` and
            ``hydra.launcher.OPTION=VALUE``.
        config_dir: a folder with further config groups of the user's own.

    Returns:
        One line for each point that failed.

    Raises:
        UserError: a point or the launcher is wrong; nothing was started.
    """
    settings, launcher, options = _split(arguments)
    points = grid(settings)
    titles = [f"point {index} ({point.title})" for index, point in enumerate(points)]
    with _named(titles[0]):
        run_id = load_config(points[0].overrides, config_dir).run_id
    jobs = [[*point.overrides, f"run_id={quoted(f'{run_id}/{index}')}"] for index, point in enumerate(points)]
    folders = _checked(jobs, titles, launcher, config_dir)
    plugin = _make_launcher(launcher, options, folders[0], partial(_work, jobs, config_dir))
    for title, folder in zip(titles, folders, strict=True):
        print(f"{title}: {folder}", flush=True)
    outcomes = _launch_all(plugin, launcher, len(jobs))
    return [f"{title}: {outcome}" for title, outcome in zip(titles, outcomes, strict=True) if outcome]


def launch(jobs: Sequence[Sequence[str]], launcher: str, options: Sequence[str] = ()) -> list[str | None]:
    """Run each job as ``python train.py`` would; block until all have ended.

    Args:
        jobs: the settings of each, with a ``run_dir`` of its own.
        launcher: ``basic`` (one after the other), ``submitit_local``, ``submitit_slurm``, or another that is installed.
        options: ``hydra.launcher.OPTION=VALUE``.

    Returns:
        For each job None, or what went wrong in one line.

    Raises:
        UserError: a job or the launcher is wrong; nothing was started.
    """
    if not jobs:
        return []
    folders = _checked(jobs, [f"job {index}" for index in range(len(jobs))], launcher, None)
    plugin = _make_launcher(launcher, options, folders[0], partial(_work, jobs, None))
    return _launch_all(plugin, launcher, len(jobs))


def check_launcher(name: str, options: Sequence[str] = ()) -> None:
    """Raise :class:`UserError` if there is no such launcher, or it has no such options; as :func:`launch` would."""
    _check_launcher(name)
    GlobalHydra.instance().clear()
    with initialize_config_module("nibkit.configs", job_name="nibkit", version_base="1.3"):
        _check_options(name, options)


def grid(settings: Sequence[str]) -> list[Point]:
    """Return every combination of the values of swept settings, the last one varying fastest.

    Raises:
        UserError: a setting cannot be read, or cannot be swept.
    """
    overrides = [_parse(setting) for setting in settings]
    swept = [i for i, override in enumerate(overrides) if override.is_sweep_override()]
    combinations = itertools.product(*(_values(override) for override in overrides))
    return [Point(" ".join(c[i] for i in swept) or "the only one", c) for c in combinations]


def _split(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Return the settings of the runs, the launcher's name and its options."""
    settings, launcher, options = [], "basic", []
    for argument in arguments:
        key, _, value = argument.lstrip("+~").partition("=")
        if key == "hydra/launcher":
            launcher = value
        elif key.startswith(("hydra.", "hydra/")):
            options.append(argument)
        else:
            settings.append(argument)
    return settings, launcher, options


def _parse(setting: str) -> Override:
    try:
        return OverridesParser.create().parse_override(setting)
    except HydraException as error:
        raise UserError(f"cannot read '{setting}'; write KEY=VALUE, or KEY=A,B to run with each of them") from error


def _values(override: Override) -> list[str]:
    """Return an override for each value of a setting."""
    line = str(override.input_line)
    if not override.is_sweep_override():
        return [line]
    if override.key_or_group == "run_id":
        raise UserError(f"'{line}' cannot be swept: the points of a grid share one id, and each adds its own number")
    try:
        values = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    except HydraException:  # an interval or a pattern of names
        values = []
    if not values:
        raise UserError(f"'{line}' lists no values; write KEY=A,B or KEY=range(FIRST,END)")
    return values


@contextmanager
def _named(title: str) -> Iterator[None]:
    """Say which point or job an error is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{title}: {error}") from error


def _checked(jobs: Sequence[Sequence[str]], titles: Sequence[str], launcher: str, config_dir: str | None) -> list[Path]:
    """Return the folder that each job writes to.

    Raises:
        UserError: a job is wrong, or two would write to one folder.
    """
    owners: dict[Path, str] = {}
    folders = []
    for title, job in zip(titles, jobs, strict=True):
        with _named(title):
            config = load_config(job, config_dir)
            _check_processes(config.trainer, launcher)
            key = "output" if config.mode == "predict" and config.output else "run_dir"
            folder = Path(config[key])
            check_writable(folder, key)
            if folder.resolve() in owners:
                raise UserError(
                    f"{key}='{folder}' is the folder of {owners[folder.resolve()]} too; leave {key} out or write the "
                    f"run's id into it: {key}='{folder}/${{run_id}}'"
                )
        owners[folder.resolve()] = title
        folders.append(folder)
    return folders


def _check_processes(trainer: DictConfig, launcher: str) -> None:
    """Raise if Lightning would start further processes itself, each of which would begin this job anew."""
    devices = trainer.get("devices", 1)
    alone = devices in (1, "1") or (isinstance(devices, ListConfig) and len(devices) == 1)
    if launcher != "submitit_slurm" and not (alone and trainer.get("num_nodes", 1) == 1):
        raise UserError(
            f"trainer.devices={devices} with hydra/launcher={launcher}: every process would start all runs on its own; "
            "set trainer.devices=1 and trainer.num_nodes=1, or hydra/launcher=submitit_slurm"
        )


def _make_launcher(name: str, options: Sequence[str], first: Path, task: TaskFunction) -> Launcher:
    """Return Hydra's launcher; it keeps its own files beside the folder of the first job."""
    _check_launcher(name)
    fixed = [
        f"hydra/launcher={name}", "hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null",
        f"hydra.sweep.dir={quoted(str(first.absolute().parent))}", "hydra.sweep.subdir=.",
    ]  # fmt: skip
    GlobalHydra.instance().clear()
    with initialize_config_module("nibkit.configs", job_name="nibkit", version_base="1.3"):
        _check_options(name, options)
        try:
            config = compose(None, [*fixed, *options], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"hydra/launcher={name}: {_one_line(error.__cause__ or error)}") from error
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
        return Plugins.instance().instantiate_launcher(context, task, config)


def _check_launcher(name: str) -> None:
    Plugins.instance()  # finds the installed plug-ins, which store their configs
    installed = [file.removesuffix(".yaml") for file in ConfigStore.instance().list("hydra/launcher")]
    if name in PLUGINS and name not in installed:
        raise UserError(
            f"hydra/launcher={name} needs a plug-in that is not installed; run: pip install '{PLUGINS[name]}'"
        )
    choose("hydra/launcher", name, installed)
    if name == "submitit_slurm" and shutil.which("srun") is None:
        raise UserError("hydra/launcher=submitit_slurm needs Slurm, but there is no command 'srun' on this machine")


def _check_options(name: str, options: Sequence[str]) -> None:
    """Check that the launcher has the options."""
    launcher = compose(None, [f"hydra/launcher={name}"], return_hydra_config=True).hydra.launcher
    known = [OPTION + str(key) for key in launcher if key != "_target_"]
    for option in options:
        key = option.lstrip("+~").partition("=")[0]
        if not any(key == k or key.startswith(k + ".") for k in known):
            choices = f"choose from: {', '.join(known)}" if known else f"hydra/launcher={name} has no options"
            raise UserError(f"unknown option '{key}'{suggestion(key, known)}; {choices}")


def _work(jobs: Sequence[Sequence[str]], config_dir: str | None, _: DictConfig) -> str | None:
    """Run the job whose number Hydra says, where the launcher wants it; return what went wrong."""
    from nibkit.run import run

    try:
        run(load_config(jobs[HydraConfig.get().job.num], config_dir))
    except UserError as error:
        return _one_line(error)
    except Stopped as error:
        if error.code < SIGNALLED:
            return _one_line(error)
        print(error, file=sys.stderr)
        raise SystemExit(error.code) from error  # the one that is told to stop is all of them
    except Exception as error:
        traceback.print_exc()
        return _one_line(error)
    return None


def _launch_all(plugin: Launcher, name: str, count: int) -> list[str | None]:
    return _launch_apart(plugin, count) if name.startswith("submitit") else _launch(plugin, range(count))


def _launch(plugin: Launcher, numbers: range) -> list[str | None]:
    """Run the jobs of these numbers together."""
    try:
        answers = plugin.launch([[] for _ in numbers], initial_job_idx=numbers.start)
    except Exception as error:  # a job was killed or ran out of time: the launcher raises instead of answering
        return [_one_line(error)] * len(numbers)
    return [answer.return_value for answer in answers]


def _launch_apart(plugin: Launcher, count: int) -> list[str | None]:
    """Run the jobs at the same time, each launched on its own, so that one that is killed says nothing of others."""
    outcomes: list[str | None] = [None] * count
    slots = threading.Semaphore(getattr(plugin, "params", {}).get("array_parallelism", count))

    def wait(number: int) -> None:
        with slots:
            outcomes[number] = _launch(plugin, range(number, number + 1))[0]

    threads = [threading.Thread(target=wait, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:  # daemons: Ctrl-C leaves at once, and the jobs to the cluster
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def _one_line(error: BaseException) -> str:
    """Return an error without its traceback or the log that a launcher adds."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    if "Original Traceback" in str(error):  # from a loader process
        return lines[-1]
    return lines[0] if isinstance(error, UserError) else f"{type(error).__name__}: {' '.join(lines[:2])}"
