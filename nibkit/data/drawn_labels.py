"""The embedded labelled data: scenes drawn by rule with their label maps; nothing to download.

A scene is sky over a ground with hills, a path, water, houses, a fence and trees. Its label map is drawn first; its
photograph is every class's region filled with the class's texture, and light over all.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from nibkit.data.drawn_textures import (
    Colour,
    Pattern,
    clouds,
    coloured,
    leaves,
    noise,
    photographed,
    planks,
    ripples,
    tiles,
)
from nibkit.data.images import Pixels
from nibkit.data.labelled import LabelledData, instance_edges
from nibkit.data.scenes import Bytes, LazyScene, RawScene
from nibkit.errors import UserError

SIDE = 256  # of the drawn scenes, pixels
SEEDS = {"train": range(200), "val": range(1000, 1016), "test": range(2000, 2032)}
VOID_SCENES = 0.3  # share of the scenes whose borders between regions are void
SKY, GRASS, GRAVEL, BRICK, ROOF, WOOD, WATER, FOLIAGE, VOID = range(9)
# by class: its pattern, the colours of its darkest and lightest places
TEXTURES: dict[int, tuple[Pattern, Colour, Colour]] = {
    SKY: (clouds, (0.28, 0.5, 0.82), (0.93, 0.95, 0.98)),
    GRASS: (photographed("grass"), (0.08, 0.2, 0.02), (0.62, 0.78, 0.36)),
    GRAVEL: (photographed("gravel"), (0.22, 0.19, 0.16), (0.85, 0.8, 0.72)),
    BRICK: (photographed("brick"), (0.25, 0.08, 0.05), (0.88, 0.56, 0.45)),
    ROOF: (tiles, (0.16, 0.14, 0.18), (0.62, 0.55, 0.6)),
    WOOD: (planks, (0.2, 0.11, 0.05), (0.82, 0.62, 0.4)),
    WATER: (ripples, (0.03, 0.14, 0.28), (0.55, 0.76, 0.84)),
    FOLIAGE: (leaves, (0.02, 0.09, 0.05), (0.4, 0.58, 0.16)),
}


class DrawnScenes(LabelledData):
    """Drawn scenes; arguments as of :class:`LabelledData`, of which the classes and void are fixed.

    Raises:
        UserError: classes, void or edges that drawn scenes do not have.
    """

    def __init__(
        self, num_classes: int | None = VOID, void_id: int | None = VOID, edges: bool = False, **options: Any
    ) -> None:
        for key, value, own in (
            ("num_classes", num_classes, VOID),
            ("void_id", void_id, VOID),
            ("edges", edges, False),
        ):
            if value != own:
                raise UserError(
                    f"data.{key}={value} is not possible with the drawn scenes of data=builtin, which have "
                    f"data.{key}={own}; leave it away, or choose other data"
                )
        super().__init__(num_classes, void_id, edges, **options)

    def find(self) -> dict[str, list[LazyScene]]:
        """Name the scenes; each is drawn when first asked for."""
        return {
            split: [(f"scene {seed}", partial(draw_scene, seed, split)) for seed in seeds]
            for split, seeds in SEEDS.items()
        }


def draw_scene(seed: int, split: str) -> RawScene:
    """Return a scene of 256x256 pixels, the same for the same seed and split."""
    rng = np.random.default_rng([seed, 0x5C])
    ids = draw_labels(rng)
    photo = _fill(ids, rng, split)
    if rng.random() < VOID_SCENES:
        ids = np.where(instance_edges(ids) > 0, VOID, ids).astype(np.uint8)
    return RawScene(np.rint(photo * 255).astype(np.uint8), ids)


def draw_labels(rng: np.random.Generator) -> Bytes:
    """Return a label map ``[256, 256]``, from what is far to what is near."""
    page = Image.new("L", (SIDE, SIDE), SKY)
    draw = ImageDraw.Draw(page)
    horizon = int(rng.integers(90, 150))
    ground, path = (GRASS, GRAVEL) if rng.random() < 0.7 else (GRAVEL, GRASS)
    if rng.random() < 0.7:
        _hills(draw, rng, horizon)
    draw.rectangle((0, horizon, SIDE, SIDE), fill=ground)
    if rng.random() < 0.6:
        _path(draw, rng, horizon, path)
    if rng.random() < 0.6:
        _lake(draw, rng, horizon)
    for _ in range(rng.integers(0, 3)):
        _house(draw, rng, horizon)
    if rng.random() < 0.4:
        _fence(draw, rng, horizon)
    for _ in range(rng.integers(0, 4)):
        _tree(draw, rng, horizon)
    return np.asarray(page)


def _hills(draw: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int) -> None:
    x = np.arange(SIDE)
    waves = np.sin(2 * np.pi * (np.outer(rng.uniform(0.5, 3, 3) / SIDE, x) + rng.random((3, 1)))).mean(axis=0)
    top = horizon - rng.uniform(20, 50) * (1 + 0.8 * waves)
    draw.polygon([*zip(x.tolist(), top.tolist(), strict=True), (SIDE, horizon), (0, horizon)], fill=FOLIAGE)


def _path(draw: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int, kind: int) -> None:
    """Draw a path that widens from the horizon to the viewer."""
    far, near, width = rng.uniform(40, 216), rng.uniform(20, 236), rng.uniform(30, 90)
    draw.polygon([(far - 4, horizon), (far + 4, horizon), (near + width, SIDE), (near - width, SIDE)], fill=kind)


def _lake(draw: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int) -> None:
    width, height = rng.uniform(70, 220), rng.uniform(25, 80)
    left, top = rng.uniform(-width / 3, SIDE - width * 2 / 3), rng.uniform(horizon, SIDE - height * 0.7)
    draw.ellipse((left, top, left + width, top + height), fill=WATER)


def _house(draw: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int) -> None:
    """Draw walls of brick or boards, a roof, and in bricks a door."""
    width, height = rng.uniform(55, 120), rng.uniform(40, 75)
    left, bottom = rng.uniform(-20, SIDE - width + 20), horizon + rng.uniform(8, 45)
    right, top = left + width, bottom - height
    wall = BRICK if rng.random() < 0.75 else WOOD
    draw.rectangle((left, top, right, bottom), fill=wall)
    inset, rise = rng.uniform(0.1, 0.5) * width, rng.uniform(20, 45)
    draw.polygon(
        [(left - 6, top), (left + inset, top - rise), (right - inset, top - rise), (right + 6, top)], fill=ROOF
    )
    if wall == BRICK:
        door = rng.uniform(left + 8, right - 28)
        draw.rectangle((door, bottom - 0.6 * height, door + 18, bottom), fill=WOOD)


def _fence(draw: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int) -> None:
    left, width = rng.uniform(-60, 160), rng.uniform(90, 200)
    bottom = horizon + rng.uniform(30, 70)
    draw.rectangle((left, bottom - rng.uniform(18, 30), left + width, bottom), fill=WOOD)


def _tree(draw: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int) -> None:
    x, bottom, height = rng.uniform(0, SIDE), horizon + rng.uniform(10, 90), rng.uniform(50, 110)
    draw.rectangle((x - height / 16, bottom - height / 2, x + height / 16, bottom), fill=WOOD)
    for _ in range(7):
        cx, cy = x + rng.uniform(-0.25, 0.25) * height, bottom - height * rng.uniform(0.55, 0.95)
        radius = height * rng.uniform(0.14, 0.26)
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=FOLIAGE)


def _fill(ids: Bytes, rng: np.random.Generator, split: str) -> Pixels:
    """Return the photograph of a label map, ``[H, W, 3]`` in [0, 1]."""
    photo = np.zeros((*ids.shape, 3), dtype=np.float32)
    for number in np.unique(ids):
        rows, columns = np.nonzero(ids == number)
        box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
        inside = ids[box] == number
        height, width = inside.shape
        pattern, dark, light = TEXTURES[int(number)]
        photo[box][inside] = coloured(pattern(rng, height, width, split), dark, light, rng)[inside]
    light_falls = 1 + 0.1 * np.clip(noise(rng, SIDE, SIDE, 2), -2, 2) * (ids != SKY)
    lit: Pixels = np.clip(photo * light_falls[..., None], 0, 1).astype(np.float32)
    return lit
