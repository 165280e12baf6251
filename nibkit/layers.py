"""Does a network suffer from flatness degradation? How much of its features varies when its image does not.

    kept = s(constant image) / s(textured image),   s: standard deviation over places, mean over channels

layer by layer. Near the border zeros leak in and vary whatever the image is, so convolutions are padded circularly
while it is measured, and only the inner half of each side counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import torch
from torch import Tensor, nn

from nibkit.errors import UserError
from nibkit.nib import NIB
from nibkit.retrofit import NoiseBranch
from nibkit.stem import Example, any_image, at_rest, call

FLAT = 1e-3  # a layer that keeps less is flat; rounding alone leaves some 1e-6
SIZE = 256  # side of the images, pixels
LEAST = 4  # a side below that has no inside
OUTPUT = "(output)"


@dataclass(frozen=True)
class Layer:
    """What one layer makes of both images.

    Args:
        name: of the layer; ``(output)`` for what the network returns.
        constant: standard deviation over places for a constant image, mean over channels.
        textured: the same for a textured one.
    """

    name: str
    constant: float
    textured: float

    @property
    def kept(self) -> float:
        """The share of the variation that survives a constant image; 0 where the textured one leaves none either."""
        return self.constant / self.textured if self.textured else 0.0

    @property
    def flat(self) -> bool:
        """Whether the layer answers a constant image by a constant."""
        return self.kept < FLAT


@dataclass(frozen=True)
class Flatness:
    """The layers of a network in the order of their calls, the output last. ``print`` shows a table.

    Args:
        layers: of the network.
        equipped: there is a NIB in it.
    """

    layers: tuple[Layer, ...]
    equipped: bool = False

    @property
    def suffers(self) -> bool:
        """Whether the network answers a constant image by a constant."""
        return self.layers[-1].flat

    def __str__(self) -> str:
        """Return a table and the verdict."""
        width = max(len(layer.name) for layer in self.layers)
        head = f"{'layer':{width}}  constant  textured    kept"
        rows = [
            f"{layer.name:{width}}  {layer.constant:8.1e}  {layer.textured:8.1e}  {layer.kept:6.1%}"
            for layer in self.layers
        ]
        return "\n".join([head, *rows, self.verdict])

    @property
    def verdict(self) -> str:
        """One sentence."""
        flat = sum(layer.flat for layer in self.layers)
        if self.suffers:
            cure = (
                "its NIB has not learned yet: train it" if self.equipped else "nibkit.equip(model) and training cure it"
            )
            return (
                f"This network goes flat: {flat} of {len(self.layers)} layers answer a constant image by a constant, "
                f"the output among them; {cure}."
            )
        return (
            f"This network does not go flat: its output keeps {self.layers[-1].kept:.0%} of its variation for a "
            f"constant image ({flat} of {len(self.layers)} layers are flat)."
        )

    def plot(self, path: str | Path) -> None:
        """Write the share that each layer keeps as PNG."""
        from matplotlib.figure import Figure

        from nibkit.plots import save_plot

        figure = Figure(figsize=(max(6.0, 0.22 * len(self.layers)), 4), layout="constrained")
        axes = figure.subplots()
        heights = [max(layer.kept, FLAT / 10) for layer in self.layers]
        colors = ["#c0392b" if layer.flat else "#31688e" for layer in self.layers]
        axes.bar(range(len(heights)), heights, color=colors)
        axes.set_yscale("log")
        axes.set_ylim(FLAT / 20, max(2.0, *heights))
        axes.axhline(FLAT, color="gray", linestyle="--", linewidth=0.8)
        axes.set_xticks(range(len(heights)), [layer.name for layer in self.layers], rotation=90, fontsize=7)
        axes.set_ylabel("share of the variation kept")
        lines = ["Constant against textured image (red, below the dashes: flat)", *wrap(self.verdict, 88)]
        axes.set_title("\n".join(lines), fontsize=8)
        save_plot(figure, Path(path))


def flatness(
    model: nn.Module,
    example: Example | None = None,
    *,
    level: float = 0.4,
    input_range: tuple[float, float] = (-1.0, 1.0),
) -> Flatness:
    """Measure what of a network's features survives a constant image.

    Args:
        model: any network with convolutions over images.
        example: what it is called with, an image ``[B, C, H, W]`` or all arguments; its first image is replaced. By
            default an image of 256x256 pixels.
        level: of the constant image, as a share of the input range.
        input_range: the least and the largest value of the images that the network takes.

    Raises:
        UserError: it has no convolution over images, or cannot be called so.
    """
    example = any_image(model, SIZE) if example is None else example
    low, high = input_range
    textured = _texture(_image_of(example)) * (high - low) + low
    constant = torch.full_like(textured, low + level * (high - low))
    seen = [_deviations(model, _replaced(example, image)) for image in (constant, textured)]
    layers = [Layer(name, value, seen[1][name]) for name, value in seen[0].items() if name in seen[1]]
    if not layers:
        raise UserError(
            f"no layer of this network has features of {LEAST}x{LEAST} places or more; give a larger example=..."
        )
    return Flatness(tuple(layers), any(isinstance(module, NIB | NoiseBranch) for module in model.modules()))


def _deviations(model: nn.Module, example: Example) -> dict[str, float]:
    """Return the deviation over places of each layer's features, by its name in the order of the calls."""
    seen: dict[str, float] = {}
    with ExitStack() as stack:
        stack.enter_context(at_rest(model))
        stack.enter_context(_borderless(model))
        stack.enter_context(torch.no_grad())
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                stack.callback(layer.register_forward_hook(lambda _m, _a, y, name=name: _note(seen, name, y)).remove)
        try:
            _note(seen, OUTPUT, call(model, example))
        except Exception as error:  # whatever a network that is not ours raises
            raise UserError(
                f"this network could not be called ({type(error).__name__}: {' '.join(str(error).split())[:200]}); "
                "give example=..., an image [B, C, H, W] or all arguments of a call"
            ) from error
    return seen


