"""What the tabs of the page share: errors in one sentence, folders for answers, settings, blow-ups."""

from __future__ import annotations

import html
import logging
import shutil
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from PIL import Image

from nibkit.demo.compute import Settings, blow_up
from nibkit.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

FIRST_PLACE = (0.2, 0.2)  # of a blow-up, shares of width and height
KEPT = 50  # answers; the oldest goes when another comes
UNEXPECTED = "Something went wrong; the terminal in which nibkit demo runs says more."
REFINED = "Moves finished dots towards the gray, without a network. It makes dots even where the network made none."
GONE = "there is no picture to enlarge yet, or it is gone; run again"
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "network", "show_progress": "minimal"}

logger = logging.getLogger(__name__)


def guarded(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function of the page that shows a :class:`UserError` as its sentence, and anything else as a plain one.

    What was not foreseen goes with its traceback to the terminal, never to the page.
    """

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except UserError as error:  # a name of a file may hold anything
            message = html.escape(str(error), quote=False)
        except Exception:
            logger.exception("the page could not answer")
            message = UNEXPECTED
        raise gr.Error(message, duration=None, print_exception=False)

    return wrapped


def new_folder(root: Path) -> Path:
    """Make a folder for the files of an answer, and remove those of all but the latest answers."""
    answers = root / "answers"
    answers.mkdir(exist_ok=True)
    old = sorted(answers.iterdir(), key=lambda path: path.stat().st_mtime)[: -KEPT + 1]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return Path(mkdtemp(dir=answers))


def picture(label: str, name: str, height: int | None = 560) -> gr.Image:
    """Return an output picture, shown as its file is, never enlarged but in full screen; ``name`` is its id."""
    return gr.Image(
        label=label, elem_id=name, elem_classes="shown", height=height, type="filepath", format="png",
        interactive=False, buttons=["download", "fullscreen"],
    )  # fmt: skip


class Controls:
    """The weights and how the noise and the refinement are set; ids begin with ``name``."""

    def __init__(self, weights: Sequence[str], name: str) -> None:
        self.weights = gr.Dropdown(list(weights), value=weights[0], label="Trained weights")
        self.strength = gr.Slider(
            0,
            3,
            value=1,
            step=0.1,
            label="Noise strength",
            info="1: as trained; 0: switched off",
            elem_id=f"{name}-strength",
        )
        self.seed = gr.Number(0, label="Noise seed", info="another pattern of dots", precision=0, minimum=0,
                              maximum=2**32 - 1, elem_id=f"{name}-seed")  # fmt: skip
        self.refine = gr.Checkbox(False, label="Refine both halftones", info=REFINED, elem_id=f"{name}-refine")
        self.sweeps = gr.Slider(1, 12, value=5, step=1, label="Sweeps of refinement", visible=False)
        self.refine.change(lambda on: gr.Slider(visible=on), self.refine, self.sweeps, show_progress="hidden")

    @property
    def inputs(self) -> list[Any]:
        """Return the components whose values :func:`settings` takes."""
        return [self.weights, self.strength, self.seed, self.refine, self.sweeps]


def settings(weights: str, strength: float, seed: float | None, refine: bool, sweeps: float) -> Settings:
    """Return what the controls say; an emptied seed is 0."""
    return Settings(weights, int(seed or 0), float(strength), int(sweeps) if refine else 0)


class BlowUps:
    """Enlarged regions of pictures of one size, at the place that was clicked in any of them.

    Args:
        shown: the pictures that can be clicked.
        labels: of the regions, one for each file.
        name: ids begin with it.
    """

    def __init__(self, shown: Sequence[gr.Image], labels: Sequence[str], name: str) -> None:
        self.files, self.place = gr.State(()), gr.State(FIRST_PLACE)
        with gr.Row(equal_height=True):
            gr.Markdown("**Blow-up**: click into a picture above to choose the place. Its side in pixels:")
            self.side = gr.Radio([32, 64, 128], value=64, show_label=False, container=False, min_width=240,
                                 scale=0, elem_id=f"{name}-side")  # fmt: skip
        with gr.Row():
            self.views = [
                gr.Image(label=label, elem_id=f"{name}-{i}", elem_classes=["shown", "pixels"], height=400, format="png",
                         interactive=False, buttons=["fullscreen"]) for i, label in enumerate(labels)
            ]  # fmt: skip
        for image in shown:
            image.select(self.move, self.files, self.place, show_progress="hidden").success(**self.refresh)
        self.side.input(**self.refresh)

    @property
    def refresh(self) -> dict[str, Any]:
        """Return the arguments of an event that draws the regions anew."""
        inputs = [self.files, self.place, self.side]
        return {"fn": self.draw, "inputs": inputs, "outputs": self.views, "show_progress": "hidden"}

    @staticmethod
    @guarded
    def move(files: Sequence[Path], event: gr.SelectData) -> tuple[float, float]:
        """Return the clicked place as shares of width and height."""
        _check_there(files)
        with Image.open(files[0]) as file:
            width, height = file.size
        x, y = event.index
        return (x + 0.5) / width, (y + 0.5) / height

    @staticmethod
    @guarded
    def draw(files: Sequence[Path], place: tuple[float, float], side: int) -> list[Any]:
        """Return the regions."""
        _check_there(files)
        return [blow_up(file, place, side) for file in files]


def _check_there(files: Sequence[Path]) -> None:
    if not files or not all(file.exists() for file in files):
        raise UserError(GONE)
