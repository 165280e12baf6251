"""Composing the configuration, and refusing what is wrong in it before anything heavy is imported.

Hydra composes; this module turns its errors into one sentence each and checks types and ranges. It must
not import torch: a misspelt key is told within a second or two.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nibkit.config_rules import RULES
from nibkit.errors import UserError, choose, suggestion
from nibkit.plugins import config_folders

MODES = ("train", "test", "predict")


def label_channels(num_classes: int | None, void_id: int | None, edges: bool) -> int:
    """Return the planes of a label map: a class each, void where there is one, edges of instances; for configs.

    Of data without label maps it is 1, gray: the task says what is wrong with that.
    """
    return 1 if num_classes is None else num_classes + (void_id is not None) + edges


def scored_classes(num_classes: int | None, class_map: Sequence[int | None] | None) -> int:
    """Return the number of classes that are scored, all or those that ``class_map`` leads to; 1 as above."""
    if class_map is None:
        return 1 if num_classes is None else num_classes
    return len({scored for scored in class_map if scored is not None})


def slurm_tasks() -> int:
    """Return the tasks of a Slurm job on each node, for configs; 1 outside of Slurm."""
    tasks = os.environ.get("SLURM_NTASKS_PER_NODE") or os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1")
    return int(tasks.partition("(")[0])  # 2(x3): two on each of three nodes


def slurm_nodes() -> int:
    """Return the nodes of a Slurm job, for configs; 1 outside of Slurm."""
    return int(os.environ.get("SLURM_NNODES", 1))


def slug(text: str) -> str:
    """Return a text with a dash for all that is no letter, digit or dash, for configs; the last 64 characters.

    Examples:
        >>> slug("outputs/dithering/a b")
        'outputs-dithering-a-b'
    """
    return re.sub("[^A-Za-z0-9-]+", "-", str(text)).strip("-")[-64:]


for _resolver in (label_channels, scored_classes, slurm_tasks, slurm_nodes, slug):
    OmegaConf.register_new_resolver(_resolver.__name__, _resolver, replace=True)


def load_config(arguments: Sequence[str], config_dir: str | None = None) -> DictConfig:
    """Compose and check the configuration of a run.

    Args:
        arguments: Hydra overrides as typed: ``task=dithering``, ``data.batch_size=8``.
        config_dir: a folder with further config groups of the user's own.

    Raises:
        UserError: anything wrong with them, in one sentence.
    """
    folders = _own_folders(config_dir)
    search = [f"hydra.searchpath=[{','.join(quoted(f'file://{folder}') for folder in folders)}]"] if folders else []
    GlobalHydra.instance().clear()
    with initialize_config_module("nibkit.configs", version_base="1.3"):
        known = groups(folders)
        arguments = _beside_the_tasks_own(arguments, known, search)
        overrides = _parse(arguments)
        _check_choices(overrides, known)
        base = _compose([*search, *(str(o.input_line) for o in overrides if _is_choice(o, known))])
        for override in overrides:
            if not _is_choice(override, known):
                _check_value(override, base)
        config = _compose([*search, *arguments])
    _check_ranges(config)
    choose("mode", config.mode, MODES)
    _name_run(config)
    return config


def quoted(text: str | Path) -> str:
    """Return a text as the value of an override that Hydra reads whole, whatever characters it has."""
    escaped = str(text).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def groups(own: Sequence[Path] = ()) -> dict[str, list[str]]:
    """Return the config groups and the choices in each, shipped ones and those in folders of the user's ``own``."""
    loader = GlobalHydra.instance().config_loader()
    found = {name: set(loader.get_group_options(name)) for name in loader.list_groups("") if name != "hydra"}
    for name in found:
        for folder in loader.list_groups(name):
            found[name] |= {f"{folder}/{choice}" for choice in loader.get_group_options(f"{name}/{folder}")}
    for file in (f for folder in own for f in folder.glob("*/*.yaml")):
        found.setdefault(file.parent.name, set()).add(file.stem)
    return {name: sorted(choices) for name, choices in sorted(found.items()) if choices}


def _beside_the_tasks_own(
    arguments: Sequence[str], known: Mapping[str, Sequence[str]], search: Sequence[str]
) -> list[str]:
    """Let data=NAME be found beside the task's own data: data=camvid is data=labels/camvid to a task of label maps."""
    overrides = _parse(arguments)
    chosen = {o.key_or_group: o.value() for o in overrides}.get("data")
    choices = [str(o.input_line) for o in overrides if _is_choice(o, known) and o.key_or_group != "data"]
    if not isinstance(chosen, str) or any(not isinstance(o.value(), str) for o in overrides if _is_choice(o, known)):
        return list(arguments)
    try:
        folder = str(compose("train", [*search, *choices], return_hydra_config=True).hydra.runtime.choices.data)
    except (HydraException, OmegaConfBaseException):  # told later, with what was asked for
        return list(arguments)
    beside = f"{folder.rpartition('/')[0]}/{chosen}"
    if "/" not in folder or beside not in known["data"]:
        return list(arguments)
    return [f"data={beside}" if o.key_or_group == "data" else a for o, a in zip(overrides, arguments, strict=True)]


def _own_folders(config_dir: str | None) -> list[Path]:
    """Return the folders of config groups beside the shipped ones: the given one, then those of plug-ins."""
    if config_dir is None:
        return config_folders()
    folder = Path(config_dir).absolute()
    if not folder.is_dir():
        raise UserError(f"--config-dir '{config_dir}' is no folder")
    return [folder, *config_folders()]


