"""Features of VGG16 and VGG19 trained on ImageNet, for losses that compare what images show.

The networks are torchvision's, cut after the layer that is asked for. Their weights come from torchvision's own file
or from a file of the user's, which need not hold more than the convolutions up to that layer.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn

from nibkit.errors import UserError, choose

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's RGB on [0, 1]
STD = (0.229, 0.224, 0.225)
NETWORKS = {"vgg16": "D", "vgg19": "E"}  # and what torchvision calls their layouts
LAYER = "conv4_1"
PERCEPTUAL_LAYER = "conv5_1"  # the last that the perceptual loss reads
PATIENCE = 10  # seconds without an answer, after which a download is given up
WEIGHT_NAME = re.compile(r"(?:features\.)?(\d+)\.(weight|bias)")


def vgg_features(network: str = "vgg19", weights_path: str | Path | None = None, layer: str = LAYER) -> nn.Sequential:
    """Return VGG up to a layer, frozen: from RGB images ``[B, 3, H, W]`` in [-1, 1] to ``[B, C, H', W']``.

    The features are the output of the convolution, before its ReLU, with torchvision's scale of values.

    Args:
        network: ``vgg16`` or ``vgg19``; with ``weights_path`` it is the one that the file holds.
        weights_path: ``.safetensors`` or ``.pth`` with torchvision's names, ``features.N.weight`` and ``.bias``, with
            or without ``features.``; others are ignored. None: torchvision's ImageNet weights.
        layer: ``convB_N``, the N-th convolution of block B, both counted from 1.

    Raises:
        UserError: unknown network or layer; a file that is missing, broken or of another network, or ends too early.
    """
    network = choose("VGG network", network, NETWORKS)
    path = torchvision_file(network) if weights_path is None else Path(weights_path)
    state = read_convolutions(path)
    network = find_network(state, path)
    numbers = convolutions(network)
    last = numbers[choose(f"layer of {network}", layer, numbers)]
    if last not in numbers_of(state):
        end = list(numbers)[len(numbers_of(state)) - 1]
        raise UserError(f"VGG weights '{path}' end with {end}, but {layer} is needed; give a file that holds more")
    layers = cut_network(network, last)
    try:
        # the tensors are taken over, for the layers have none yet
        layers.load_state_dict({key: state[key] for key in layers.state_dict()}, assign=True)
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"VGG weights '{path}' are not those of {network}: a weight or bias is missing or has another shape; "
            "give torchvision's VGG16 or VGG19"
        ) from error
    return nn.Sequential(Normalize(), *layers).requires_grad_(False).eval()


class VggStages(nn.Module):
    """The first answers of each of VGG's five blocks, relu1_1 to relu5_1, in one pass.

    Args:
        features: VGG up to ``conv5_1``, as :func:`vgg_features` returns it.
    """

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        layers = list(features)
        pools = [number for number, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
        # a block is a pooling, a convolution and its ReLU; before the first block stands the normalisation
        ends = [3, *(pool + 3 for pool in pools)]
        layers.append(nn.ReLU())  # of conv5_1
        self.stages = nn.ModuleList(
            nn.Sequential(*layers[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features ``[B, C', H', W']`` of RGB images ``[B, 3, H, W]`` in [-1, 1], after the ReLUs."""
        answers: list[Tensor] = []
        for stage in self.stages:
            image = stage(image)
            answers.append(image)
        return answers


def check_vgg(weights_path: str | Path | None = None, layer: str = LAYER) -> None:
    """Make sure, before a training begins, that :func:`vgg_features` will have its weights.

    Args:
        weights_path: as there; without one, torchvision's VGG19 is downloaded if it is not there yet.
        layer: up to which the file must hold weights.

    Raises:
        UserError: the file cannot be used, or torchvision's is missing and cannot be downloaded.
    """
    if weights_path is None:
        torchvision_file("vgg19")
    else:
        vgg_features(weights_path=weights_path, layer=layer)


