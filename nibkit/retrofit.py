"""A NIB for a network that is there already, trained or not.

    f1(I + N) + f2(I - N) = g(I) + h(N),   g = f1 + f2, h = f1 - f2

The convolution that reads the image stays what it is, g, and is joined by h, a convolution over the noise that begins
at 0: the network answers the same, bit for bit, until it learns, and h has a gradient from the first step on. Both
forms are the same functions; weights on I + N and on I - N would be the image's weights only to a rounding.

The branch h is a child of the convolution and is added by a forward hook: the layer keeps its class, its names in a
checkpoint, and whatever holds a reference to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nibkit.errors import UserError
from nibkit.nib import NIB, make_noise
from nibkit.stem import Example, call, find_stem, get_stem, named_convolutions

CHILD = "nib"  # the name of the branch inside the convolution
SHARE = 0.15  # of the input's range: the paper's .3 on [-1, 1]
FIELD = 2**20  # in training the noise is read anywhere in this square, pixels
M = TypeVar("M", bound=nn.Module)


def equip(
    model: M,
    layer: str | None = None,
    *,
    std: float | None = None,
    input_range: tuple[float, float] = (-1.0, 1.0),
    noise: str = "stationary",
    seed: int = 0,
    example: Example | None = None,
) -> M:
    """Give a network a NIB, in place; it answers as before until it is trained.

    Args:
        model: any network whose image is read by an ``nn.Conv2d``.
        layer: the name of that convolution; None to find it by a trial call.
        std: standard deviation of the noise; by default 0.15 of the input range's width, as in the paper.
        input_range: the least and the largest value of the images that the network takes, (0, 1) say.
        noise: ``stationary``, one field for all images, read at a place drawn anew for each in training;
            ``dynamic``, drawn anew for each image and call; ``blue``, a blue-noise mask.
        seed: of the field.
        example: what the network is called with to find the convolution: an image ``[B, C, H, W]``, or all arguments
            as a tuple or dictionary. By default a random image of 64x64 pixels.

    Returns:
        The same network. Its new weights are :func:`nib_weights`.

    Raises:
        UserError: no convolution reads the image, several do, or there is a NIB already.
    """
    scale = _scale(std, input_range)
    named_convolutions(model)  # raises for what is no network of images
    if any(isinstance(module, NIB) for module in model.modules()):
        raise UserError("this network was built with a NIB; build it with nib=none to equip it anew")
    name = find_stem(model, example) if layer is None else layer
    conv = get_stem(model, name)
    if isinstance(getattr(conv, CHILD, None), NoiseBranch):
        raise UserError(
            f"'{name}' has a NIB already; take it away by nibkit.unequip(model) first, or name another layer"
        )
    conv.add_module(CHILD, NoiseBranch(conv, scale, noise, seed).train(conv.training))
    conv.register_forward_hook(add_noise)
    return model


def unequip(model: M, drop: bool = False) -> M:
    """Take all NIBs that :func:`equip` gave away again, in place.

    Where the noise has not learned any weight, the network answers the same, bit for bit.

    Args:
        model: an equipped network.
        drop: take them away even where the noise has weights other than 0, which changes what the network answers.

    Raises:
        UserError: there is no NIB, or noise with weights without ``drop``.
    """
    equipped = {
        name: layer for name, layer in model.named_modules() if isinstance(getattr(layer, CHILD, None), NoiseBranch)
    }
    if not equipped:
        raise UserError("this network has no NIB to take away; nibkit.equip(model) gives one")
    for name, conv in equipped.items():
        largest = float(conv.get_submodule(CHILD).get_parameter("weight").detach().abs().max())
        if largest and not drop:
            raise UserError(
                f"the noise of '{name}' has learned weights (up to {largest:.3g}), without which the network answers "
                "otherwise; unequip(model, drop=True) takes them away all the same"
            )
    for conv in equipped.values():
        delattr(conv, CHILD)
        for key in [key for key, hook in conv._forward_hooks.items() if hook is add_noise]:
            del conv._forward_hooks[key]
    return model


def nib_weights(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights on the noise of an equipped network, for an optimizer of their own say."""
    return [branch.weight for branch in model.modules() if isinstance(branch, NoiseBranch)]


