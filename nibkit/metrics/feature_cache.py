"""Features of real images, remembered by what the images show, so that a network sees each of them once.

The key of an image is the digest of its 8-bit pixels and its size: another crop, size or file has another. So the
memory needs no names, holds whichever images came by, and is right for any part of them, on any number of processes.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nibkit.errors import UserError
from nibkit.files import whole_file

LIMIT = 20_000  # images of one network on disk, 160 MB of 2048 features; the oldest leave first
Features = dict[bytes, Tensor]  # [D] float32 on the CPU, by the digest of the image


class FeatureCache:
    """The features of one network, in memory and in one file.

    Args:
        folder: of the file; None for none.
        network: what names the network, see :func:`network_digest`.
    """

    def __init__(self, folder: Path | None, network: str) -> None:
        self.file = None if folder is None else folder / f"features-{network}.npz"
        self.known = self._load()

    def _load(self) -> Features:
        """Return what the file holds; a damaged one holds nothing. Each part of an npz has a checksum."""
        if self.file is None or not self.file.is_file():
            return {}
        try:
            with np.load(self.file) as parts:
                digests, features = parts["digests"], torch.from_numpy(parts["features"])
            return {row.tobytes(): one for row, one in zip(digests, features, strict=True)}
        except Exception:  # numpy and zipfile raise many kinds for a broken file
            return {}

    def add(self, features: Mapping[bytes, Tensor]) -> None:
        """Remember the features of images, in memory."""
        self.known |= {digest: one.cpu() for digest, one in features.items()}

    def save(self) -> None:
        """Write what is new to the file; one that cannot be written costs time, not the run."""
        if self.file is None:
            return
        stored = self._load()  # anew: another run may have added to it
        if self.known.keys() <= stored.keys():
            return
        every = dict(list((stored | self.known).items())[-LIMIT:])
        digests = np.stack([np.frombuffer(digest, np.uint8) for digest in every])
        with contextlib.suppress(UserError), whole_file(self.file) as partial, partial.open("wb") as file:
            np.savez(file, digests=digests, features=torch.stack(list(every.values())).numpy())


def image_digest(image: Tensor) -> bytes:
    """Return the digest of an 8-bit image ``[C, H, W]``: of its pixels and its size."""
    pixels = image.cpu().contiguous().numpy()
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).digest()


def network_digest(network: nn.Module) -> str:
    """Return 16 hexadecimal digits of a network's weights, their names and shapes."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {list(value.shape)} ".encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