class Normalize(nn.Module):
    """From [-1, 1] to the mean and standard deviation that torchvision's networks were trained with."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return the normalised ``image`` ``[B, 3, H, W]``, RGB in [-1, 1]."""
        return ((image + 1) / 2 - self.mean) / self.std


def convolutions(network: str) -> dict[str, int]:
    """Return the number of each convolution among torchvision's ``features``, by its name, from the first on."""
    from torchvision.models import vgg  # type: ignore[import-untyped]

    numbers, block, within, number = {}, 1, 1, 0
    for width in vgg.cfgs[NETWORKS[network]]:
        if width == "M":  # a pooling ends a block
            block, within, number = block + 1, 1, number + 1
        else:
            numbers[f"conv{block}_{within}"] = number
            within, number = within + 1, number + 2  # the convolution and its ReLU
    return numbers


def cut_network(network: str, last: int) -> nn.Sequential:
    """Return torchvision's features 0 to ``last``, without memory for weights; draws no random numbers."""
    from torchvision.models import vgg

    with torch.device("meta"):
        layers: nn.Sequential = vgg.make_layers(vgg.cfgs[NETWORKS[network]])[: last + 1]
    return layers


def read_convolutions(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that are named as those of features, by ``N.weight`` and ``N.bias``, float32.

    Raises:
        UserError: missing, unreadable, or no file of tensors.
    """
    if not path.is_file():
        raise UserError(f"VGG weights '{path}' do not exist; give a .safetensors or .pth file of VGG16 or VGG19")
    try:
        tensors = read_tensors(path)
    except PermissionError as error:
        raise UserError(f"VGG weights '{path}' cannot be read: {error.strerror}") from error
    except Exception as error:  # torch raises many kinds for a broken file
        raise UserError(
            f"VGG weights '{path}' are truncated or no file of tensors; give a .safetensors or .pth file of VGG16 or "
            "VGG19"
        ) from error
    names = ((WEIGHT_NAME.fullmatch(str(key)), value) for key, value in tensors.items())
    return {f"{name[1]}.{name[2]}": value.float() for name, value in names if name and isinstance(value, Tensor)}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return what a file holds; plain values and tensors, never code."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def numbers_of(state: dict[str, Tensor]) -> list[int]:
    """Return the numbers of the features that ``state`` holds weights of, sorted."""
    return sorted({int(key.partition(".")[0]) for key in state})


def find_network(state: dict[str, Tensor], path: Path) -> str:
    """Return the network whose first convolutions are those of ``state``.

    Raises:
        UserError: it is neither.
    """
    held = numbers_of(state)
    for network in NETWORKS:
        if held and held == list(convolutions(network).values())[: len(held)]:
            return network
    found = f"weights of the features {', '.join(map(str, held))}" if held else "no 'features.N.weight'"
    raise UserError(
        f"VGG weights '{path}' hold {found}, neither VGG16 nor VGG19; give a file with torchvision's names, "
        "'features.0.weight' and so on, without batch normalization"
    )


def torchvision_file(network: str) -> Path:
    """Return torchvision's ImageNet weights in the folder of ``torch.hub``, downloaded if they are not there.

    Raises:
        UserError: they are not there and cannot be downloaded.
    """
    from torchvision.models import get_model_weights

    url: str = get_model_weights(network)["IMAGENET1K_V1"].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with short_patience():
            torch.hub.download_url_to_file(url, str(path), path.stem.rpartition("-")[2])
    except (OSError, HTTPException, RuntimeError) as error:  # no network or disk; cut off; not the right file
        raise UserError(
            f"torchvision's weights of {network.upper()}, {path.name}, are missing and cannot be downloaded "
            f"({type(error).__name__}); put the file into '{path.parent}', or set task.vgg_weights=FILE (VGG16 or "
            "VGG19), or the weight of the term to 0 (task.contrast_weight=0, task.perceptual_weight=0)"
        ) from error
    return path


@contextmanager
def short_patience() -> Iterator[None]:
    """Give up connections that do not answer, which the system would wait minutes for."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
