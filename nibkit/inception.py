"""Inception as FID has it: torch-fidelity's port of the network of 2015, with its way of resizing.

Neither torchvision's Inception nor another way of resizing gives numbers that compare with published FIDs. The weights
are a file of 95 MB, looked for before anything is trained.
"""

from __future__ import annotations

import io
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn

from nibkit.errors import UserError
from nibkit.vgg import read_tensors, short_patience

FILE_NAMES = (  # torch-fidelity's and pytorch-fid's name of the same file
    "weights-inception-2015-12-05-6726825d.pth",
    "pt_inception-2015-12-05-6726825d.pth",
)
SHA256 = "6726825d"  # its first digits


class InceptionFeatures(nn.Module):
    """The 2048 features of Inception's last pooling.

    Args:
        network: torch-fidelity's, which resizes to 299x299 as TensorFlow 1 did, without antialiasing.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return ``[B, 2048]`` of uint8 images ``[B, 3, H, W]``, RGB."""
        features: Tensor = self.network(images)[0]
        return features


def find_inception(weights_path: str | Path | None = None, download: bool = False) -> Path:
    """Return the file of Inception's weights; call it before a training begins. Nothing is read yet.

    Args:
        weights_path: a file of the user's; None for that in the folder of ``torch.hub``.
        download: whether to download it into that folder if it is not there.

    Raises:
        UserError: there is no such file, or it cannot be downloaded.
    """
    if weights_path is not None:
        if not Path(weights_path).is_file():
            raise UserError(f"metrics.fid.weights_path='{weights_path}' does not exist or is no file; {_ways_out()}")
        return Path(weights_path)
    for path in (_folder() / name for name in FILE_NAMES):
        if path.is_file():
            return path
    if not download:
        raise UserError(
            f"Inception's weights, {FILE_NAMES[0]}, are missing; set metrics.fid.mode=on to download them, or "
            f"{_ways_out()}"
        )
    return _download(_folder() / FILE_NAMES[0])


def inception_features(path: Path) -> InceptionFeatures:
    """Return Inception with the weights of a file, frozen, in eval mode, on the CPU; draws no random numbers.

    Args:
        path: as :func:`find_inception` returns it; ``.pth``, or ``.safetensors`` with the same names.

    Raises:
        UserError: the file cannot be read or holds something else.
    """
    state = _read(path)
    try:
        network = _build(state)
    except RuntimeError as error:
        raise UserError(
            f"'{path}' is not the Inception of FID: weights are missing, have other shapes or are too many "
            f"(torchvision's own Inception is another network); {_ways_out()}"
        ) from error
    return InceptionFeatures(network.float()).requires_grad_(False).eval()


def _read(path: Path) -> dict[str, Tensor]:
    try:
        tensors = read_tensors(path)
    except PermissionError as error:
        raise UserError(f"Inception's weights '{path}' cannot be read: {error.strerror}; {_ways_out()}") from error
    except Exception as error:  # torch raises many kinds for a broken file
        raise UserError(f"Inception's weights '{path}' are truncated or no file of tensors; {_ways_out()}") from error
    return {str(name): value for name, value in tensors.items() if isinstance(value, Tensor)}


def _build(state: dict[str, Tensor]) -> nn.Module:
    """Return torch-fidelity's network with these weights; a RuntimeError if they are not its."""
    from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[import-untyped]
        FeatureExtractorInceptionV3,
    )

    # it insists on reading a file, without regard for what is in it: a file in memory, of shapes alone
    shapes = io.BytesIO()
    torch.save({name: value.to("meta") for name, value in state.items()}, shapes)
    shapes.seek(0)
    with torch.device("meta"):
        network: nn.Module = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], shapes)
    network.load_state_dict(state, assign=True)
    return network


def _download(path: Path) -> Path:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with short_patience():
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), SHA256)
    except (OSError, HTTPException, RuntimeError) as error:  # no network or disk; cut off; not the right file
        raise UserError(
            f"Inception's weights, {path.name}, are missing and cannot be downloaded ({type(error).__name__}); "
            f"{_ways_out()}"
        ) from error
    return path


def _folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _ways_out() -> str:
    return (
        f"get {FILE_NAMES[0]} from torch-fidelity's releases and put it into '{_folder()}' or name it in "
        "metrics.fid.weights_path, or set metrics.fid.mode=off, or metrics.frechet.weights_path=FILE (VGG16 or VGG19) "
        "for the distance of other features"
    )
