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


class Up(nn.Module):
    """Twice the size, a 3x3 convolution, the skip added, and a residual of three more.

    The skip joins before the convolutions: after them, what the NIB brings at full size would reach the answer
    through a single layer, and no halftone comes of that.

    Args:
        first: channels of the features that come from below.
        width: channels of the skip and of the answer.
        padding: arguments of the convolutions.
    """

    def __init__(self, first: int, width: int, padding: Mapping[str, Any]) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(first, width, 3, **padding), nn.ReLU(inplace=True))
        inner = [layer for _ in range(2) for layer in (nn.Conv2d(width, width, 3, **padding), nn.ReLU(inplace=True))]
        self.residual = nn.Sequential(*inner, nn.Conv2d(width, width, 3, **padding))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Join features ``[B, first, H, W]`` with the skip ``[B, width, 2 H, 2 W]``, of whose shape the answer is."""
        joined: Tensor = self.enter(F.interpolate(x, scale_factor=2.0, mode="nearest")) + skip
        answer: Tensor = joined + self.residual(joined)
        return answer


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
        self.up3 = Up(w3, w2, self.conv_padding(3))
        self.up2 = Up(w2, w1, self.conv_padding(3))
        self.up1 = Up(w1, width, self.conv_padding(3))
        self.tail = nn.Conv2d(width, out_channels, 1)
        self.apply(_keep_variance)

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
        x = self.up3(x, x2)
        x = self.up2(x, x1)
        x = self.up1(x, x0)
        answer: Tensor = self.tail(x)
        return answer


def _keep_variance(module: nn.Module) -> None:
    """Initialise a convolution so that features keep their variance (He et al. 2015); without it deep ones vanish."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
