"""The precision of training: what a network computes in, and what never leaves float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

CPU_BF16 = {"amx_bf16", "avx512_bf16"}  # instructions that multiply bfloat16


def widened(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or in float64 if it is."""
    return x if x.dtype == torch.float64 else x.float()


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Leave autocast for a while: convolutions and matrix products take the precision of their tensors."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def fast_precision(accelerator: str) -> str:
    """Return Lightning's name of the fastest precision of training that changes no result beyond its noise.

    That is ``bf16-mixed`` where the device multiplies bfloat16 by instructions of its own, else ``32-true``. Weights,
    optimizer, losses and metrics stay in float32 in both.

    Args:
        accelerator: as of Lightning's trainer, ``cpu`` or ``cuda``; ``gpu`` is the same.
    """
    if accelerator in ("cuda", "gpu"):
        fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = accelerator == "cpu" and bool(CPU_BF16 & set(_instructions()))
    return "bf16-mixed" if fast else "32-true"


def _instructions() -> list[str]:
    """Return the names of the processor's instruction sets, none where they cannot be told."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return []
    return next((line.split() for line in lines if line.startswith("flags")), [])
