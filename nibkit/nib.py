"""The noise incentive block (NIB): the first convolution of a network that must not go flat.

A CNN answers a constant region with a constant. The NIB breaks the constant input with a noise map and
keeps the information of the image I in full. The paper's three forms are

    symmetric   f1(I + N) + f2(I - N)
    impulse     f1(I * B) + f2(I * (1 - B)),   I mapped to [0, 1]
    feature     f1(I) + f2(N)

A sum of two convolutions is one convolution over the concatenated inputs, so each form here is a
single fused convolution. The form ``additive``, f(I + N), is no NIB but the control that shows why
the noise must be added and subtracted: what it takes from the image is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nibkit.errors import UserError, choose
from nibkit.noise import Bernoulli, BlueNoise, Distribution, Dynamic, Grid, Noise, Normal, Stationary, Uniform

Form = Callable[[Tensor, Tensor], Tensor]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


def symmetric(image: Tensor, noise: Tensor) -> Tensor:
    """Return I + N and I - N, ``[B, 2C, H, W]``.

    Examples:
        Half of their sum is the image again:

        >>> image, noise = torch.full((1, 1, 1, 2), 0.5), torch.tensor([[[[0.25, -0.25]]]])
        >>> planes = symmetric(image, noise)
        >>> planes[0, 0].tolist(), planes[0, 1].tolist()
        ([[0.75, 0.25]], [[0.25, 0.75]])
        >>> planes.mean(dim=1).tolist()
        [[[0.5, 0.5]]]
    """
    return torch.cat((image + noise, image - noise), dim=1)


def impulse(image: Tensor, mask: Tensor) -> Tensor:
    """Return I * B and I * (1 - B) for I in [0, 1], ``[B, 2C, H, W]``.

    On [-1, 1] mid-gray is 0 and a product with it stays flat, hence the change of range.

    Examples:
        >>> impulse(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])).tolist()
        [[[[0.5, 0.0]], [[0.0, 0.5]]]]
    """
    positive = (image + 1) / 2
    kept = positive * mask
    return torch.cat((kept, positive - kept), dim=1)


def feature(image: Tensor, noise: Tensor) -> Tensor:
    """Return I and N side by side, ``[B, C + noise channels, H, W]``; suited to one-hot input."""
    return torch.cat((image, noise), dim=1)


def additive(image: Tensor, noise: Tensor) -> Tensor:
    """Return I + N, ``[B, C, H, W]``: a control, which cannot give the image back."""
    return image + noise


FORMS: dict[str, Form] = {"symmetric": symmetric, "impulse": impulse, "feature": feature, "additive": additive}


class NIB(nn.Module):
    """The noise incentive block in place of a network's first convolution.

    Args:
        in_channels: channels C of the image.
        out_channels: channels of the features.
        kernel_size: as of the convolution it replaces.
        stride: likewise.
        padding: likewise; ``padding_mode`` too.
        padding_mode: as in :class:`torch.nn.Conv2d`.
        bias: likewise.
        form: ``symmetric``, ``impulse``, ``feature``, or ``additive`` as a control.
        noise: the noise field.
        noise_channels: C (default) or 1, one map for all channels; any number for ``feature``.
        start: ``random``, or ``quiet``: the noise begins with a weight of 0; see :meth:`begin`.

    Raises:
        UserError: unknown form or start, or a number of noise channels that the form cannot take.

    Examples:
        >>> gray = torch.zeros(1, 1, 8, 8)  # constant
        >>> bool(nn.Conv2d(1, 4, 1)(gray).std(dim=(2, 3)).max() == 0)
        True
        >>> bool(NIB(1, 4)(gray).std(dim=(2, 3)).min() > 0)
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        padding: int = 0,
        padding_mode: PaddingMode = "zeros",
        bias: bool = True,
        *,
        form: str = "symmetric",
        noise: Noise | None = None,
        noise_channels: int | None = None,
        start: str = "random",
    ) -> None:
        super().__init__()
        self.start = choose("nib.start", start, ("random", "quiet"))
        if start == "quiet" and form not in ("symmetric", "feature"):
            raise UserError(
                f"nib.start=quiet cannot be had with nib.form={form}; use symmetric or feature, or start=random"
            )
        self.form = FORMS[choose("nib.form", form, FORMS)]
        self.in_channels = in_channels
        self.noise = noise or Stationary(Normal())
        self.noise_channels = in_channels if noise_channels is None else noise_channels
        if self.noise_channels < 1 or (form != "feature" and self.noise_channels not in (1, in_channels)):
            raise UserError(
                f"nib.channels={noise_channels} does not fit form '{form}' of an image with {in_channels} channels; "
                f"use {' or '.join(sorted({'1', str(in_channels)}))}, or nib.form=feature with any number above 0"
            )
        planes = in_channels + {"feature": self.noise_channels, "additive": 0}.get(form, in_channels)
        settings: dict[str, Any] = {"padding_mode": padding_mode, "bias": bias}
        self.conv = nn.Conv2d(planes, out_channels, kernel_size, stride, padding, **settings)

    def forward(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return non-flat features of ``image``.

        Args:
            image: ``[B, C, H, W]`` in [-1, 1] (any finite values for ``feature``).
            origin: absolute (y, x) of each image's top left pixel in the noise field, ``[B, 2]``;
                (0, 0) by default. A tile passes its own place, so that it equals the crop of the whole.
        """
        features: Tensor = self.conv(self.planes(image, origin))
        return features

    def planes(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return what the convolution reads, image and noise by the form; arguments as of :meth:`forward`."""
        batch, _, height, width = image.shape
        if origin is None:
            origin = torch.zeros(batch, 2, dtype=torch.int64, device=image.device)
        return self.form(image, self.noise(batch, self.noise_channels, height, width, origin).to(image.dtype))

    @torch.no_grad()
    def begin(self) -> None:
        """Set the first weights of the noise, once a network has initialised its convolutions.

        ``quiet`` makes f1 = f2, or f2 = 0 for ``feature``: the network starts as its standard twin, and the weight of
        the noise still has a gradient. The mean of two equally distributed filters keeps the image's variance.
        """
        if self.start != "quiet":
            return
        weight, channels = self.conv.weight, self.in_channels
        if self.form is feature:
            weight[:, channels:] = 0
            return
        weight[:, :channels] = weight[:, channels:] = (weight[:, :channels] + weight[:, channels:]) / 2


class PlainStem(nn.Conv2d):
    """An ordinary first convolution with the NIB's signature: ``nib=none``."""

    def forward(self, image: Tensor, origin: Tensor | None = None) -> Tensor:
        """Return ordinary features of ``image``; ``origin`` has no meaning here."""
        return super().forward(image)


def make_noise(noise: str, distribution: str, scale: float, seed: int) -> Noise:
    """Make a noise field from plain values, as configs hold them.

    Args:
        noise: ``stationary``, ``dynamic``, ``blue`` or ``grid``.
        distribution: ``normal``, ``uniform`` or ``bernoulli``; no matter for ``grid``.
        scale: standard deviation, bound or probability of a 1; amplitude of the grid.
        seed: of the stationary field, or of where the blue mask begins.
    """
    if not 0 < scale < float("inf") or (distribution == "bernoulli" and scale >= 1):
        raise UserError(f"nib.scale={scale} is out of range; use a number above 0 (and below 1 for bernoulli)")
    distributions: dict[str, Callable[[float], Distribution]] = {
        "normal": Normal,
        "uniform": Uniform,
        "bernoulli": Bernoulli,
    }
    drawn = distributions[choose("nib.distribution", distribution, distributions)](scale)
    noises: dict[str, Callable[[], Noise]] = {
        "stationary": lambda: Stationary(drawn, seed),
        "dynamic": lambda: Dynamic(drawn),
        "blue": lambda: BlueNoise(drawn, seed),
        "grid": lambda: Grid(scale),
    }
    return noises[choose("nib.noise", noise, noises)]()


def make_stem(
    in_channels: int, out_channels: int, kernel_size: int, nib: Mapping[str, Any], **conv: Any
) -> NIB | PlainStem:
    """Make a network's first layer: the one way in for the NIB, for every backbone.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the features.
        kernel_size: of the convolution.
        nib: ``form`` (``none`` for an ordinary convolution) and, for a form, any of ``noise``, ``distribution``,
            ``scale``, ``seed``, ``channels`` and ``start``: the config group ``nib``.
        conv: further arguments of the convolution (stride, padding, padding_mode, bias).
    """
    spec: dict[str, Any] = {
        "form": "symmetric", "noise": "stationary", "distribution": "normal", "scale": 0.3, "seed": 0, "channels": None,
        "start": "random",
    }  # fmt: skip
    for key in nib:
        choose("key of nib", key, spec)
    spec.update(nib)
    if spec["form"] == "none":
        return PlainStem(in_channels, out_channels, kernel_size, **conv)
    choose("nib.form", spec["form"], [*FORMS, "none"])
    if spec["form"] == "impulse" and (spec["distribution"] != "bernoulli" or spec["noise"] == "grid"):
        raise UserError("nib.form=impulse masks the image: use nib.distribution=bernoulli, not a grid")
    noise = make_noise(spec["noise"], spec["distribution"], spec["scale"], spec["seed"])
    return NIB(
        in_channels,
        out_channels,
        kernel_size,
        form=spec["form"],
        noise=noise,
        noise_channels=spec["channels"],
        start=spec["start"],
        **conv,
    )
