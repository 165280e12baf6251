"""What is judged: a halftoner, how to make it, and everything that its figures depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import nibkit
from nibkit.classical import method_options
from nibkit.dither import Halftoner, classical, neural
from nibkit.weights import Weights, read_weights

# the code that the figures depend on, relative to the package
_JUDGES = ("metrics", "filters.py", "data/gray.py", "data/images.py", "reproduce/judge.py")
_CLASSICAL = (*_JUDGES, "classical", "refine.py", "losses/structure.py")
_NEURAL = (
    *_JUDGES,
    "backbones",
    "nib.py",
    "noise.py",
    "refine.py",
    "losses/structure.py",
    "classical/void_and_cluster.py",
    "tiles.py",
    "dither.py",
)


@dataclass(frozen=True)
class Method:
    """A way to halftone.

    Args:
        make: returns the halftoner; called when there is something to do.
        basis: plain values that decide its halftones and its speed.
        threads: that it runs on.
    """

    make: Callable[[], Halftoner]
    basis: dict[str, Any]
    threads: int = 1

    @property
    def key(self) -> str:
        """The hash of the basis."""
        return digest([json.dumps(self.basis, sort_keys=True).encode()])


def classical_method(name: str, **options: Any) -> Method:
    """Return a method of :data:`nibkit.classical.METHODS` with some options set."""
    settings = [f"{key}={value}" for key, value in options.items()]
    basis = {"method": name, "options": method_options(name) | options, "code": code_hash(_CLASSICAL)}
    return Method(lambda: classical(name, settings), basis)


def network_method(weights: str, sweeps: int | None = None) -> Method:
    """Return a trained network as a method.

    Args:
        weights: a shipped name, a ``.safetensors`` file or a checkpoint, of task dithering or halftoning.
        sweeps: of the refinement, in place of what the weights ask for.

    Raises:
        UserError: the weights cannot be used.
    """
    stored = read_weights(weights)
    halftoner = neural(weights, sweeps=sweeps)
    threads = torch.get_num_threads()
    basis = {"network": fingerprint(stored), "threads": threads, "code": code_hash(_NEURAL)}
    basis["refinement"] = stored.refinement | ({} if sweeps is None else {"sweeps": sweeps})
    return Method(lambda: halftoner, basis, threads)


def fingerprint(stored: Weights) -> str:
    """Return the hash of a network: how it is built, and its numbers."""
    built = json.dumps([stored.backbone, stored.nib], sort_keys=True).encode()
    numbers = (
        part for name, tensor in sorted(stored.state.items()) for part in (name.encode(), tensor.numpy().tobytes())
    )
    return digest([built, *numbers])


@lru_cache
def code_hash(places: tuple[str, ...]) -> str:
    """Return the hash of source files, and of those in folders, below the package."""
    home = Path(nibkit.__file__).parent
    files = {file for place in places for file in home.glob(place if place.endswith(".py") else f"{place}/*.py")}
    return digest(file.read_bytes() for file in sorted(files))


def digest(parts: Iterable[bytes]) -> str:
    """Return a short hash of parts."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:16]
