"""A public U-Net that goes flat, and the same network with a NIB: before, after equipping, and after some training.

    python examples/equip_unet.py docs/equip.png            # about ten minutes on two CPU cores
    python examples/equip_unet.py /tmp/equip.png --steps 50  # to see that it runs

Read it as a notebook: the cells begin with ``# %%``. The network is segmentation_models_pytorch's U-Net, which knows
nothing of nibkit; ``pip install segmentation-models-pytorch``.
"""

# %% A network that someone has already, and what it shall learn: binary dots in place of gray tones
from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

import nibkit
from nibkit.data.builtin import BuiltinData
from nibkit.estimators import binarize, per_pixel
from nibkit.losses import Tone
from nibkit.metrics.suite import HalftoneMetrics
from nibkit.sheet import draw_sheet, save_picture

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("picture", type=Path)
parser.add_argument("--steps", type=int, default=1500, help="of training, before and after equipping")
options = parser.parse_args()

torch.manual_seed(0)
model: nn.Module = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=1)
data = BuiltinData(crop_size=64, batch_size=4, samples_per_epoch=4 * options.steps)
data.prepare()


def batches() -> Iterator[Tensor]:
    """Yield crops of photographs and drawings, ``[4, 1, 64, 64]`` in [-1, 1]."""
    for batch in data.train_dataloader():
        yield batch["image"]


def train(network: nn.Module, name: str) -> None:
    """Train for some minutes: seen from afar, the dots shall have the tone of the image."""
    optimizer = torch.optim.Adam(network.train().parameters(), lr=1e-3)
    tone, start = {"tone": Tone(2.0)}, time.perf_counter()
    for step, gray in enumerate(batches(), start=1):
        optimizer.zero_grad()
        loss = per_pixel(network(gray), gray, tone)["tone"]
        torch.autograd.backward(loss)
        optimizer.step()
        if step % max(1, options.steps // 5) == 0:
            print(f"{name}: step {step}/{options.steps}, loss {loss:.4f}, {time.perf_counter() - start:.0f} s")


# %% It learns: photographs become dots. Constant regions do not
train(model, "as it is")
print(nibkit.flatness(model).verdict)

# %% One line gives it a NIB. It answers the same, bit for bit, because the noise has no weight yet
equipped = nibkit.equip(copy.deepcopy(model))
gray = next(batches())
assert torch.equal(model.eval()(gray), equipped.eval()(gray))
print(nibkit.flatness(equipped).verdict)

# %% The same training again, for both, so that the comparison is fair
train(model, "as it is, trained on")
train(equipped, "with NIB, trained on")
print(nibkit.flatness(equipped).verdict)


# %% What both make of images that they have not seen
def halftone(network: nn.Module, image: Tensor) -> Tensor:
    """Return the binary picture of ``image`` ``[1, 1, H, W]``, whose sides the U-Net wants to be multiples of 32."""
    height, width = image.shape[-2:]
    wide = nn.functional.pad(image, (32, 32 + -width % 32, 32, 32 + -height % 32), mode="replicate")
    with torch.no_grad():
        return binarize(network.eval()(wide))[..., 32 : 32 + height, 32 : 32 + width]


networks = {"as it is": model, "with NIB": equipped}
for name, network in networks.items():
    metrics = HalftoneMetrics()
    for loader in data.test_dataloader()[:3]:  # photographs, drawings, constant grays
        for batch in loader:
            for image, level in zip(batch["image"], batch.get("level", [None] * len(batch["image"])), strict=True):
                target = image[None] if level is None else level
                metrics.update(batch["set"][0], halftone(network, image[None]), target)
    figures = {key: round(float(value), 4) for key, value in metrics.compute().items()}
    print(f"{name}: {figures}")

# %% And to look at
photo = data.test_dataloader()[0].dataset[0]["image"][:, 40:232, 100:356]
comic = data.test_dataloader()[1].dataset[1]["image"][:, 8:200, :256]
grays = torch.cat([torch.full((1, 96, 64), 2 * level - 1) for level in (0.1, 0.3, 0.6, 0.9)], dim=2)
rows = []
for title, image in {"constant grays": grays, "drawing": comic, "photograph": photo}.items():
    parts = image.split(64, dim=2) if title == "constant grays" else [image]  # each gray alone: none sees an edge
    answers = {name: torch.cat([halftone(n, part[None])[0] for part in parts], 2) for name, n in networks.items()}
    rows.append([(title, image), *answers.items()])
save_picture(draw_sheet(rows, "A public U-Net, the same training, without and with nibkit.equip"), options.picture)
print(f"picture: {options.picture}")