def _note(seen: dict[str, float], name: str, answer: Any) -> None:
    """Keep the deviation of features ``[B, C, H, W]``; of a layer that is called again, the last."""
    features = next(_images(answer), None)
    if features is None or min(features.shape[-2:]) < LEAST:
        return
    height, width = features.shape[-2:]
    inner = features[..., height // 4 : height - height // 4, width // 4 : width - width // 4]
    seen.pop(name, None)
    seen[name] = float(inner.double().std(dim=(-2, -1), correction=0).mean())


@contextmanager
def _borderless(model: nn.Module) -> Iterator[None]:
    """Pad a network's convolutions circularly for a while."""
    padded = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and layer.padding_mode != "circular"]
    modes = [layer.padding_mode for layer in padded]
    for layer in padded:
        layer.padding_mode = "circular"
    try:
        yield
    finally:
        for layer, mode in zip(padded, modes, strict=True):
            layer.padding_mode = mode


def _images(value: Any) -> Iterator[Tensor]:
    """Yield the tensors ``[B, C, H, W]`` in an answer: itself, or in tuples, dictionaries and objects of fields."""
    if isinstance(value, Tensor):
        if value.dim() == 4 and value.is_floating_point():
            yield value
        return
    if isinstance(value, Mapping):
        value = list(value.values())
    elif not isinstance(value, list | tuple):
        value = list(getattr(value, "__dict__", {}).values())
    for part in value:
        yield from _images(part)


def _image_of(example: Example) -> Tensor:
    image = next(_images(example), None)
    if image is None:
        raise UserError("example holds no image, a float tensor [B, C, H, W]")
    return image


def _replaced(example: Example, image: Tensor) -> Example:
    """Return the example with ``image`` in the place of its first image."""
    if isinstance(example, Tensor):
        return image
    old = _image_of(example)
    if isinstance(example, Mapping):
        return {key: image if value is old else value for key, value in example.items()}
    return [image if value is old else value for value in example]


def _texture(like: Tensor) -> Tensor:
    """Return white noise in [0, 1], always the same, in the shape of ``like``."""
    noise = torch.rand(like.shape, generator=torch.Generator().manual_seed(0))
    return noise.to(like)