def _parse(arguments: Sequence[str]) -> list[Override]:
    overrides = []
    for argument in arguments:
        try:
            overrides += OverridesParser.create().parse_overrides([argument])
        except HydraException as error:
            raise UserError(f"cannot read '{argument}'; write KEY=VALUE, such as data.batch_size=8") from error
    return overrides


def _is_choice(override: Override, known: Mapping[str, Sequence[str]]) -> bool:
    """Say whether the override picks from a group (task=dithering) rather than sets a value."""
    return override.key_or_group in known or override.key_or_group.startswith("hydra")


def _check_choices(overrides: Sequence[Override], known: Mapping[str, Sequence[str]]) -> None:
    for override in overrides:
        if override.key_or_group not in known:
            continue
        if override.is_delete():
            raise UserError(f"the group '{override.key_or_group}' is needed; give {override.key_or_group}=CHOICE")
        values = override.value()
        for value in values if isinstance(values, list) else [values]:
            choose(override.key_or_group, value, known[override.key_or_group])


def _compose(overrides: Sequence[str]) -> DictConfig:
    try:
        config = compose("train", list(overrides), return_hydra_config=True)
        choice = str(config.hydra.runtime.choices.task)
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        config.run_dir = config.run_dir or f"outputs/{choice}/${{run_id}}"
        OmegaConf.set_struct(config, True)
    except (HydraException, OmegaConfBaseException) as error:
        raise _told(error) from error
    return config


def _told(error: Exception) -> UserError:
    """Return what Hydra or OmegaConf has to say in one sentence."""
    return UserError(f"configuration: {str(error).strip().splitlines()[0]}")


def _check_value(override: Override, base: DictConfig) -> None:
    """Check that the key exists and the value has the type of the default."""
    key = override.key_or_group
    if override.is_add() or override.is_force_add() or override.is_delete():
        return
    parent, _, leaf = key.rpartition(".")
    holder = OmegaConf.select(base, parent) if parent else base
    if not isinstance(holder, DictConfig | ListConfig) or (isinstance(holder, DictConfig) and leaf not in holder):
        raise UserError(f"unknown key '{key}'{suggestion(key, _keys(base))}{_siblings(base, key)}")
    _check_type(key, override.value(), OmegaConf.select(base, key))


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield every key of the config, dotted."""
    for key, value in config.items_ex(resolve=False):
        dotted = prefix + str(key)
        yield dotted
        if isinstance(value, DictConfig):
            yield from _keys(value, dotted + ".")


def _siblings(base: DictConfig, key: str) -> str:
    """Return the keys that exist beside an unknown one."""
    parent = key.rpartition(".")[0]
    holder = OmegaConf.select(base, parent) if parent else base
    if not isinstance(holder, DictConfig):
        return f"; choose from: {', '.join(str(k) for k in base)}"
    prefix = f"{parent}." if parent else ""
    names = [prefix + str(name) for name in holder if not str(name).startswith("_")]
    return f"; choose from: {', '.join(names)} (add a new key with +{key}=VALUE)"


def _check_type(key: str, value: Any, default: Any) -> None:
    """Raise if ``value`` cannot stand where ``default`` stands; rules and null defaults are looser."""
    if key in RULES or value is None or default is None:
        return
    expected: tuple[type, ...]
    if isinstance(default, bool):
        expected, name = (bool,), "true or false"
    elif isinstance(default, int):
        expected, name = (int,), "a whole number"
    elif isinstance(default, float):
        expected, name = (int, float), "a number"
    elif isinstance(default, str):
        expected, name = (str, int, float), "a text"
    elif isinstance(default, ListConfig):
        expected, name = (list,), "a list"
    else:
        return
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
        raise UserError(f"{key}={value} has the wrong type; give {name}, such as {default}")


def _check_ranges(config: DictConfig) -> None:
    """Check every key that has a rule, wherever its value came from."""
    for key, rule in RULES.items():
        section, _, leaf = key.rpartition(".")
        try:
            holder = OmegaConf.select(config, section) if section else config
            if not isinstance(holder, DictConfig) or leaf not in holder:
                continue
            value = holder[leaf]
        except OmegaConfBaseException as error:
            raise _told(error) from error
        problem = rule(value)
        if problem:
            raise UserError(f"{key}={value} {problem}")


def _name_run(config: DictConfig) -> None:
    """Fix the run's id, the same on all processes of a job."""
    if config.run_id is None:
        job = os.environ.get("SLURM_JOB_ID")
        fresh = f"job-{job}" if job else time.strftime("%Y%m%d-%H%M%S-") + f"{time.time_ns() // 10**6 % 1000:03d}"
        if not job and "NIBKIT_RUN_ID" not in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1:
            fresh = _agreed(fresh)
        # processes that a strategy launches from this one inherit it
        config.run_id = os.environ.setdefault("NIBKIT_RUN_ID", fresh)


def _agreed(fresh: str) -> str:
    """Return the id of the process that was first to propose one, of those that ``torchrun`` has started."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise UserError("run_id is not set, and processes that were started apart cannot agree on one; set run_id=NAME")
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    agreed: bytes = store.compare_set("nibkit/run_id", "", fresh)
    return agreed.decode()
