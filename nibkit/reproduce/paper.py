"""The paper's own figures: Xia et al., Enhance Convolutional Neural Networks with Noise Incentive Block."""

from __future__ import annotations

from typing import NamedTuple


class Figures(NamedTuple):
    """A row of Table 4."""

    psnr: float  # dB; the width of its filter is not said
    ssim: float


SET = "Structure (Pang et al. 2008)"

# the paper's row, by the name of ours
TABLE4 = {
    "ostromoukhov": Figures(39.935, 0.2425),
    "pang": Figures(34.987, 0.3032),
    "without_blue_noise": Figures(37.392, 0.2728),
    "dithering": Figures(36.434, 0.3078),
}
