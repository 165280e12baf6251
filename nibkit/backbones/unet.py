"""The U-Net of the paper's analysis (Table 1): receptive field 183x183.

The paper names the receptive field, not the layers. This construction, from the kinds of blocks that
its authors use elsewhere, sees exactly 183x183 pixels at every output phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from nibkit.backbones.base import Backbone
from nibkit.backbones.resnet import ResidualBlock
from nibkit.errors import UserError
from nibkit.registry import register_backbone


@register_backbone("unet")
class UNet(Backbone):
    """Three stride-2 levels, three residual blocks at the bottom, additive skips.

    Its margin is wider than a training crop, and a full extension of each crop would cost fifteen times
    the crop. In training the image is therefore extended by ``train_margin`` only, and the convolutions
    replicate their border, so that a constant crop stays constant all the same.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the answer.
        width: channels at full size; 2x, 4x and 4x below.
        train_margin: extension of training crops, pixels.
        nib: the config group ``nib``.
        padding: ``extend`` or ``zeros``.
    """

    margin = 95  # not 91: the outputs 8k - 4 to 8k + 3 share one view of 183 pixels, which starts at 8k - 95
    multiple = 8

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 32,
        train_margin: int = 16,
        *,
        nib: Mapping[str, Any],
        padding: str = "extend",
    ) -> None:
        super().__init__(in_channels, out_channels, nib, padding)
        if width < 1:
            raise UserError(f"backbone.width={width} must be at least 1")
        if train_margin < 0 or train_margin % self.multiple:
            raise UserError(f"backbone.train_margin={train_margin} must be a multiple of {self.multiple}, 0 or more")
        self.train_margin = train_margin
        w1, w2, w3 = 2 * width, 4 * width, 4 * width
        self.stem = self.make_stem(width, kernel_size=3)
        self.enter = nn.Sequential(nn.ReLU(inplace=True), *self._convs(width, width, 1))
        self.down1 = self._down(width, w1)
        self.down2 = self._down(w1, w2)
        self.down3 = self._down(w2, w3, convs=0)
        self.bottom = nn.Sequential(*(ResidualBlock(w3, self.conv_padding(3)) for _ in range(3)))
        self.up3 = nn.Sequential(*self._convs(w3, w2, 4))
        self.up2 = nn.Sequential(*self._convs(w2, w1, 4))
        self.up1 = nn.Sequential(*self._convs(w1, width, 4))
        self.tail = nn.Conv2d(width, out_channels, 1)

    def _convs(self, first: int, width: int, count: int) -> list[nn.Module]:
        """Return ``count`` 3x3 convolutions with ReLU; the first changes the width."""
        layers: list[nn.Module] = []
        for index in range(count):
            layers += [nn.Conv2d(first if index == 0 else width, width, 3, **self.conv_padding(3))]
            layers += [nn.ReLU(inplace=True)]
        return layers

    def _down(self, first: int, width: int, convs: int = 1) -> nn.Sequential:
        """Return a stride-2 3x3 convolution and ``convs`` more."""
        stride = nn.Conv2d(first, width, 3, stride=2, **self.conv_padding(3))
        return nn.Sequential(stride, nn.ReLU(inplace=True), *self._convs(width, width, convs))

    def extension(self) -> int:
        """Return the full margin, or the cheaper one of a training crop."""
        return self.train_margin if self.training else super().extension()

    def body(self, image: Tensor, origin: Tensor) -> Tensor:
        """Map the extended image to an answer of the same size."""
        x0 = self.enter(self.stem(image, origin))
        x1 = self.down1(x0)
        x2 = self.down2(x1)
        x = self.bottom(self.down3(x2))
        x = self.up3(_twice(x)) + x2
        x = self.up2(_twice(x)) + x1
        x = self.up1(_twice(x)) + x0
        answer: Tensor = self.tail(x)
        return answer


def _twice(x: Tensor) -> Tensor:
    """Return ``x`` at twice the size, nearest neighbour."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
