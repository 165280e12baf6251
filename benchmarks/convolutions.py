"""A network's own convolutions, noted as it runs, to be run alone: the floor that its time is held against.

    with Recorder(network) as convolutions:
        network(image)
    floor = run(convolutions, backward=False)  # call it to run them all once

They are run on tensors of the same shapes, layouts, device and type of numbers (that of autocast, where it is on),
with what pads them, activates them and adds them up left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Convolution:
    """All that the time of a two-dimensional convolution depends on.

    Args:
        image: shape of what it reads ``[B, C, H, W]``, padded where the padding is not by zeros.
        weight: shape of its weight.
        bias: whether it has one.
        stride: rows, columns.
        padding: rows, columns, of zeros.
        dilation: rows, columns.
        groups: of channels.
        output_padding: rows, columns; of a transposed one.
        transposed: whether it is one.
        image_last: the image lies in memory with its channels last.
        weight_last: the weight does.
        dtype: of the numbers that it computes with.
        device: where.
        image_grad: whether its image asks for a gradient.
        weight_grad: whether its weight does.
    """

    image: Shape
    weight: Shape
    bias: bool
    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int
    output_padding: Shape
    transposed: bool
    image_last: bool
    weight_last: bool
    dtype: torch.dtype
    device: torch.device
    image_grad: bool
    weight_grad: bool

    def __call__(self, image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the answer to tensors of these shapes."""
        if self.transposed:
            return F.conv_transpose2d(
                image, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
            )
        return F.conv2d(image, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class Recorder:
    """Notes the convolutions of a module's forward passes, in order, while it is entered.

    Args:
        module: its :class:`torch.nn.Conv2d` and :class:`torch.nn.ConvTranspose2d` are noted, at any depth.
    """

    def __init__(self, module: nn.Module) -> None:
        kinds = (nn.Conv2d, nn.ConvTranspose2d)
        self.layers = [layer for layer in module.modules() if isinstance(layer, kinds)]
        self.convolutions: list[Convolution] = []

    def __enter__(self) -> list[Convolution]:
        """Return the list that is filled as the module runs."""
        self.handles = [layer.register_forward_pre_hook(self._note) for layer in self.layers]
        return self.convolutions

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop noting."""
        for handle in self.handles:
            handle.remove()

    def _note(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        self.convolutions.append(_describe(layer, inputs[0]))


def _describe(layer: nn.Conv2d | nn.ConvTranspose2d, image: Tensor) -> Convolution:
    """Return what a layer does to an image."""
    if isinstance(layer.padding, str):
        raise TypeError(f"padding='{layer.padding}' is not known here; give it in pixels")
    by_zeros = layer.padding_mode == "zeros"
    around = (0, 0, 0, 0) if by_zeros else (0, 0, *(2 * side for side in layer.padding))
    kind, grad = image.device.type, torch.is_grad_enabled()
    weight_last = _last(layer.weight)
    return Convolution(
        image=tuple(side + more for side, more in zip(image.shape, around, strict=True)),
        weight=tuple(layer.weight.shape),
        bias=layer.bias is not None,
        stride=layer.stride,
        padding=layer.padding if by_zeros else (0, 0),
        dilation=layer.dilation,
        groups=layer.groups,
        output_padding=tuple(layer.output_padding),
        transposed=isinstance(layer, nn.ConvTranspose2d),
        image_last=_last(image) or (image.shape[1] == 1 and weight_last),
        weight_last=weight_last,
        dtype=torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else image.dtype,
        device=image.device,
        image_grad=grad and image.requires_grad,
        weight_grad=grad and layer.weight.requires_grad,
    )


def _last(x: Tensor) -> bool:
    """Return whether the channels lie last in memory; a single channel has no place of its own."""
    return x.shape[1] > 1 and x.stride(1) == 1


def run(convolutions: Sequence[Convolution], backward: bool) -> Callable[[], None]:
    """Return a function that runs the convolutions once, each by itself, in their order.

    All read the same memory, the first part of it: in a network, too, a convolution reads what was just written.

    Args:
        convolutions: at least one.
        backward: after each, also its gradients, of what asked for one when it was noted.
    """
    largest: dict[tuple[torch.dtype, torch.device], int] = {}
    for c in convolutions:
        largest[c.dtype, c.device] = max(math.prod(c.image), largest.get((c.dtype, c.device), 0))
    stores = {key: torch.randn(size, dtype=key[0], device=key[1]) for key, size in largest.items()}
    calls = [_call(c, stores[c.dtype, c.device], backward) for c in convolutions]

    def run_all() -> None:
        for call in calls:
            call()

    return run_all


def _call(convolution: Convolution, store: Tensor, backward: bool) -> Callable[[], object]:
    """Return one convolution on tensors of its own, which reads its image from ``store``."""
    flat = store[: math.prod(convolution.image)]
    image = _laid_out(flat, convolution.image, convolution.image_last)
    values = 0.01 * torch.randn(math.prod(convolution.weight), dtype=store.dtype, device=store.device)
    weight = _laid_out(values, convolution.weight, convolution.weight_last)
    out = convolution.weight[1] * convolution.groups if convolution.transposed else convolution.weight[0]
    bias = torch.zeros(out, dtype=store.dtype, device=store.device) if convolution.bias else None
    if not backward:
        return lambda: _forward(convolution, image, weight, bias)
    wanted = [image] if convolution.image_grad else []
    wanted += [x for x in (weight, bias) if x is not None] if convolution.weight_grad else []
    for tensor in wanted:
        tensor.requires_grad_()
    grad = torch.ones_like(_forward(convolution, image, weight, bias))  # of the answer, laid out as it is
    return lambda: _backward(convolution(image, weight, bias), wanted, grad)


def _forward(convolution: Convolution, image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    with torch.no_grad():
        return convolution(image, weight, bias)


def _backward(answer: Tensor, wanted: list[Tensor], grad: Tensor) -> None:
    if wanted:
        torch.autograd.grad(answer, wanted, grad)


def _laid_out(flat: Tensor, shape: Shape, last: bool) -> Tensor:
    """Return a view of ``flat`` of this shape, its channels last in memory or not; a leaf of any graph."""
    if not last:
        return flat.view(shape).detach()
    batch, channels, height, width = shape
    return flat.view(batch, height, width, channels).permute(0, 3, 1, 2).detach()
