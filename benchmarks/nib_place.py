"""Where SPADE's NIB should go: how much of the network varies on a constant label map, and what it costs.

A branch that gives a constant gamma and beta modulates nothing. The map is constant beyond the reach of the border, so
that only the NIB can make a branch vary there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.figures import Figure
from benchmarks.timing import interleave, ratios
from nibkit.backbones.spade import PLACES, SpatialNorm
from nibkit.registry import build_backbone

CLASSES, SIZE, REACH = 12, 128, 3
SPEC = {"name": "spade", "in_channels": CLASSES, "width": 16, "hidden": 32, "ups": 5}
FEATURE = {"form": "feature", "noise": "dynamic", "channels": 1}


def measure(quick: bool = False) -> Iterator[Figure]:
    """Yield, per place: branches that vary, their spread beside that on a varied map, and the time."""
    networks = {"none": _network("branches", {"form": "none"})} | {p: _network(p, FEATURE) for p in PLACES}
    calls = {name: partial(_forward, network) for name, network in networks.items()}
    times = interleave(calls, 3 if quick else 15)
    for name, network in networks.items():
        constant, varied = (_deviations(network, label) for label in (_constant(), _varied()))
        kept = [c / v for c, v in zip(constant, varied, strict=True)]
        share = sum(part > 1e-3 for part in kept) / len(kept)
        yield Figure(f"{name}: branches that vary", [100 * share], "%")
        yield Figure(f"{name}: deviation, constant / varied map", [sorted(kept)[len(kept) // 2]])
        yield Figure(f"{name}: time / without NIB", ratios(times, name, "none"), better="low")


def _forward(network: nn.Module) -> None:
    with torch.no_grad():
        network(_varied())


def _network(place: str, nib: dict[str, object]) -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(SPEC | {"nib_place": place}, nib).to(memory_format=torch.channels_last)


def _constant() -> Tensor:
    planes = torch.zeros(1, CLASSES, SIZE, SIZE)
    planes[:, 3] = 1
    return planes


def _varied() -> Tensor:
    """Return a map of blocks of 8x8 pixels of drawn classes."""
    ids = torch.randint(0, CLASSES, (1, SIZE // 8, SIZE // 8), generator=torch.Generator().manual_seed(0))
    planes = torch.nn.functional.one_hot(ids, CLASSES).permute(0, 3, 1, 2).float()
    return planes.repeat_interleave(8, 2).repeat_interleave(8, 3)


def _deviations(network: nn.Module, label: Tensor) -> list[float]:
    """Return the standard deviation over places of each branch's gamma and beta, those of 16 pixels and more a side."""
    seen: list[float] = []

    def note(_module: nn.Module, _arguments: object, answer: Tensor) -> None:
        if answer.shape[-1] >= 16:
            seen.append(float(answer[..., REACH:-REACH, REACH:-REACH].std(dim=(-2, -1)).mean()))

    norms = [module for module in network.modules() if isinstance(module, SpatialNorm)]
    hooks = [norm.gamma_beta.register_forward_hook(note) for norm in norms]
    with torch.no_grad():
        network(label)
    for hook in hooks:
        hook.remove()
    return seen