@contextmanager
def held_noise(model: M, example: Example) -> Iterator[M]:
    """Hold the noise of an equipped network as constants for a while, to export it as a graph.

        with nibkit.held_noise(model.eval(), image):
            torch.onnx.export(model, (image,), "model.onnx", dynamo=True)

    Args:
        model: in evaluation mode.
        example: what it is called with, of the largest size that the graph shall take.
    """
    branches = [module for module in model.modules() if isinstance(module, NoiseBranch)]
    with ExitStack() as stack, torch.no_grad():
        for branch in branches:
            stack.callback(branch.register_forward_pre_hook(lambda b, sizes: b.hold(*sizes[1:])).remove)
        call(model, example)
    try:
        yield model
    finally:
        for branch in branches:
            branch.field = None


class NoiseBranch(nn.Module):
    """h: a convolution over the noise field, beside one over the image.

    The field goes on beyond the image's border, so that no padding is needed, whatever that of the image is.

    Args:
        conv: the convolution over the image, whose geometry it takes.
        std: of the noise.
        noise: see :func:`equip`.
        seed: of the field.
    """

    field: Tensor | None

    def __init__(self, conv: nn.Conv2d, std: float, noise: str, seed: int) -> None:
        super().__init__()
        if noise == "grid":
            raise UserError("noise=grid is the paper's bad control; choose from: blue, dynamic, stationary")
        self.noise, self.kind = make_noise(noise, "normal", std, seed), noise
        self.channels, self.kernel_size = conv.in_channels, conv.kernel_size
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups
        self.weight = nn.Parameter(torch.zeros_like(conv.weight), requires_grad=conv.weight.requires_grad)
        self.register_buffer("field", None, persistent=False)

    def hold(self, height: int, width: int) -> None:
        """Keep the noise for answers of at most ``height`` times ``width`` as a constant, for an exported graph."""
        device = self.weight.device
        self.field = self._read(1, *self._sides(height, width), torch.zeros(1, 2, dtype=torch.int64, device=device))

    def forward(self, batch: int, height: int, width: int) -> Tensor:
        """Return h(N) for answers ``[batch, out_channels, height, width]``."""
        return F.conv2d(
            self._noise(batch, *self._sides(height, width)),
            self.weight,
            None,
            self.stride,
            0,
            self.dilation,
            self.groups,
        )

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        """Return how many rows and columns of the field answers of a size are made of."""
        (ky, kx), (sy, sx), (dy, dx) = self.kernel_size, self.stride, self.dilation
        return (height - 1) * sy + dy * (ky - 1) + 1, (width - 1) * sx + dx * (kx - 1) + 1

    def _noise(self, batch: int, rows: int, columns: int) -> Tensor:
        if self.field is not None and not self.training:
            return self.field[..., :rows, :columns].expand(batch, -1, -1, -1)
        shape, device = (batch, 2), self.weight.device
        # always read at one place, a network would learn the few thousand values there
        origin = (
            torch.randint(FIELD, shape, device=device)
            if self.training
            else torch.zeros(shape, dtype=torch.int64, device=device)
        )
        return self._read(batch, rows, columns, origin)

    def _read(self, batch: int, rows: int, columns: int, origin: Tensor) -> Tensor:
        return self.noise(batch, self.channels, rows, columns, origin).to(self.weight.dtype)

    def extra_repr(self) -> str:
        """Return what ``print(model)`` shows."""
        return f"noise={self.kind}, channels={self.channels}"


def add_noise(conv: nn.Module, _arguments: tuple[Any, ...], answer: Tensor) -> Tensor:
    """Add h(N) to g(I): the hook of an equipped convolution."""
    noise: Tensor = conv.nib(len(answer), *answer.shape[-2:])  # type: ignore[operator]
    return answer + noise.to(answer.dtype)


def _scale(std: float | None, input_range: tuple[float, float]) -> float:
    """Return the standard deviation of the noise, or raise."""
    low, high = input_range
    if not high > low:
        raise UserError(f"input_range={input_range} is empty; write (LEAST, LARGEST), such as (0, 1)")
    scale = SHARE * (high - low) if std is None else std
    if not 0 < scale < float("inf"):
        raise UserError(f"std={std} is out of range; use a number above 0, or None for {SHARE * (high - low):g}")
    return scale
