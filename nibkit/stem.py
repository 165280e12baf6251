"""Finding the convolution through which a network reads its image, in any network of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nibkit.errors import UserError, suggestion
from nibkit.nib import NIB

SIZE = 64  # side of the image that a network is tried on, pixels
Example = Tensor | Sequence[Any] | Mapping[str, Any]  # an image, or all arguments of the network's call


def find_stem(model: nn.Module, example: Example | None = None) -> str:
    """Return the name of the convolution that the image reaches first.

    The network is called once, in evaluation mode and with its random state kept. A convolution reads the image if what
    it is given depends on the image and on no other convolution.

    Args:
        model: the network.
        example: what it is called with; by default an image ``[1, C, 64, 64]``, C as its first convolution takes.

    Raises:
        UserError: it has no convolution, cannot be called so, or several convolutions read the image.
    """
    convolutions = named_convolutions(model)
    readers = _readers(model, convolutions, any_image(model, SIZE) if example is None else example)
    if not readers:
        raise UserError(
            "no convolution of this network was seen to read the image; name the one that does: layer=... "
            f"({described(convolutions)})"
        )
    if len(readers) > 1:
        raise UserError(
            f"{len(readers)} convolutions of this network read the image; choose by layer=... (several: equip them one "
            f"by one): {described({name: convolutions[name] for name in readers})}"
        )
    return readers[0]


def named_convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the convolutions over images by name, in the order they are defined.

    Raises:
        UserError: there is none.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"a torch network (nn.Module) is needed, not {type(model).__name__}")
    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
    if not found:
        kinds = sorted({type(layer).__name__ for layer in model.modules() if not list(layer.children())})
        raise UserError(
            f"no convolution over images (nn.Conv2d) in this network, which is made of {', '.join(kinds[:6])}; a NIB "
            "stands in the place of one"
        )
    return found


def any_image(model: nn.Module, size: int) -> Tensor:
    """Return an image ``[1, C, size, size]`` in [0, 1] that the network can probably take."""
    first = next(iter(named_convolutions(model).values()))
    nib = next((layer for layer in model.modules() if isinstance(layer, NIB)), first)  # its convolution reads more
    return torch.rand(1, nib.in_channels, size, size, generator=torch.Generator().manual_seed(0)).to(first.weight)


def get_stem(model: nn.Module, layer: str) -> nn.Conv2d:
    """Return the convolution called ``layer``, or raise with the choices."""
    convolutions = named_convolutions(model)
    if layer in convolutions:
        return convolutions[layer]
    there = dict(model.named_modules()).get(layer)
    if there is not None:
        raise UserError(f"layer='{layer}' is a {type(there).__name__}, no nn.Conv2d; {described(convolutions)}")
    raise UserError(
        f"this network has no layer '{layer}'{suggestion(layer, convolutions)}; its convolutions: "
        f"{described(convolutions)}"
    )


def described(convolutions: Mapping[str, nn.Conv2d], most: int = 8) -> str:
    """Return the names of convolutions with their channels and kernels, the first few."""
    parts = [
        f"'{name}' ({layer.in_channels} -> {layer.out_channels}, {'x'.join(map(str, layer.kernel_size))})"
        for name, layer in list(convolutions.items())[:most]
    ]
    return ", ".join(parts) + (f" and {len(convolutions) - most} more" if len(convolutions) > most else "")


def call(model: nn.Module, example: Example) -> Any:
    """Call a network with an image, or with all its arguments."""
    if isinstance(example, Tensor):
        return model(example)
    return model(**example) if isinstance(example, Mapping) else model(*example)


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for a while; each layer's mode and the random state come back."""
    modes = {layer: layer.training for layer in model.modules()}
    with torch.random.fork_rng():
        model.eval()
        try:
            yield
        finally:
            for layer, mode in modes.items():
                layer.training = mode


@contextmanager
def _constants(model: nn.Module) -> Iterator[None]:
    """Let no weight of a network ask for a gradient for a while."""
    asking = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in asking:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in asking:
            weight.requires_grad_(True)


def _readers(model: nn.Module, convolutions: Mapping[str, nn.Conv2d], example: Example) -> list[str]:
    """Return the convolutions that the image reaches before any other, in the order of their calls.

    The image asks for a gradient and no convolution hands it on, so that only what they are given by the image itself,
    whatever was done to it, asks for one.
    """
    readers: list[str] = []
    names = {layer: name for name, layer in convolutions.items()}

    def note(layer: nn.Module, arguments: tuple[Any, ...], answer: Tensor) -> Tensor:
        name = names[layer]  # type: ignore[index]
        if arguments[0].requires_grad and name not in readers:
            readers.append(name)
        return answer.detach()

    with ExitStack() as stack:
        stack.enter_context(at_rest(model))
        stack.enter_context(_constants(model))
        stack.enter_context(torch.enable_grad())
        for layer in names:
            stack.callback(layer.register_forward_hook(note).remove)
        try:
            call(model, _asking(example))
        except Exception as error:  # whatever a network that is not ours raises
            if readers:  # the image has been read; what fails beyond is no matter
                return readers
            raise UserError(
                f"this network could not be tried ({type(error).__name__}: {' '.join(str(error).split())[:200]}); give "
                "example=..., an image or all arguments of a call, or name the convolution that reads the image: "
                f"layer=... ({described(convolutions)})"
            ) from error
    return readers


def _asking(example: Example) -> Example:
    """Return the example with its first image asking for a gradient."""
    if isinstance(example, Tensor):
        return example.detach().clone().requires_grad_()
    if isinstance(example, Mapping):
        first = next((key for key, value in example.items() if _is_image(value)), None)
        return {key: _asking(value) if key == first else value for key, value in example.items()}
    place = next((i for i, value in enumerate(example) if _is_image(value)), None)
    return [_asking(value) if i == place else value for i, value in enumerate(example)]


def _is_image(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 4 and value.is_floating_point()
